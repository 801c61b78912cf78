"""Object stores: data versions pushed, pulled by git revision and ingested from; images predicted where they lie.

An S3 server in Python (moto), real DVC.
"""

import io
import json
import re
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from colour_models import COLOURS, colour_model
from projects import draw_colours, new_project, write_shapes

from components.data.raw.dataset import MANIFEST, read_manifest
from components.data.raw.ingest import write_raw
from components.data.sources import IngestSettings, find
from components.serving.prediction_records import PredictionOptions
from components.shared.errors import DataError, ServiceError
from components.shared.progress import silent
from flows.project.dvc import data_paths, restore_raw
from flows.project.project import Project, open_project
from flows.serving.predict import predict_files
from flows.stages.split import split
from flows.stages.validate import ValidatePaths, validate
from flows.steps.ingest import _bring_in

BUCKET = "images"


@pytest.fixture(scope="module")
def store() -> Iterator[Any]:
    """A file system over an empty bucket; the environment has its address and credentials, as a user's would."""
    import s3fs
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            patch.setenv(name, "testing")
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        # Where nobody answers, the driver would ask again for a minute.
        patch.setenv("AWS_MAX_ATTEMPTS", "1")
        patch.delenv("DARKROOM_HOME", raising=False)
        s3fs.S3FileSystem.clear_instance_cache()
        filesystem = s3fs.S3FileSystem()
        filesystem.mkdir(BUCKET)
        yield filesystem
        server.stop()
        s3fs.S3FileSystem.clear_instance_cache()


@pytest.fixture(scope="module")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_shapes(tmp_path_factory.mktemp("shapes") / "shapes", each=20)


@pytest.fixture(scope="module")
def first(store: Any, shapes: Path, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """The machine where a data version was made, committed and pushed."""
    root = new_project(tmp_path_factory.mktemp("first") / "project")
    project = open_project(root)
    _bring_in(project, find(str(shapes), IngestSettings()))
    prepare(project)
    dvc(root, "remote", "add", "--default", "store", f"s3://{BUCKET}/versions")
    dvc(root, "push", "data/raw.dvc")
    run(root, "git", "add", "--all")
    run(root, "git", "-c", "user.name=a", "-c", "user.email=a@b", "commit", "--quiet", "--message", "data")
    return project


def prepare(project: Project) -> None:
    paths = data_paths(project)
    paths.reference.mkdir(exist_ok=True)
    validate(ValidatePaths(project.params, paths.raw, paths.reference, paths.validated, paths.report), silent)
    split(project.params, paths.validated, paths.split, silent)


def clone(first: Project, target: Path) -> Project:
    run(first.root, "git", "clone", "--quiet", str(first.root), str(target))
    return open_project(target)


def run(folder: Path, *words: str) -> None:
    subprocess.run(words, cwd=folder, check=True, capture_output=True)


def dvc(folder: Path, *words: str) -> None:
    run(folder, sys.executable, "-m", "dvc", *words)


def test_a_second_machine_repeats_the_split_from_git_and_the_store(first: Project, store: Any, tmp_path: Path) -> None:
    second = clone(first, tmp_path / "second")
    assert not data_paths(second).raw.exists()
    restore_raw(second)
    prepare(second)
    for name in (f"raw/{MANIFEST}", "validated/images.parquet", "split/split.parquet", "split/leakage.json"):
        assert (second.root / "data" / name).read_bytes() == (first.root / "data" / name).read_bytes(), name


def test_a_version_that_the_remote_lacks_is_one_clear_sentence(first: Project, store: Any, tmp_path: Path) -> None:
    second = clone(first, tmp_path / "second")
    dvc(second.root, "remote", "modify", "store", "url", f"s3://{BUCKET}/elsewhere")
    with pytest.raises(DataError, match=r"^data version \w{12} lies neither in DVC's cache nor in a remote; push it"):
        restore_raw(second)
    assert not data_paths(second).raw.exists()


def test_a_store_that_lost_a_file_of_the_version_is_one_clear_sentence(
    first: Project, store: Any, tmp_path: Path
) -> None:
    second = clone(first, tmp_path / "second")
    store.copy(f"{BUCKET}/versions", f"{BUCKET}/holey", recursive=True)
    store.rm(next(name for name in store.find(f"{BUCKET}/holey") if not name.endswith(".dir")))
    dvc(second.root, "remote", "modify", "store", "url", f"s3://{BUCKET}/holey")
    with pytest.raises(DataError, match="lies neither in DVC's cache nor in a remote"):
        restore_raw(second)


@pytest.mark.parametrize(
    ("settings", "error", "sentence"),
    [
        (("endpointurl", "http://127.0.0.1:9"), ServiceError, r"could not be pulled: failed to connect .*; check the"),
        (("url", "gs://images/versions"), DataError, r"driver is not installed; pip install 'darkroom\[gs\]'"),
        (("url", "azure://images/versions"), DataError, r"driver is not installed; pip install 'darkroom\[az\]'"),
    ],
    ids=["unreachable", "gs", "az"],
)
def test_a_remote_that_cannot_be_asked_is_one_clear_sentence(
    first: Project, tmp_path: Path, settings: tuple[str, str], error: type[Exception], sentence: str
) -> None:
    if "not installed" in sentence and not missing(settings[1]):
        pytest.skip("the driver is installed here")
    second = clone(first, tmp_path / "second")
    dvc(second.root, "remote", "modify", "store", *settings)
    with pytest.raises(error, match=sentence):
        restore_raw(second)


def missing(url: str) -> bool:
    from importlib.util import find_spec

    return find_spec("dvc_gs" if url.startswith("gs") else "dvc_azure") is None


def test_ingesting_from_the_store_gives_the_version_of_the_folder(
    first: Project, store: Any, shapes: Path, tmp_path: Path
) -> None:
    store.put(str(shapes), f"{BUCKET}/incoming", recursive=True)
    store.pipe_file(f"{BUCKET}/incoming/circle/notes.txt", b"no image")
    second = open_project(new_project(tmp_path / "second"))
    source = find(f"s3://{BUCKET}/incoming", IngestSettings())
    assert list(source.left_out) == ["circle/notes.txt"]
    _bring_in(second, source)
    rows = {row.path: row for row in read_manifest(data_paths(second).raw)}
    ours = {row.path: row.sha256 for row in read_manifest(data_paths(first).raw)}
    assert {path: row.sha256 for path, row in rows.items()} == ours


@pytest.mark.parametrize(
    ("location", "sentence"),
    [
        (f"s3://{BUCKET}/nothing", "no labelled images in it"),
        ("s3://no-such-bucket/a", "the store has no bucket no-such-bucket; check the address"),
    ],
)
def test_an_empty_place_in_the_store_is_one_clear_sentence(store: Any, location: str, sentence: str) -> None:
    with pytest.raises((DataError, ServiceError), match=sentence):
        find(location, IngestSettings())


@pytest.mark.parametrize(("scheme", "module"), [("gs", "gcsfs"), ("az", "adlfs"), ("abfs", "adlfs")])
def test_a_source_whose_driver_is_missing_names_what_to_install(scheme: str, module: str) -> None:
    from importlib.util import find_spec

    if find_spec(module) is not None:
        pytest.skip("the driver is installed here")
    extra = {"gs": "gs"}.get(scheme, "az")
    with pytest.raises(DataError, match=rf"driver for {scheme}:// is not installed; pip install 'darkroom\[{extra}\]'"):
        find(f"{scheme}://bucket/set", IngestSettings())


@pytest.fixture(scope="module")
def photos(store: Any, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Images of three colours in folders of the bucket, two that can't be read, a table and an archive over them."""
    folder = tmp_path_factory.mktemp("photos")
    for number, colour in enumerate(COLOURS):
        (folder / "set" / colour).mkdir(parents=True)
        draw_colours(["light", colour], number).save(folder / "set" / colour / "a b.png")
    (folder / "set" / "cut.png").write_bytes((folder / "set" / "red" / "a b.png").read_bytes()[:200])
    (folder / "set" / "notes.txt").write_text("no image")
    (folder / "table.csv").write_text("path\nset/red/a b.png\nset/gone.png\n")
    with zipfile.ZipFile(folder / "set.zip", "w") as archive:
        archive.write(folder / "set" / "blue" / "a b.png", "inside/blue.png")
    address = f"{BUCKET}/photos"
    store.put(f"{folder}/", f"{address}/", recursive=True)
    return f"s3://{address}"


@pytest.fixture(scope="module")
def colours(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return colour_model(tmp_path_factory.mktemp("model") / "colours.onnx")


def predicted(out: Path, model: Path, *sources: str) -> list[tuple[str, str | None]]:
    """Path and label of each row, or the reason in place of the label."""
    predict_files(list(sources), out=out, model=str(model), options=PredictionOptions(), workers=2)
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert len({row["model"] for row in rows}) == 1
    return [(row["path"], row["label"] or row["error"]) for row in rows]


def test_a_table_to_ingest_may_name_addresses(photos: str, tmp_path: Path) -> None:
    table = tmp_path / "table.csv"
    draw_colours(["dark", "green"], 7).save(tmp_path / "near.png")
    table.write_text(f"path,label\nnear.png,green\n{photos}/set/red/a b.png,red\n{photos}/set/gone.png,red\n")
    version = write_raw(find(str(table)), tmp_path / "raw", progress=silent)
    far = photos.replace("://", "/")
    assert [(row.path, row.label, row.problem) for row in version.rows] == [
        ("near.png", "green", None),
        (f"{far}/set/gone.png", "red", "the file is missing"),
        (f"{far}/set/red/a b.png", "red", None),
    ]


CUT = "broken image"


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        (
            "/set",
            [("/set/blue/a b.png", "blue"), ("/set/cut.png", CUT)] + [(f"/set/{c}/a b.png", c) for c in COLOURS[1:]],
        ),
        ("/set/**/a*.png", [(f"/set/{colour}/a b.png", colour) for colour in COLOURS]),
        ("/set/green/a b.png", [("/set/green/a b.png", "green")]),
        ("/table.csv", [("/set/red/a b.png", "red"), ("/set/gone.png", "the file is missing")]),
        ("/set.zip", [("/set.zip/inside/blue.png", "blue")]),
    ],
    ids=["folder", "pattern", "image", "table", "archive"],
)
def test_images_of_a_store_are_predicted_where_they_lie(
    photos: str, colours: Path, tmp_path: Path, source: str, expected: list[tuple[str, str]]
) -> None:
    found = predicted(tmp_path / "out.jsonl", colours, photos + source)
    assert [path for path, _ in found] == [photos + path for path, _ in expected]
    assert all(str(said).startswith(wanted) for (_, said), (_, wanted) in zip(found, expected, strict=True))


def test_a_list_on_standard_input_may_name_images_here_and_in_a_store(
    photos: str, colours: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    draw_colours(["dark", "green"], 7).save(tmp_path / "near.png")
    lines = f"{photos}/set/red/a b.png\n{tmp_path}/near.png\n{photos}/set/nowhere.png\n"
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(lines.encode())))
    found = predicted(tmp_path / "out.jsonl", colours, "-")
    assert [said for _, said in found] == ["red", "green", "the file is missing"]


@pytest.mark.parametrize(
    ("source", "sentence"),
    [
        ("s3://no-such-bucket/a", "s3://no-such-bucket/a: no such file or folder"),
        (f"s3://{BUCKET}/nothing/*.png", "no images in s3://images/nothing"),
    ],
)
def test_predictions_of_nothing_in_a_store_are_refused_and_leave_no_table(
    photos: str, colours: Path, tmp_path: Path, source: str, sentence: str
) -> None:
    with pytest.raises((DataError, ServiceError), match=re.escape(sentence)) as refused:
        predicted(tmp_path / "out.csv", colours, source)
    assert "\n" not in str(refused.value)
    assert not (tmp_path / "out.csv").exists()


def test_a_store_that_does_not_answer_ends_the_run_rather_than_blame_each_image(
    photos: str, colours: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import s3fs

    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    s3fs.S3FileSystem.clear_instance_cache()
    try:
        with pytest.raises(ServiceError, match="check the address, the network and the credentials"):
            predicted(tmp_path / "out.csv", colours, f"{photos}/set")
    finally:
        s3fs.S3FileSystem.clear_instance_cache()
