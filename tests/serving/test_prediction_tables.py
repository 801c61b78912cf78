"""Tables of predictions: every row in every format, and the same bytes whether a run was broken off or not."""

import csv
import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from components.data.files.find_images import find_images
from components.data.files.image_file import ImageFile
from components.serving.batch_prediction import Row, predict
from components.serving.onnx_classifier import OnnxClassifier
from components.serving.prediction_rows import AnswerOptions, answer_columns
from components.serving.prediction_tables import (
    FORMATS,
    CsvFormat,
    Job,
    Summary,
    check_target,
    columns_of,
    write_predictions,
)
from components.shared.errors import DataError, ServiceError, SettingsError

ENDINGS = tuple(FORMATS)
OPTIONS = AnswerOptions(top_k=2, probabilities=True)


@pytest.fixture(scope="module")
def model(onnx_file: Path) -> OnnxClassifier:
    return OnnxClassifier(onnx_file, threads=1)


def job_for(model: OnnxClassifier, target: Path, **plan: Any) -> Job:
    return Job(target, columns_of(answer_columns(model.card, OPTIONS)), {"model": "m"} | plan, batch_size=4)


def answering(model: OnnxClassifier) -> Any:
    return partial(predict, model=model, model_name="m v1", options=OPTIONS, workers=2)


def silent(done: int) -> None:
    pass


def write(model: OnnxClassifier, target: Path, *sources: str, **plan: Any) -> Summary:
    return write_predictions(
        job_for(model, target, **plan), partial(find_images, sources), answering(model), told=silent
    )


def read_back(file: Path) -> list[dict[str, Any]]:
    if file.suffix == ".parquet":
        return list(pq.read_table(file).to_pylist())
    if file.suffix == ".jsonl":
        return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    with file.open(newline="", encoding="utf-8") as stream:
        found = [{name: value or None for name, value in row.items()} for row in csv.DictReader(stream)]
    numbers = {name for name in found[0] if name.startswith("probability") or name.endswith(("_probability", "_score"))}
    return [
        {name: float(value) if name in numbers and value else value for name, value in row.items()} for row in found
    ]


@pytest.mark.parametrize("ending", ENDINGS)
def test_every_format_holds_every_row(model: OnnxClassifier, images: Path, tmp_path: Path, ending: str) -> None:
    target = tmp_path / f"out{ending}"
    summary = write(model, target, str(images))
    rows = list(answering(model)(find_images([str(images)])))
    columns = columns_of(answer_columns(model.card, OPTIONS))
    assert read_back(target) == [
        {name: ({"path": row.path, **row.answer, "error": row.error, "model": row.model}).get(name) for name in columns}
        for row in rows
    ]
    assert (summary.rows, summary.unreadable, summary.taken_over) == (75, 4, 0)
    assert [Path(path).name for path, _ in summary.problems] == [
        "bad_cut.jpg",
        "bad_empty.png",
        "bad_large.png",
        "bad_text.png",
    ]
    assert [path.name for path in tmp_path.iterdir()] == [target.name]


def breaking_off(inputs: Iterator[Row], after: int) -> Iterator[Row]:
    for number, row in enumerate(inputs):
        if number == after:
            raise KeyboardInterrupt
        yield row


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("after", [0, 3, 74])
def test_a_broken_run_goes_on_to_the_same_bytes(
    model: OnnxClassifier, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ending: str, after: int
) -> None:
    monkeypatch.setattr("components.serving.prediction_tables._PART_CELLS", 100)
    whole, broken = tmp_path / f"whole{ending}", tmp_path / f"broken{ending}"
    write(model, whole, str(images))
    broken.write_text("old")
    with pytest.raises(KeyboardInterrupt):
        write_predictions(
            job_for(model, broken),
            partial(find_images, [str(images)]),
            lambda inputs: breaking_off(answering(model)(inputs), after),
            told=silent,
        )
    assert broken.read_text() == "old"
    summary = write(model, broken, str(images))
    assert summary.taken_over == after // 4 * 4
    assert (summary.rows, summary.unreadable, len(summary.problems)) == (75, 4, 4)
    assert broken.read_bytes() == whole.read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == [broken.name, whole.name]


def broken_at_40(model: OnnxClassifier, target: Path, images: Path, **plan: Any) -> None:
    with pytest.raises(KeyboardInterrupt):
        write_predictions(
            job_for(model, target, **plan),
            partial(find_images, [str(images)]),
            lambda inputs: breaking_off(answering(model)(inputs), 40),
            told=silent,
        )


def test_parts_whose_images_changed_are_answered_anew(
    model: OnnxClassifier, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("components.serving.prediction_tables._PART_CELLS", 100)
    copy = tmp_path / "images"
    copy.mkdir()
    for file in sorted(images.glob("[0-9]*.png")):
        (copy / file.name).write_bytes(file.read_bytes())
    broken_at_40(model, tmp_path / "out.csv", copy)
    (copy / "09a.png").write_bytes((copy / "09.png").read_bytes())
    summary = write(model, tmp_path / "out.csv", str(copy))
    # The tenth image stands in the third part.
    assert (summary.taken_over, summary.rows) == (8, 71)
    write(model, tmp_path / "fresh.csv", str(copy))
    assert (tmp_path / "out.csv").read_bytes() == (tmp_path / "fresh.csv").read_bytes()


def test_a_file_or_an_archive_that_was_written_over_is_answered_anew(
    model: OnnxClassifier, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("components.serving.prediction_tables._PART_CELLS", 100)
    copy, target = tmp_path / "images", tmp_path / "out.csv"
    copy.mkdir()
    for file in sorted(images.glob("[0-9]*.png")):
        (copy / file.name).write_bytes(file.read_bytes())
    broken_at_40(model, target, copy)
    (copy / "13.png").write_bytes((copy / "50.png").read_bytes())
    # The fourteenth image stands in the fourth part.
    assert write(model, target, str(copy)).taken_over == 12

    archive = Path(shutil.make_archive(str(tmp_path / "images"), "zip", copy))
    broken_at_40(model, target, archive)
    os.utime(archive, ns=(0, 0))
    assert write(model, target, str(archive)).taken_over == 0


def test_another_plan_begins_anew(
    model: OnnxClassifier, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("components.serving.prediction_tables._PART_CELLS", 100)
    broken_at_40(model, tmp_path / "out.csv", images)
    assert write(model, tmp_path / "out.csv", str(images), options="others").taken_over == 0


def test_two_runs_do_not_write_the_same_table(
    model: OnnxClassifier, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "out.csv"

    def meanwhile(inputs: Iterator[ImageFile]) -> Iterator[Row]:
        with pytest.raises(ServiceError, match=r"another run writes .*out\.csv right now"):
            write(model, target, str(images))
        yield from answering(model)(inputs)

    write_predictions(job_for(model, target), partial(find_images, [str(images)]), meanwhile, told=silent)
    assert len(read_back(target)) == 75


def test_nothing_to_predict_leaves_nothing(model: OnnxClassifier, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="no images in"):
        write(model, tmp_path / "out.csv", str(tmp_path / "empty"))
    assert [path.name for path in tmp_path.iterdir()] == ["empty"]


def test_a_table_that_cannot_be_written_is_one_sentence_and_what_is_done_is_kept(
    model: OnnxClassifier, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("components.serving.prediction_tables._PART_CELLS", 100)
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(ServiceError, match=r"--out .*file/out\.csv can't be written: .*; make room or allow it"):
        write(model, tmp_path / "file" / "out.csv", str(images))
    target, write_part, left = tmp_path / "out.csv", CsvFormat.write_part, iter("ab")

    def full(*arguments: Any) -> None:
        if next(left, None) is None:
            raise OSError(errno.ENOSPC, "No space left on device")
        write_part(*arguments)

    monkeypatch.setattr(CsvFormat, "write_part", full)
    with pytest.raises(ServiceError, match="No space left on device; make room or allow it, and call again to go on"):
        write(model, target, str(images))
    assert not target.exists()
    monkeypatch.setattr(CsvFormat, "write_part", write_part)
    assert write(model, target, str(images)).taken_over == 8


def test_progress_reaches_the_number_of_images(model: OnnxClassifier, images: Path, tmp_path: Path) -> None:
    told: list[int] = []
    inputs = partial(find_images, [str(images)])
    write_predictions(job_for(model, tmp_path / "out.csv"), inputs, answering(model), told=told.append)
    assert told == list(range(76))


@pytest.mark.parametrize(("name", "said"), [("out.xlsx", r"\.xlsx should be one of \.csv"), ("out", r"\(none\)")])
def test_another_ending_is_refused_before_any_work(tmp_path: Path, name: str, said: str) -> None:
    with pytest.raises(SettingsError, match=said):
        check_target(tmp_path / name)


def command(source: Path, target: Path, model: Path) -> list[str]:
    words = ["predict", str(source), "--out", str(target), "--model", str(model), "--top-k", "2"]
    return [sys.executable, "-m", "flows.cli.main", *words]


def test_a_killed_command_goes_on_to_the_same_bytes(onnx_file: Path, images: Path, tmp_path: Path) -> None:
    table = tmp_path / "list.csv"
    files = [str(file) for file in sorted(images.glob("*.png"))]
    table.write_text("path\n" + "\n".join((files * 100)[:4500]) + "\n")
    whole, killed = tmp_path / "whole.parquet", tmp_path / "killed.parquet"
    process = subprocess.Popen(command(table, killed, onnx_file), stderr=subprocess.DEVNULL)
    second_part = tmp_path / ".killed.parquet.parts" / "000001.json"
    deadline = time.monotonic() + 60
    while not second_part.exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert second_part.exists()
    assert not killed.exists()
    again = subprocess.run(command(table, killed, onnx_file), capture_output=True, text=True)
    assert again.returncode == 3, again.stderr
    assert "went on after" in again.stderr
    assert "unreadable: " in again.stderr
    assert subprocess.run(command(table, whole, onnx_file), capture_output=True).returncode == 3
    assert killed.read_bytes() == whole.read_bytes()
