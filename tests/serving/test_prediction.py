"""Image files in, a row each out: a bad file is a row with its reason, never a gap."""

import csv
import json
import os
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from components.errors import DataError, SettingsError
from components.progress import silent
from components.serving.classifier import OnnxClassifier
from components.serving.prediction import FORMATS, Row, find_images, predict, writer_for

BAD = {"bad_cut.jpg", "bad_empty.png", "bad_text.png", "bad_large.png"}


@pytest.fixture(scope="module")
def model(onnx_file: Path) -> OnnxClassifier:
    return OnnxClassifier(onnx_file)


@pytest.fixture(scope="module")
def rows(model: OnnxClassifier, images: Path) -> list[Row]:
    return list(predict(find_images([str(images)]), model, model_name="digits v3", progress=silent))


def test_every_file_has_a_row_in_order(rows: list[Row], images: Path) -> None:
    expected = [str(path) for path in sorted(images.rglob("*")) if path.is_file() and path.suffix != ".txt"]
    assert [row.path for row in rows] == expected
    assert len(rows) == 75


def test_a_bad_file_has_its_reason_and_no_label(rows: list[Row]) -> None:
    bad = {Path(row.path).name: row for row in rows if row.error is not None}
    assert set(bad) == BAD
    assert all(row.label is None and row.probability is None for row in bad.values())
    assert bad["bad_empty.png"].error == "the file is empty (0 bytes)"
    assert "no image" in str(bad["bad_text.png"].error)
    assert "megapixels" in str(bad["bad_large.png"].error)
    assert "broken image" in str(bad["bad_cut.jpg"].error)


def test_a_good_file_has_the_answer_that_it_would_have_alone(model: OnnxClassifier, rows: list[Row]) -> None:
    good = [row for row in rows if row.error is None]
    assert len({row.label for row in good}) > 1
    for row in good[::10]:
        shares = model.card.labels.probabilities(model.logits(model.square(Path(row.path).read_bytes())[None]))[0]
        assert row.label == model.card.classes[int(shares.argmax())]
        assert row.probability == pytest.approx(float(shares.max()), abs=1e-5)
        assert row.model == "digits v3"


def test_bad_files_alone_are_answered_too(model: OnnxClassifier, images: Path) -> None:
    found = list(predict([images / name for name in sorted(BAD)], model, model_name="m", progress=silent))
    assert len(found) == 4
    assert all(row.error for row in found)


def test_a_file_that_vanishes_is_a_row(model: OnnxClassifier, tmp_path: Path) -> None:
    (row,) = predict([tmp_path / "gone.png"], model, model_name="m", progress=silent)
    assert "No such file" in str(row.error)


def test_progress_reaches_the_number_of_files(model: OnnxClassifier, images: Path) -> None:
    told: list[tuple[int, int]] = []
    files = find_images([str(images)])
    list(predict(files, model, model_name="m", progress=lambda _, done, total: told.append((done, total))))
    assert told == [(64, 75), (75, 75)]


def read_back(file: Path) -> list[dict[str, object]]:
    if file.suffix == ".parquet":
        return list(pq.read_table(file).to_pylist())
    if file.suffix == ".jsonl":
        return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    with file.open(newline="", encoding="utf-8") as stream:
        found = [{name: value or None for name, value in row.items()} for row in csv.DictReader(stream)]
    return [row | {"probability": float(row["probability"]) if row["probability"] else None} for row in found]


@pytest.mark.parametrize("ending", FORMATS)
def test_every_format_holds_every_row(rows: list[Row], tmp_path: Path, ending: str) -> None:
    target = tmp_path / f"out{ending}"
    assert writer_for(target)(rows) == 75
    assert read_back(target) == [asdict(row) for row in rows]


@pytest.mark.parametrize("ending", FORMATS)
def test_a_failure_leaves_the_old_file(rows: list[Row], tmp_path: Path, ending: str) -> None:
    def cut() -> Iterator[Row]:
        yield from rows[:5]
        raise KeyboardInterrupt

    target = tmp_path / f"out{ending}"
    target.write_text("old")
    with pytest.raises(KeyboardInterrupt):
        writer_for(target)(cut())
    assert target.read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == [target.name]


def test_another_ending_is_refused_before_any_work(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"out\.xlsx: the ending \.xlsx should be one of \.csv"):
        writer_for(tmp_path / "out.xlsx")
    with pytest.raises(SettingsError, match=r"\(none\)"):
        writer_for(tmp_path / "out")


def test_images_are_found_in_folders_and_taken_as_named(images: Path) -> None:
    found = find_images([str(images / "notes.txt"), str(images / "sub")])
    assert [path.name for path in found] == ["notes.txt", 'ä, "b".JPG']


def test_a_missing_path_and_an_empty_folder_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="nowhere: no such file or folder"):
        find_images([str(tmp_path / "nowhere")])
    with pytest.raises(DataError, match="no images below"):
        find_images([str(tmp_path)])


@pytest.mark.parametrize("ending", FORMATS)
def test_a_name_that_is_no_unicode_is_a_row_like_any_other(
    model: OnnxClassifier, images: Path, tmp_path: Path, ending: str
) -> None:
    name = os.fsdecode(b"caf\xe9.png")
    (tmp_path / name).write_bytes((images / "00.png").read_bytes())
    found = predict(find_images([str(tmp_path)]), model, model_name="m", progress=silent)
    assert writer_for(tmp_path / f"out{ending}")(found) == 1
    (row,) = read_back(tmp_path / f"out{ending}")
    assert row["error"] is None
    assert str(row["path"]).endswith("caf\\xe9.png")


def test_probabilities_are_shares(rows: list[Row]) -> None:
    values = np.array([row.probability for row in rows if row.probability is not None])
    assert ((values > 1 / 3) & (values <= 1)).all()
