"""gs:// against gcp-storage-emulator, and az:// against Azurite where it is installed (npm install --global azurite).

What all stores have in common is in test_object_store.py; here is what these two drivers could do otherwise.
"""

import json
import shutil
import socket
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import fsspec
import pytest
from colour_models import COLOURS, colour_model
from projects import draw_colours, free_port, new_project

from components.data.files.object_stores import open_store
from components.data.raw.ingest import write_raw
from components.data.sources import find
from components.serving.prediction_records import PredictionOptions
from components.shared.errors import DataError
from components.shared.progress import silent
from flows.project.dvc import data_paths, data_version, restore_raw
from flows.project.project import open_project
from flows.serving.predict import predict_files
from flows.steps.ingest import _bring_in

AZURITE_KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
"""Publicly known: that of Azurite's only account."""


@pytest.fixture(scope="module", params=["gs", "az"])
def store(request: pytest.FixtureRequest) -> Iterator[str]:
    """The scheme of a store that has a bucket `images`; the environment has its address, as a user's would."""
    start = {"gs": google, "az": azure}[request.param]
    with pytest.MonkeyPatch.context() as patch:
        yield from start(patch)


def google(patch: pytest.MonkeyPatch) -> Iterator[str]:
    # Not imported here: how it is loaded is a part of what is tried.
    if find_spec("gcsfs") is None:
        pytest.skip("gcsfs is not installed")
    server = pytest.importorskip("gcp_storage_emulator.server").create_server(
        "127.0.0.1", port := free_port(), in_memory=True, default_bucket="images"
    )
    patch.setenv("STORAGE_EMULATOR_HOST", f"http://127.0.0.1:{port}")
    patch.setenv("NO_GCE_CHECK", "true")
    patch.delenv("GOOGLE_APPLICATION_CREDENTIALS", raising=False)
    with server:
        yield "gs"


def azure(patch: pytest.MonkeyPatch) -> Iterator[str]:
    pytest.importorskip("adlfs")
    program = shutil.which("azurite-blob")
    if program is None:
        pytest.skip("azurite is not installed")
    port = free_port()
    words = (
        "--silent",
        "--inMemoryPersistence",
        "--skipApiVersionCheck",
        "--disableTelemetry",
        "--blobPort",
        str(port),
    )
    with subprocess.Popen([program, *words], stdout=subprocess.DEVNULL) as server:
        try:
            wait_for(port)
            address = f"BlobEndpoint=http://127.0.0.1:{port}/devstoreaccount1"
            account = f"AccountName=devstoreaccount1;AccountKey={AZURITE_KEY}"
            patch.setenv("AZURE_STORAGE_CONNECTION_STRING", f"DefaultEndpointsProtocol=http;{account};{address}")
            fsspec.filesystem("az").mkdir("images")
            yield "az"
        finally:
            server.terminate()


def wait_for(port: int) -> None:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        try:
            return socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            time.sleep(0.1)
    raise TimeoutError("azurite does not answer")


@pytest.fixture(scope="module")
def photos(store: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Images of three colours in folders of the bucket, with what else lies about, a table and an archive."""
    folder = tmp_path_factory.mktemp("photos")
    for number, colour in enumerate(COLOURS):
        (folder / "set" / colour).mkdir(parents=True)
        draw_colours(["light", colour], number).save(folder / "set" / colour / "a b#1.png")
    (folder / "set" / "red" / "notes.txt").write_text("no image")
    (folder / "set" / ".hidden").mkdir()
    (folder / "set" / ".hidden" / "x.png").write_bytes(b"x")
    (folder / "table.csv").write_text("path,label\nset/red/a b#1.png,red\nset/gone.png,red\nset/blue/a b#1.png,blue\n")
    with zipfile.ZipFile(folder / "set.zip", "w") as archive:
        archive.write(folder / "set" / "blue" / "a b#1.png", "inside/blue.png")
    address = f"{store}://images/photos"
    open_store(address)._filesystem.put(f"{folder}/", "images/photos/", recursive=True)
    return address


def brought_in(location: Path | str, raw: Path) -> dict[str, tuple[int, str | None]]:
    rows = write_raw(find(str(location)), raw, progress=silent).rows
    return {row.path: (row.size_bytes, row.problem) for row in rows}


def test_a_folder_and_a_table_are_ingested_without_a_word_of_the_driver(
    photos: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    sizes = {colour: len(draw(tmp_path, colour)) for colour in COLOURS}
    folder = brought_in(f"{photos}/set", tmp_path / "folder")
    assert folder == {f"{colour}/a b#1.png": (sizes[colour], None) for colour in COLOURS}
    expected = {"gone.png": (0, "the file is missing")} | {
        f"{colour}/a b#1.png": (sizes[colour], None) for colour in ("red", "blue")
    }
    assert brought_in(f"{photos}/table.csv", tmp_path / "table") == {
        f"set/{path}": row for path, row in expected.items()
    }
    near = tmp_path / "near.csv"
    near.write_text("path,label\n" + "".join(f"{photos}/set/{path},{path[:3]}\n" for path in expected))
    inside = photos.replace("://", "/")
    assert brought_in(near, tmp_path / "near") == {f"{inside}/set/{path}": row for path, row in expected.items()}
    assert not [record for record in caplog.records if not record.name.startswith("gcp_storage_emulator")]


def draw(folder: Path, colour: str) -> bytes:
    draw_colours(["light", colour], COLOURS.index(colour)).save(folder / f"{colour}.png")
    return (folder / f"{colour}.png").read_bytes()


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("/set", [(f"/set/{colour}/a b#1.png", colour) for colour in COLOURS]),
        ("/set/**/a*.png", [(f"/set/{colour}/a b#1.png", colour) for colour in COLOURS]),
        (
            "/table.csv",
            [("/set/red/a b#1.png", "red"), ("/set/gone.png", "the file is missing"), ("/set/blue/a b#1.png", "blue")],
        ),
        ("/set.zip", [("/set.zip/inside/blue.png", "blue")]),
    ],
    ids=["folder", "pattern", "table", "archive"],
)
def test_images_are_predicted_where_they_lie(
    photos: str, tmp_path: Path, source: str, expected: list[tuple[str, str]]
) -> None:
    out, model = tmp_path / "out.jsonl", colour_model(tmp_path / "colours.onnx")
    predict_files([photos + source], out=out, model=str(model), options=PredictionOptions(), workers=2)
    rows: list[dict[str, Any]] = [json.loads(line) for line in out.read_text().splitlines()]
    assert [(row["path"], row["label"] or row["error"]) for row in rows] == [
        (photos + path, said) for path, said in expected
    ]


@pytest.mark.parametrize(
    ("place", "sentence"),
    [
        ("images/nothing", "no labelled images in it"),
        ("no-such-bucket/a", "the store has no bucket no-such-bucket; check the address"),
        ("images/none.csv", "none.csv: can't be read: [Nn]o such file"),
    ],
)
def test_an_empty_place_is_one_clear_sentence(store: str, place: str, sentence: str) -> None:
    with pytest.raises(DataError, match=sentence) as caught:
        find(f"{store}://{place}")
    assert "\n" not in str(caught.value)


def test_a_data_version_comes_back_from_the_store(store: str, photos: str, tmp_path: Path) -> None:
    driver, url = {"gs": ("dvc_gs", "gs://images/versions"), "az": ("dvc_azure", "azure://images/versions")}[store]
    if find_spec(driver) is None:
        pytest.skip(f"{driver} is not installed")
    project = open_project(new_project(tmp_path / "project"))
    _bring_in(project, find(f"{photos}/set"))
    version, manifest = data_version(project), (data_paths(project).raw / "manifest.parquet").read_bytes()
    for words in (("remote", "add", "--default", "store", url), ("push", "data/raw.dvc")):
        subprocess.run([sys.executable, "-m", "dvc", *words], cwd=project.root, check=True, capture_output=True)
    shutil.rmtree(data_paths(project).raw)
    shutil.rmtree(project.root / ".dvc" / "cache")
    restore_raw(project)
    assert data_version(project) == version
    assert (data_paths(project).raw / "manifest.parquet").read_bytes() == manifest
