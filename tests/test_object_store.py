"""Data versions in an object store: pushed, pulled by git revision, and ingested from; a real S3 server, real DVC."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from projects import new_project, write_shapes

from components.data.raw import MANIFEST, read_manifest
from components.data.sources import IngestSettings, find
from components.errors import DataError, ServiceError
from components.progress import silent
from flows.ingest import _bring_in
from flows.project import Project, open_project
from flows.repro import data_paths, restore_raw
from flows.stages.split import split
from flows.stages.validate import Places, validate

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
    paths.judged.mkdir(exist_ok=True)
    page = paths.report.with_suffix(".html")
    validate(Places(project.params, paths.raw, paths.judged, paths.validated, paths.report, page), silent)
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
    _bring_in(second, find(f"s3://{BUCKET}/incoming", IngestSettings()))
    rows = {row.path: row for row in read_manifest(data_paths(second).raw)}
    assert rows.pop("circle/notes.txt").problem == "the ending .txt is of no image format that is read"
    ours = {row.path: row.sha256 for row in read_manifest(data_paths(first).raw)}
    assert {path: row.sha256 for path, row in rows.items()} == ours


@pytest.mark.parametrize(
    ("location", "sentence"),
    [
        (f"s3://{BUCKET}/nothing", "no images in it"),
        ("s3://no-such-bucket/a", "bucket does not exist; check the address"),
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
