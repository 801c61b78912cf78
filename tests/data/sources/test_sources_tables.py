"""Folders and tables become a list of images, or one message that names the location and the remedy."""

import datetime
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from components.data.files.folders import LEADS_OUT
from components.data.sources import IngestSettings, Source, find
from components.shared.errors import DataError, SettingsError


def picture(path: Path, level: int = 100) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", (9, 9), level).save(path)
    return path


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Four pictures beside which a table can stand."""
    for number, name in enumerate(("a.png", "b.png", "sub/c.png", "sub/d.png")):
        picture(tmp_path / "set" / name, number)
    return tmp_path / "set"


def csv(root: Path, text: str) -> str:
    (root / "table.csv").write_text(text)
    return str(root / "table.csv")


def jsonl(root: Path, *rows: dict[str, Any]) -> str:
    (root / "table.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(root / "table.jsonl")


def parquet(root: Path, **columns: Any) -> str:
    pq.write_table(pa.table(columns), root / "table.parquet")
    return str(root / "table.parquet")


def labels(source: Source) -> dict[str, tuple[str, ...]]:
    return {image.path: image.labels for image in source.images}


def test_a_folder_a_class(tmp_path: Path) -> None:
    for name in ("cat/1.png", "cat/deep/2.png", "dog/3.png"):
        picture(tmp_path / name)
    (tmp_path / "LICENSE").write_text("free")
    (tmp_path / ".hidden").mkdir()
    picture(tmp_path / ".hidden" / "4.png")
    source = find(str(tmp_path))
    assert labels(source) == {"cat/1.png": ("cat",), "cat/deep/2.png": ("cat",), "dog/3.png": ("dog",)}
    assert list(source.left_out) == ["LICENSE"]
    assert {image.given_split for image in source.images} == {None}
    assert source.images[0].read() == (tmp_path / "cat" / "1.png").read_bytes()


def test_folders_that_are_splits(tmp_path: Path) -> None:
    for name in ("Train/cat/1.png", "valid/dog/2.png", "test/cat/3.png"):
        picture(tmp_path / name)
    found = {image.path: (image.labels, image.given_split) for image in find(str(tmp_path)).images}
    assert found == {
        "Train/cat/1.png": (("cat",), "train"),
        "valid/dog/2.png": (("dog",), "val"),
        "test/cat/3.png": (("cat",), "test"),
    }


def test_a_class_that_is_called_like_a_split_is_a_class(tmp_path: Path) -> None:
    picture(tmp_path / "test" / "1.png")
    picture(tmp_path / "toast" / "2.png")
    assert labels(find(str(tmp_path))) == {"test/1.png": ("test",), "toast/2.png": ("toast",)}


def test_a_file_that_can_not_be_ingested_carries_the_reason(tmp_path: Path) -> None:
    root = tmp_path / "set"
    for name in ("cat/1.png", "dog/2.png"):
        picture(root / name)
    picture(tmp_path / "outside" / "3.png")
    (root / "cat" / "out.png").symlink_to(tmp_path / "outside" / "3.png")
    (root / "cat" / "folder").symlink_to(tmp_path / "outside")
    (root / "cat" / "nowhere.png").symlink_to(root / "cat" / "gone.png")
    (root / "cat" / "same.png").symlink_to(root / "cat" / "1.png")
    (root / "cat" / "notes.txt").write_text("a note")
    source = find(str(root))
    assert source.left_out == {"cat/notes.txt": "no image by the name"}
    assert {image.path: image.problem for image in source.images} == {
        "cat/1.png": None,
        "cat/same.png": None,
        "dog/2.png": None,
        "cat/out.png": LEADS_OUT,
        "cat/folder": LEADS_OUT,
        "cat/nowhere.png": "a link that leads nowhere",
    }


def test_a_path_through_a_linked_folder_does_not_lead_out(root: Path, tmp_path: Path) -> None:
    picture(tmp_path / "outside" / "x.png")
    (root / "door").symlink_to(tmp_path / "outside")
    source = find(csv(root, "path,label\na.png,x\nb.png,y\ndoor/x.png,x\nsub/none.png,x\n"))
    problems = {image.path: image.problem for image in source.images}
    assert problems["door/x.png"] == LEADS_OUT
    assert problems["sub/none.png"] == "the file is missing"
    assert problems["a.png"] is None


def test_csv_columns(root: Path) -> None:
    source = find(
        csv(
            root,
            "\ufeffpath,label,group,timestamp,split,weight,note\n"
            "b.png,007,g1,2026-01-02T03:04:05+02:00,Validation,0.5,x\n"
            './a.png,"two, words",,2026-01-02,,,y\n',
        )
    )
    first, second = source.images
    assert (first.path, first.labels, first.group, first.given_split, first.weight) == (
        "a.png",
        ("two, words",),
        None,
        None,
        None,
    )
    assert first.timestamp == "2026-01-02T00:00:00+00:00"
    assert (second.labels, second.group, second.given_split, second.weight) == (("007",), "g1", "val", 0.5)
    assert second.timestamp == "2026-01-02T01:04:05+00:00"
    assert (first.further, second.further) == ('{"note": "y"}', '{"note": "x"}')


def test_other_columns_are_kept_unless_their_texts_are_long(root: Path) -> None:
    rows = [
        {"path": "a.png", "kind": "x", "camera": "phone", "iso": 100, "wet": True, "tags": ["p"], "caption": "w" * 101},
        {"path": "b.png", "kind": "y", "camera": None},
    ]
    (root / "table.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    first, second = find(str(root / "table.jsonl"), IngestSettings(label_columns=["kind"])).images
    assert json.loads(str(first.further)) == {"camera": "phone", "iso": 100, "wet": "true"}
    assert second.further is None


def test_numbers_are_names_in_every_type_of_table(root: Path) -> None:
    expected = {"a.png": ("7",), "b.png": ("8",)}
    assert labels(find(csv(root, "path,label\na.png,7\nb.png,8\n"))) == expected
    assert labels(find(jsonl(root, {"path": "a.png", "label": 7}, {"path": "b.png", "label": 8.0}))) == expected
    assert labels(find(parquet(root, path=["a.png", "b.png"], label=[7.0, 8.0]))) == expected


def test_many_labels_are_a_sorted_set(root: Path) -> None:
    expected = {"a.png": ("cat", "dog"), "b.png": ("cat",)}
    from_text = find(csv(root, "path,labels\na.png,dog; cat;dog\nb.png,cat\n"), IngestSettings(separator=";"))
    from_lists = find(jsonl(root, {"path": "a.png", "labels": ["dog", "cat"]}, {"path": "b.png", "labels": ["cat"]}))
    for source in (from_text, from_lists):
        assert source.task == "multi_label"
        assert labels(source) == expected
    assert from_lists.label_of(from_lists.images[0]) == "cat|dog"


def test_a_hierarchy_is_named_by_its_columns(root: Path) -> None:
    table = csv(root, "path,super,fine\na.png,Fruit,Gala\nb.png,Fruit,Pear\n")
    source = find(table, IngestSettings(label_columns=["super", "fine"]))
    assert (source.task, source.levels) == ("hierarchy", ("super", "fine"))
    assert labels(source) == {"a.png": ("Fruit", "Gala"), "b.png": ("Fruit", "Pear")}
    assert source.label_of(source.images[0]) == "Fruit/Gala"
    assert find(table, IngestSettings(label_columns=["fine"])).task == "single_label"


def test_parquet_keeps_dates_and_lists(root: Path) -> None:
    moment = datetime.datetime(2026, 5, 31, 12, tzinfo=datetime.UTC)
    source = find(parquet(root, path=["a.png", "b.png"], labels=[["x", "y"], ["y"]], timestamp=[moment, None]))
    assert [image.timestamp for image in source.images] == ["2026-05-31T12:00:00+00:00", None]


MISTAKES = {
    "a number among names": (
        "path,label\na.png,cat\nb.png,3\n",
        "the label 3 is a number among names such as cat; fix",
    ),
    "a number in a set": ("path,labels\na.png,3|x\nb.png,y\n", "the label 3 is a number among names such as x"),
    "fractions in sets": ("path,labels\na.png,0.5|7\nb.png,7\n", "the labels are numbers such as 0.5"),
    "no label": ("path,lable\na.png,x\n", "column label is missing; rename 'lable'"),
    "other case": ("path,Label\na.png,x\n", "column label is missing; rename 'Label'"),
    "no path": ("file,label\na.png,x\n", "column path is missing"),
    "label twice": ("path,label,label\na.png,x,y\n", "column label occurs 2 times; keep one"),
    "path twice": ("path,path,label\na.png,b.png,y\n", "column path occurs 2 times; keep one"),
    "group twice": ("path,label,group,group\na.png,x,1,2\n", "column group occurs 2 times"),
    "both": ("path,label,labels\na.png,x,x\n", "has a column label and a column labels; keep one"),
    "nothing": ("", "table.csv: is empty"),
    "no rows": ("path,label\n", "holds no rows"),
    "note twice": ("path,label,note,note\na.png,x,1,2\n", "column note occurs 2 times; keep one"),
    "no names": ("path,label,,\na.png,x,,\n", "column without a name occurs 2 times; keep one"),
    "ragged": ("path,label\na.png,x\nb.png\n", r"row 2 holds 1 values for 2 columns \('b.png'\); fix its commas and"),
    "open quote": (
        'path,label\n"a.png,x\nb.png,y\n',
        "row 1 holds 1 values for 2 columns .* fix its commas and quotes",
    ),
    "semicolons": ("path;label\na.png;x, y\n", "its columns are separated by ';'; save it with commas"),
    "tabs": ("path\tlabel\na.png\tx\n", r"its columns are separated by '\\t'; save it with commas"),
    "nan": (
        "path,label\na.png,x\nb.png,NaN\n",
        "row 2: the label in column label is 'NaN', which stands for an empty cell",
    ),
    "nan in a set": ("path,labels\na.png,x|y\nb.png,nan\n", "row 2: the label in column labels is 'nan', which stands"),
    "nan group": (
        "path,label,group\na.png,x,nan\n",
        "row 1: group is 'nan', which stands for an empty cell; leave it empty",
    ),
    "absolute": ("path,label\n/etc/a.png,x\n", "row 1: '/etc/a.png' isn't a path inside"),
    "drive": ("path,label\nC:/a.png,x\n", "row 1: 'C:/a.png' isn't a path inside"),
    "other address": ("path,label\nfile:///etc/a.png,x\n", "row 1: 'file:///etc/a.png' is no address of a store"),
    "escape": ("path,label\na.png,x\nsub/../../a.png,x\n", "row 2: 'sub/../../a.png' isn't a path inside"),
    "no path in row": ("path,label\n,x\n", "row 1: '' isn't a path inside"),
    "backslash": ("path,label\nsub\\c.png,x\n", "holds backslashes"),
    "repeated": ("path,label\na.png,x\nb.png,y\n./a.png,y\n", "row 3: a.png is already in row 1"),
    "case": ("path,label\na.png,x\nA.PNG,y\n", "A.PNG and a.png differ only in case"),
    "empty label": ("path,label\na.png,x\nb.png, \n", "row 2: the label in column label is empty"),
    "no label anywhere": ("path,labels\na.png,\nb.png,\n", "no image has a label; a classifier needs at least two"),
    "fractions": ("path,label\na.png,0.25\nb.png,3\n", "the labels are numbers such as 0.25, which are no class names"),
    "one class": ("path,label\na.png,x\nb.png,x\n", r"only one class \(x\)"),
    "time": ("path,label,timestamp\na.png,x,yesterday\n", "row 1: timestamp 'yesterday' should be ISO 8601"),
    "split": ("path,label,split\na.png,x,dev\n", "row 1: split 'dev' is none of train"),
    "weight": ("path,label,weight\na.png,x,-1\n", "weight '-1' should be a number of at least 0"),
    "weight nan": ("path,label,weight\na.png,x,nan\n", "weight 'nan' should be a number of at least 0"),
    "group": (
        "path,label,group,split\na.png,x,g,train\nb.png,y,g,test\n",
        r"group g is in 2 splits \(a.png in train and b.png in test\); put a group into one split",
    ),
    "all missing": (
        "path,label\nx.png,x\ny.png,y\n",
        r"none of the 2 files can be ingested \(2 × the file is missing\), for example x\.png; fix",
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_in_a_table_is_one_sentence(root: Path, mistake: str) -> None:
    text, sentence = MISTAKES[mistake]
    with pytest.raises(DataError, match=sentence) as caught:
        find(csv(root, text))
    assert caught.value.exit_code == 3
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("{", "line 1: is no JSON"),
        ("[1]", "line 1: should be an object"),
        ('{"path": "a.png", "path": "b.png", "label": "x"}', "line 1: path occurs 2 times; keep one"),
        ('{"path": "a.png", "label": ["x"]}', "should be one name"),
        ('{"path": "a.png", "label": ' + "7" * 5000 + "}", "line 1: has too long a number or too deep a nesting"),
        ('{"path": ' + "[" * 100_000, "line 1: has too long a number or too deep a nesting to be read; shorten it"),
        ('{"path": "a.png", "label": null}', "label in column label is empty"),
        ('{"path": "a.png", "labels": ["a|b"]}', "the label 'a|b' holds '|'"),
    ],
)
def test_a_mistake_in_json_lines_is_one_sentence(root: Path, line: str, sentence: str) -> None:
    (root / "table.jsonl").write_text(line + "\n")
    with pytest.raises(DataError) as caught:
        find(str(root / "table.jsonl"))
    assert sentence in str(caught.value)


def test_numbers_among_names_are_classes_where_they_are_listed(root: Path) -> None:
    table = csv(root, "path,label\na.png,cat\nb.png,3\n")
    assert len(find(table, IngestSettings(classes=["cat", "3"])).images) == 2
    table = csv(root, "path,label\na.png,cat\nb.png,nan\n")
    assert len(find(table, IngestSettings(classes=["cat", "nan"])).images) == 2


def test_leaves_of_one_name_under_two_branches_are_two_classes(root: Path) -> None:
    settings = IngestSettings(label_columns=["super", "fine"])
    source = find(csv(root, "path,super,fine\na.png,S1,other\nb.png,S2,other\n"), settings)
    assert labels(source) == {"a.png": ("S1", "other"), "b.png": ("S2", "other")}
    with pytest.raises(DataError, match=r"only one class \(S1/other\)"):
        find(csv(root, "path,super,fine\na.png,S1,other\nb.png,S1,other\n"), settings)


def test_what_is_no_utf8_or_no_date_is_one_sentence(root: Path) -> None:
    content = "path,label\na.png,x\nb.png,größe\n"
    for name, encoding, line in (("l.csv", "latin-1", 3), ("m.csv", "utf-16", 1), ("n.jsonl", "utf-16-le", 1)):
        (root / name).write_bytes(content.encode(encoding))
        with pytest.raises(DataError, match=rf"{name}: line {line} is not UTF-8 text; save the table as UTF-8"):
            find(str(root / name))
    seconds = pa.array([10**12, 0], pa.timestamp("s"))
    with pytest.raises(DataError, match=r"table\.parquet: holds a time outside the years 1 to 9999"):
        find(parquet(root, path=["a.png", "b.png"], label=["x", "y"], timestamp=seconds))
    with pytest.raises(DataError, match=r"a\.png: the name or the label isn't UTF-8 text; rename it"):
        find(jsonl(root, {"path": "a.png", "label": "\ud800"}, {"path": "b.png", "label": "y"}))


def test_a_separator_of_lines_inside_a_text_of_json_lines(root: Path) -> None:
    rows = '{"path": "a.png", "label": "x\u2028y"}\r\n{"path": "b.png", "label": "z\u0085"}\n'
    (root / "table.jsonl").write_text(rows, newline="")
    assert labels(find(str(root / "table.jsonl"))) == {"a.png": ("x\u2028y",), "b.png": ("z",)}


def test_a_group_in_two_given_splits_is_allowed_if_these_are_ignored(root: Path) -> None:
    table = csv(root, "path,label,group,split\na.png,x,g,train\nb.png,y,g,test\n")
    assert len(find(table, uses_given_splits=False).images) == 2


def test_extra_splits_may_be_given(root: Path) -> None:
    table = csv(root, "path,label,split\na.png,x,train\nb.png,y,Holdout\n")
    assert [image.given_split for image in find(table, extra_splits=["holdout"]).images] == ["train", "holdout"]
    with pytest.raises(DataError, match=r"split 'Holdout' is none of .* add it to split\.fractions"):
        find(table)


def test_parquet_that_is_none_and_repeated_columns(root: Path) -> None:
    (root / "broken.parquet").write_bytes(b"PAR1 and no more")
    with pytest.raises(DataError, match=r"broken\.parquet: is no complete Parquet file .*; copy or write it again"):
        find(str(root / "broken.parquet"))
    for names in (["path", "label", "label"], ["path", "label", "note", "note"]):
        table = pa.Table.from_arrays([pa.array(["a.png"])] * len(names), names=names)
        pq.write_table(table, root / "twice.parquet")
        with pytest.raises(DataError, match=f"column {names[-1]} occurs 2 times; keep one"):
            find(str(root / "twice.parquet"))


def test_a_hierarchy_without_settings_names_the_remedy(root: Path) -> None:
    with pytest.raises(DataError) as caught:
        find(csv(root, "path,super,fine\na.png,Fruit,Gala\n"))
    assert "--set 'ingest.label_columns=[super, fine]'" in str(caught.value)
    with pytest.raises(DataError, match="column coarse is missing"):
        find(csv(root, "path,super,fine\na.png,Fruit,Gala\n"), IngestSettings(label_columns=["super", "coarse"]))
    with pytest.raises(DataError, match="'Fr/uit' holds '/'"):
        find(csv(root, "path,super,fine\na.png,Fr/uit,Gala\n"), IngestSettings(label_columns=["super", "fine"]))


def test_a_label_that_is_not_among_the_known_classes_is_named(root: Path) -> None:
    table = csv(root, "path,label\na.png,cat\nb.png,dgo\n")
    with pytest.raises(DataError, match=r"b\.png: the label 'dgo' is none of ingest\.classes; did you mean dog\?"):
        find(table, IngestSettings(classes=["cat", "dog"]))
    assert len(find(table, IngestSettings(classes=["cat", "dgo"])).images) == 2


def test_settings_are_checked() -> None:
    for values in ({"classes": []}, {"label_columns": ["a", "a"]}, {"separator": ""}, {"label_column": ["a"]}):
        with pytest.raises(SettingsError, match=r"params.yaml: ingest\."):
            IngestSettings.from_section("ingest", values)


def test_class_folders_that_differ_only_in_case(tmp_path: Path) -> None:
    for name in ("Cat/1.png", "cat/1.png", "dog/2.png"):
        picture(tmp_path / name)
    with pytest.raises(DataError, match=r"'Cat' \(1 image\) and 'cat' \(1 image\) differ only in case; rename one"):
        find(str(tmp_path))


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("nowhere", "no such folder or table"),
        ("empty", "no labelled images in it"),
        ("note.txt", "is neither a folder nor"),
        ("shards.tar.gz", "nor a tar shard .*; save a table as CSV, unpack other archives, or give --data a folder"),
    ],
)
def test_a_location_without_data(tmp_path: Path, name: str, sentence: str) -> None:
    (tmp_path / "empty").mkdir()
    for file in ("note.txt", "shards.tar.gz"):
        (tmp_path / file).write_text("a note")
    with pytest.raises(DataError, match=sentence):
        find(str(tmp_path / name))


def test_the_embedded_digits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    source = find("digits")
    assert len(source.images) == 1797
    assert {image.labels[0] for image in source.images} == set("0123456789")
    assert source.images[5].read() == source.images[5].read()
