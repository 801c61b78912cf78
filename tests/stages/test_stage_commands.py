"""The stages as the commands that DVC runs: exit codes, one sentence, and what stays on disk."""

import csv
import io
import json
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from projects import REPOSITORY, data_pages_in, draw_shape, full_disk, write_shapes

from components.data.raw.dataset import read_manifest
from components.data.raw.ingest import write_raw
from components.data.sources import find
from components.shared.files import read_json
from components.shared.progress import silent
from flows.project.params import override
from flows.stages import split, validate

FEW = ("circle", "square")


def project_of(folder: Path, source: Path, *changes: str) -> Path:
    """A folder with raw data and parameters."""
    write_raw(find(str(source)), folder / "raw", progress=silent)
    (folder / "reference").mkdir()
    params = folder / "params.yaml"
    params.write_text((REPOSITORY / "params.yaml").read_text())
    override(params, ["validate.images.at_least=1", *changes], check=lambda _: None)
    return folder


def command(monkeypatch: pytest.MonkeyPatch, main: Callable[[], None], **flags: Path) -> int:
    monkeypatch.delenv("DARKROOM_HOME", raising=False)
    monkeypatch.setattr(
        sys, "argv", ["stage", *(word for name, path in flags.items() for word in (f"--{name}", str(path)))]
    )
    with pytest.raises(SystemExit) as ended:
        main()
    return int(ended.value.code or 0)


def validate_as_command(folder: Path, monkeypatch: pytest.MonkeyPatch) -> int:
    names = {name: folder / name for name in ("raw", "reference", "validated")}
    report = folder / "validation.json"
    return command(monkeypatch, validate.main, params=folder / "params.yaml", report=report, **names)


def split_as_command(folder: Path, monkeypatch: pytest.MonkeyPatch) -> int:
    names = {name: folder / name for name in ("validated", "split")}
    return command(monkeypatch, split.main, params=folder / "params.yaml", **names)


def one_sentence(capsys: pytest.CaptureFixture[str]) -> str:
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("darkroom: ")]
    assert len(lines) == 1
    return lines[0]


def test_an_unknown_label_stops_validation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    source = write_shapes(tmp_path / "source", each=15, labels=FEW)
    folder = project_of(tmp_path, source, "validate.known_classes={labels: [circle], level: stop}")
    before = [vars(row) for row in read_manifest(folder / "raw")]
    assert validate_as_command(folder, monkeypatch) == 3
    assert "known_classes is 1 of 2 classes unknown" in one_sentence(capsys)
    assert [vars(row) for row in read_manifest(folder / "raw")] == before
    assert len(pq.read_table(folder / "validated" / "images.parquet")) == 30
    assert read_json(folder / "validation.json")["passed"] is False
    assert data_pages_in(folder) == [folder / "validation.html"]
    assert "known_classes" in (folder / "validation.html").read_text()


def test_a_full_disk_stops_validation_and_leaves_what_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = project_of(tmp_path, write_shapes(tmp_path / "source", each=15, labels=FEW))
    raw = {file: file.read_bytes() for file in (folder / "raw").iterdir()}
    events = tmp_path / "events"
    events.touch()
    monkeypatch.setenv("DARKROOM_EVENTS", str(events))
    with full_disk(20_000):
        assert validate_as_command(folder, monkeypatch) == 1
    said = one_sentence(capsys)
    assert said.startswith("darkroom: validate: the disk of ")
    assert said.endswith(" is full (file too large); free some space and run it again")
    failed = json.loads(events.read_text().splitlines()[-1])
    assert (failed["event"], failed["message"]) == ("failed", said.removeprefix("darkroom: "))
    assert {file: file.read_bytes() for file in (folder / "raw").iterdir()} == raw
    assert list((folder / "validated").iterdir()) == []


def test_all_images_in_quarantine_stop_validation_and_each_has_its_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for label in FEW:
        (tmp_path / "source" / label).mkdir(parents=True)
        (tmp_path / "source" / label / "1.png").write_text("no picture")
    folder = project_of(tmp_path, tmp_path / "source")
    assert validate_as_command(folder, monkeypatch) == 3
    assert "none of the 2 files can be decoded (2 × the content is no image that can be read); ingest" in one_sentence(
        capsys
    )
    with (folder / "validated" / "quarantine.csv").open(newline="") as stream:
        assert [row["path"] for row in csv.DictReader(stream)] == ["circle/1.png", "square/1.png"]
    assert len(read_manifest(folder / "raw")) == 2


def test_a_class_too_small_for_the_splits_stops_the_split(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    source = write_shapes(tmp_path / "source", each=15, labels=FEW)
    (source / "stripes").mkdir()
    for number in range(2):
        draw_shape("stripes", number).save(source / "stripes" / f"{number}.png")
    folder = project_of(tmp_path, source, "validate.images_per_class.at_least=1")
    assert validate_as_command(folder, monkeypatch) == 0
    capsys.readouterr()
    assert split_as_command(folder, monkeypatch) == 3
    assert "class stripes gets no image in the" in one_sentence(capsys)
    assert len(pq.read_table(folder / "validated" / "images.parquet")) == 32
    assert not (folder / "split" / "split.parquet").exists()


def test_the_search_for_label_errors_lists_and_shows_what_was_planted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    source = write_shapes(tmp_path / "source", each=30, labels=FEW)
    wrong = source / "circle" / "wrong.png"
    draw_shape("square", 99).save(wrong)
    (source / "stripes").mkdir()
    for number in range(2):
        draw_shape("stripes", number).save(source / "stripes" / f"{number}.png")
    folder = project_of(tmp_path, source, "validate.images_per_class.at_least=1", "labels.find_errors=true")
    assert validate_as_command(folder, monkeypatch) == 0
    assert "stripes too small to be searched for label errors" in capsys.readouterr().err
    listed = list(csv.DictReader(io.StringIO((folder / "validated" / "label_errors.csv").read_text())))
    assert "circle/wrong.png" in [row["path"] for row in listed]
    assert {row["label"] for row in listed} <= set(FEW)
    data_pages_in(folder)
    page = (folder / "validation.html").read_text()
    assert "circle → square?" in page
    assert page.count("data:image/png") >= len(listed) > 0
    record = read_json(folder / "validation.json")
    assert (record["classes_not_searched"], record["num_suspected"]) == (["stripes"], len(listed))
    scores = np.array([float(row["score"]) for row in listed])
    assert (np.diff(scores) <= 0).all()
