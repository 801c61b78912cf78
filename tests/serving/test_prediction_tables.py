"""Tables of predictions: every row in every format, and the same bytes whether a run was interrupted or not."""

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
from components.serving.prediction_records import PredictionOptions, prediction_columns
from components.serving.prediction_tables import (
    PredictionJob,
    Summary,
    check_target,
    table_columns,
    write_predictions,
)
from components.serving.table_formats import FORMATS, CsvFormat
from components.shared.errors import DataError, ServiceError, SettingsError

ENDINGS = tuple(FORMATS)
OPTIONS = PredictionOptions(top_k=2, probabilities=True)


@pytest.fixture(scope="module")
def model(onnx_file: Path) -> OnnxClassifier:
    return OnnxClassifier(onnx_file, threads=1)


def job_for(model: OnnxClassifier, target: Path, **plan: Any) -> PredictionJob:
    return PredictionJob(
        target, table_columns(prediction_columns(model.card, OPTIONS)), {"model": "m"} | plan, batch_size=4
    )


def predicting(model: OnnxClassifier) -> Any:
    return partial(predict, model=model, model_name="m v1", options=OPTIONS, workers=2)


def silent(done: int) -> None:
    pass


def write(model: OnnxClassifier, target: Path, *sources: str, **plan: Any) -> Summary:
    return write_predictions(
        job_for(model, target, **plan), partial(find_images, sources), predicting(model), on_progress=silent
    )


def read_back(file: Path) -> list[dict[str, Any]]:
    if file.suffix == ".parquet":
        return list(pq.read_table(file).to_pylist())
    if file.suffix == ".jsonl":
        return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    with file.open(newline="", encoding="utf-8") as stream:
        found = [{name: value or None for name, value in row.items()} for row in csv.DictReader(stream)]
    numbers = {name for name in found[0] if name.startswith("probability") or name.endswith(("_probability", "_score"))}
    truths: dict[str | None, Any] = {"True": True, "False": False}
    return [
        {name: float(value) if name in numbers and value else truths.get(value, value) for name, value in row.items()}
        for row in found
    ]


@pytest.mark.parametrize("ending", ENDINGS)
def test_every_format_holds_every_row(model: OnnxClassifier, images: Path, tmp_path: Path, ending: str) -> None:
    target = tmp_path / f"out{ending}"
    summary = write(model, target, str(images))
    rows = list(predicting(model)(find_images([str(images)])))
    columns = table_columns(prediction_columns(model.card, OPTIONS))
    expected = [
        {
            name: ({"path": row.path, **row.prediction, "error": row.error, "model": row.model}).get(name)
            for name in columns
        }
        for row in rows
    ]
    # An empty cell of a CSV may be no text or an empty one.
    empty = "" if ending == ".csv" else None
    assert read_back(target) == [
        {name: None if value == empty else value for name, value in row.items()} for row in expected
    ]
    assert (summary.rows, summary.unreadable, summary.reused) == (75, 4, 0)
    assert [Path(path).name for path, _ in summary.problems] == [
        "bad_cut.jpg",
        "bad_empty.png",
        "bad_large.png",
        "bad_text.png",
    ]
    assert [path.name for path in tmp_path.iterdir()] == [target.name]


def interrupting(inputs: Iterator[Row], after: int) -> Iterator[Row]:
    for number, row in enumerate(inputs):
        if number == after:
            raise KeyboardInterrupt
        yield row


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("after", [0, 3, 74])
def test_an_interrupted_run_resumes_to_the_same_bytes(
    model: OnnxClassifier, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ending: str, after: int
) -> None:
    monkeypatch.setattr("components.serving.prediction_tables._CELLS_PER_CHUNK", 100)
    whole, broken = tmp_path / f"whole{ending}", tmp_path / f"broken{ending}"
    write(model, whole, str(images))
    broken.write_text("old")
    with pytest.raises(KeyboardInterrupt):
        write_predictions(
            job_for(model, broken),
            partial(find_images, [str(images)]),
            lambda inputs: interrupting(predicting(model)(inputs), after),
            on_progress=silent,
        )
    assert broken.read_text() == "old"
    summary = write(model, broken, str(images))
    assert summary.reused == after // 4 * 4
    assert (summary.rows, summary.unreadable, len(summary.problems)) == (75, 4, 4)
    assert broken.read_bytes() == whole.read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == [broken.name, whole.name]


def interrupted_at_40(model: OnnxClassifier, target: Path, images: Path, **plan: Any) -> None:
    with pytest.raises(KeyboardInterrupt):
        write_predictions(
            job_for(model, target, **plan),
            partial(find_images, [str(images)]),
            lambda inputs: interrupting(predicting(model)(inputs), 40),
            on_progress=silent,
        )


def test_chunks_whose_images_changed_are_predicted_again(
    model: OnnxClassifier, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("components.serving.prediction_tables._CELLS_PER_CHUNK", 100)
    copy = tmp_path / "images"
    copy.mkdir()
    for file in sorted(images.glob("[0-9]*.png")):
        (copy / file.name).write_bytes(file.read_bytes())
    interrupted_at_40(model, tmp_path / "out.csv", copy)
    (copy / "09a.png").write_bytes((copy / "09.png").read_bytes())
    summary = write(model, tmp_path / "out.csv", str(copy))
    # The tenth image is in the third chunk.
    assert (summary.reused, summary.rows) == (8, 71)
    write(model, tmp_path / "fresh.csv", str(copy))
    assert (tmp_path / "out.csv").read_bytes() == (tmp_path / "fresh.csv").read_bytes()


def test_an_overwritten_file_or_archive_is_predicted_again(
    model: OnnxClassifier, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("components.serving.prediction_tables._CELLS_PER_CHUNK", 100)
    copy, target = tmp_path / "images", tmp_path / "out.csv"
    copy.mkdir()
    for file in sorted(images.glob("[0-9]*.png")):
        (copy / file.name).write_bytes(file.read_bytes())
    interrupted_at_40(model, target, copy)
    (copy / "13.png").write_bytes((copy / "50.png").read_bytes())
    # The fourteenth image is in the fourth chunk.
    assert write(model, target, str(copy)).reused == 12

    archive = Path(shutil.make_archive(str(tmp_path / "images"), "zip", copy))
    interrupted_at_40(model, target, archive)
    os.utime(archive, ns=(0, 0))
    assert write(model, target, str(archive)).reused == 0


def test_another_plan_reuses_nothing(
    model: OnnxClassifier, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("components.serving.prediction_tables._CELLS_PER_CHUNK", 100)
    interrupted_at_40(model, tmp_path / "out.csv", images)
    assert write(model, tmp_path / "out.csv", str(images), options="others").reused == 0


def test_two_runs_do_not_write_the_same_table(
    model: OnnxClassifier, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "out.csv"

    def meanwhile(inputs: Iterator[ImageFile]) -> Iterator[Row]:
        with pytest.raises(ServiceError, match=r"another run is writing .*out\.csv; wait"):
            write(model, target, str(images))
        yield from predicting(model)(inputs)

    write_predictions(job_for(model, target), partial(find_images, [str(images)]), meanwhile, on_progress=silent)
    assert len(read_back(target)) == 75


def test_nothing_to_predict_leaves_nothing(model: OnnxClassifier, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="no images in"):
        write(model, tmp_path / "out.csv", str(tmp_path / "empty"))
    assert [path.name for path in tmp_path.iterdir()] == ["empty"]


def test_a_table_that_cannot_be_written_is_one_sentence_and_finished_rows_are_kept(
    model: OnnxClassifier, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("components.serving.prediction_tables._CELLS_PER_CHUNK", 100)
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(
        ServiceError, match=r"--out .*file/out\.csv can't be written: .*; free some space or permit writing"
    ):
        write(model, tmp_path / "file" / "out.csv", str(images))
    target, write_chunk, left = tmp_path / "out.csv", CsvFormat.write_chunk, iter("ab")

    def full(*arguments: Any) -> None:
        if next(left, None) is None:
            raise OSError(errno.ENOSPC, "No space left on device")
        write_chunk(*arguments)

    monkeypatch.setattr(CsvFormat, "write_chunk", full)
    with pytest.raises(ServiceError, match=r"No space left on device; free some space .* run the same command again"):
        write(model, target, str(images))
    assert not target.exists()
    monkeypatch.setattr(CsvFormat, "write_chunk", write_chunk)
    assert write(model, target, str(images)).reused == 8


def test_progress_reaches_the_number_of_images(model: OnnxClassifier, images: Path, tmp_path: Path) -> None:
    reported: list[int] = []
    inputs = partial(find_images, [str(images)])
    write_predictions(job_for(model, tmp_path / "out.csv"), inputs, predicting(model), on_progress=reported.append)
    assert reported == list(range(76))


@pytest.mark.parametrize(("name", "message"), [("out.xlsx", r"\.xlsx should be one of \.csv"), ("out", r"\(none\)")])
def test_an_unknown_extension_is_refused_before_any_work(tmp_path: Path, name: str, message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        check_target(tmp_path / name)


def command(source: Path, target: Path, model: Path) -> list[str]:
    words = ["predict", str(source), "--out", str(target), "--model", str(model), "--top-k", "2"]
    return [sys.executable, "-m", "flows.cli.main", *words]


def test_a_killed_command_resumes_to_the_same_bytes(onnx_file: Path, images: Path, tmp_path: Path) -> None:
    table = tmp_path / "list.csv"
    files = [str(file) for file in sorted(images.glob("*.png"))]
    table.write_text("path\n" + "\n".join((files * 100)[:4500]) + "\n")
    whole, killed = tmp_path / "whole.parquet", tmp_path / "killed.parquet"
    process = subprocess.Popen(command(table, killed, onnx_file), stderr=subprocess.DEVNULL)
    second_chunk = tmp_path / ".killed.parquet.chunks" / "000001.json"
    deadline = time.monotonic() + 60
    while not second_chunk.exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert second_chunk.exists()
    assert not killed.exists()
    again = subprocess.run(command(table, killed, onnx_file), capture_output=True, text=True)
    assert again.returncode == 3, again.stderr
    assert "resumed: " in again.stderr
    assert "unreadable: " in again.stderr
    assert subprocess.run(command(table, whole, onnx_file), capture_output=True).returncode == 3
    assert killed.read_bytes() == whole.read_bytes()
