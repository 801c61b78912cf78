"""Tables as people have them: other headers, one-hot columns, sets in one cell, images without a label or a row."""

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from components.data.sources import IngestSettings, Source, check_location, find
from components.shared.errors import DataError


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for name in "abcd":
        Image.new("L", (9, 9), ord(name)).save(tmp_path / f"{name}.png")
    return tmp_path


def written(root: Path, text: str) -> str:
    (root / "t.csv").write_text(text)
    return str(root / "t.csv")


def labels(source: Source) -> list[tuple[str, ...]]:
    return [image.labels for image in source.images]


HEADERS = {
    "filename,class": "rename 'filename' to path and 'class' to label, or --set 'ingest.columns={path: filename, ",
    "image_id,target": "ingest.columns={path: image_id, label: target}",
    "Path,Label": "rename 'Path' to path and 'Label' to label",
    "path,species": "rename 'species' to label",
    "path,kingdom": "rename 'kingdom' to label",
    "path,tags": "rename 'tags' to labels",
    "where,label": "column path is missing; add it, or name the column that holds it, such as --set 'ingest.columns={",
    "path,super,fine": "ingest.columns={label: fine}', or the levels of a hierarchy, such as --set 'ingest.label_c",
    "path": "column label is missing; add it",
    "image_name,tags": "rename 'image_name' to path",
    "a.png,cat": "its first line should name the columns, and holds 'a.png'; begin it with a line such as path,label",
}


@pytest.mark.parametrize("header", HEADERS)
def test_a_header_mistake_names_the_remedy_before_anything_else_is_read(root: Path, header: str) -> None:
    location = written(root, f"{header}\na.png{',x' * header.count(',')}\n")
    for check in (check_location, find):
        with pytest.raises(DataError) as refused:
            check(location)
        assert HEADERS[header] in str(refused.value)


def test_columns_by_other_names_are_read_where_the_settings_name_them(root: Path) -> None:
    settings = IngestSettings(columns={"path": "filename", "label": "class", "group": "patient"})
    source = find(written(root, "filename,class,patient\na.png,x,p1\nb.png,y,p2\n"), settings)
    assert [(one.path, one.labels, one.group, one.further) for one in source.images] == [
        ("a.png", ("x",), "p1", None),
        ("b.png", ("y",), "p2", None),
    ]
    with pytest.raises(DataError, match=r"ingest\.columns names 'patient', which is none of its columns"):
        find(written(root, "filename,class\na.png,x\n"), settings)
    with pytest.raises(DataError, match=r"has a column path, and ingest\.columns names another one for it"):
        find(written(root, "path,filename,class,patient\na.png,b.png,x,p\n"), settings)


def test_one_hot_columns_are_noticed_and_read(root: Path) -> None:
    location = written(root, "path,age,cat,dog\na.png,31,1,0\nb.png,40,1,1\nc.png,25,0,0\n")
    with pytest.raises(
        DataError, match=r"2 columns \(cat, dog\) hold 0 and 1 alone: .*--set 'ingest\.one_hot=\[cat, d"
    ):
        find(location)
    for chosen in (["cat", "dog"], "auto"):
        source = find(location, IngestSettings(one_hot=chosen))
        assert (source.task, labels(source)) == ("multi_label", [("cat",), ("cat", "dog"), ()])
        assert json.loads(str(source.images[0].further)) == {"age": "31"}
    with pytest.raises(DataError, match="row 1: age is '31', should be 0 or 1"):
        find(location, IngestSettings(one_hot=["cat", "age"]))


def test_one_hot_rows_of_one_class_each_are_single_label(root: Path) -> None:
    table = pa.table({"path": ["a.png", "b.png"], "cat": [1.0, 0.0], "dog": [False, True]})
    pq.write_table(table, root / "t.parquet")
    source = find(str(root / "t.parquet"), IngestSettings(one_hot=["cat", "dog"]))
    assert (source.task, labels(source)) == ("single_label", [("cat",), ("dog",)])


def in_csv(root: Path) -> str:
    return written(root, "path,labels\na.png,x|y\nb.png,\nc.png,x\n")


def in_json_lines(root: Path) -> str:
    rows = [{"path": "a.png", "labels": ["y", "x"]}, {"path": "b.png", "labels": []}, {"path": "c.png", "labels": "x"}]
    (root / "t.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(root / "t.jsonl")


def in_json_lines_without_the_key(root: Path) -> str:
    in_json_lines(root)
    text = (root / "t.jsonl").read_text()
    (root / "t.jsonl").write_text(text.replace(', "labels": []', ""))
    return str(root / "t.jsonl")


def in_parquet(root: Path) -> str:
    pq.write_table(pa.table({"path": [*"abc"], "labels": [["x", "y"], None, ["x"]]}), root / "t.parquet")
    table = pq.read_table(root / "t.parquet")
    paths = pa.array(["a.png", "b.png", "c.png"])
    pq.write_table(table.set_column(0, "path", paths), root / "t.parquet")
    return str(root / "t.parquet")


def as_lists_of_pandas(root: Path) -> str:
    return written(root, "path,labels\na.png,\"['x', 'y']\"\nb.png,[]\nc.png,['x']\n")


def as_lists_of_numpy(root: Path) -> str:
    return written(root, "path,labels\na.png,['x' 'y']\nb.png,[]\nc.png,['x']\n")


@pytest.mark.parametrize(
    "make",
    [in_csv, in_json_lines, in_json_lines_without_the_key, in_parquet, as_lists_of_pandas, as_lists_of_numpy],
    ids=lambda make: make.__name__,
)
def test_an_image_without_any_label_is_an_example_in_every_format(root: Path, make) -> None:
    source = find(make(root))
    assert (source.task, labels(source)) == ("multi_label", [("x", "y"), (), ("x",)])


OTHER_SEPARATORS = {
    "semicolon": ("a.png,cat;dog\nb.png,cat\n", ";"),
    "comma": ('a.png,"cat, dog"\nb.png,dog\n', ","),
    "blank": ("a.png,clear primary\nb.png,clear\nc.png,primary\n", " "),
}


@pytest.mark.parametrize("kind", OTHER_SEPARATORS)
def test_sets_with_another_separator_are_noticed(root: Path, kind: str) -> None:
    rows, separator = OTHER_SEPARATORS[kind]
    location = written(root, "path,labels\n" + rows)
    with pytest.raises(DataError, match=f"--set 'ingest.separator=\"{separator}\"'"):
        find(location)
    assert () not in labels(find(location, IngestSettings(separator=separator)))


def test_names_of_several_words_are_no_sets(root: Path) -> None:
    source = find(written(root, "path,labels\na.png,polar bear\nb.png,brown bear\nc.png,cat\n"))
    assert labels(source) == [("polar bear",), ("brown bear",), ("cat",)]


NOTES = {
    "a set in a column label": (
        "path,label\na.png,Circle|square\nb.png,square\n",
        "'Circle|square' in the column label c",
    ),
    "splits by another name": (
        "path,label,set\na.png,x,train\nb.png,y,test\n",
        "the column set holds test, train, and",
    ),
    "nothing odd": ("path,label,set\na.png,x,1\nb.png,y,2\n", None),
}


@pytest.mark.parametrize("kind", NOTES)
def test_what_was_meant_otherwise_gets_a_warning(root: Path, kind: str) -> None:
    text, note = NOTES[kind]
    notes = find(written(root, text)).notes
    assert [note in one for one in notes] == ([True] if note else [])


def test_images_that_the_table_does_not_name_are_counted(root: Path) -> None:
    (root / "elsewhere").mkdir()
    (root / "c.png").rename(root / "elsewhere" / "c.png")
    source = find(written(root, "path,label\na.png,x\nb.png,y\n"))
    assert source.left_out == {"d.png": "an image that the table doesn't name"}


MISSING = {
    "without their endings": (
        "a,x\nb,y\n",
        r"\(2 × the file is missing\), for example a; a\.png is there: add the ending",
    ),
    "in a folder": (
        "e.png,x\nf.png,y\n",
        r"for example e\.png; images/e\.png is there: add images/ to the paths, or put",
    ),
    "nowhere": ("g.png,x\nh.png,y\n", r"for example g\.png; fix this or give --data other images"),
}


@pytest.mark.parametrize("kind", MISSING)
def test_where_missing_images_may_be_is_named(root: Path, kind: str) -> None:
    (root / "images").mkdir()
    for name in "ef":
        Image.new("L", (9, 9)).save(root / "images" / f"{name}.png")
    rows, sentence = MISSING[kind]
    with pytest.raises(DataError, match=sentence):
        find(written(root, "path,label\n" + rows))
