"""A row per image: a bad file is a row with its reason, never a gap."""

import io
import os
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from components.data.files.find_images import find_images
from components.data.files.image_file import ImageFile
from components.serving.batch_prediction import Row, batch_size, predict
from components.serving.onnx_classifier import OnnxClassifier
from components.serving.prediction_records import PredictionOptions
from components.shared.errors import ServiceError

BAD = {"bad_cut.jpg", "bad_empty.png", "bad_text.png", "bad_large.png"}


@pytest.fixture(scope="module")
def model(onnx_file: Path) -> OnnxClassifier:
    return OnnxClassifier(onnx_file, threads=1)


def predicted(model: OnnxClassifier, *sources: Path, workers: int = 2) -> list[Row]:
    inputs = find_images([str(source) for source in sources])
    return list(predict(inputs, model, model_name="digits v3", options=PredictionOptions(), workers=workers))


@pytest.fixture(scope="module")
def rows(model: OnnxClassifier, images: Path) -> list[Row]:
    return predicted(model, images)


def test_every_file_has_a_row_in_order(rows: list[Row], images: Path) -> None:
    expected = [str(path) for path in sorted(images.rglob("*")) if path.is_file() and path.suffix != ".txt"]
    assert [row.path for row in rows] == expected
    assert len(rows) == 75


def test_a_bad_file_has_its_reason_and_no_label(rows: list[Row]) -> None:
    bad = {Path(row.path).name: row for row in rows if row.error is not None}
    assert set(bad) == BAD
    assert all(row.prediction == {} for row in bad.values())
    assert bad["bad_empty.png"].error == "the file is empty (0 bytes)"
    assert "no image" in str(bad["bad_text.png"].error)
    assert "megapixels" in str(bad["bad_large.png"].error)
    assert "broken image" in str(bad["bad_cut.jpg"].error)


def test_a_good_file_has_the_prediction_that_it_would_have_alone(model: OnnxClassifier, rows: list[Row]) -> None:
    good = [row for row in rows if row.error is None]
    assert len({row.prediction["label"] for row in good}) > 1
    for row in good[::10]:
        logits = model.logits(model.square(Path(row.path).read_bytes())[None])
        probabilities = model.card.labels.probabilities(logits)[0]
        assert row.prediction["label"] == model.card.classes[int(probabilities.argmax())]
        assert row.prediction["probability"] == pytest.approx(float(probabilities.max()), abs=1e-5)
        assert row.model == "digits v3"


def test_the_number_of_workers_changes_nothing(model: OnnxClassifier, images: Path, rows: list[Row]) -> None:
    assert predicted(model, images, workers=1) == rows
    assert predicted(model, images, workers=5) == rows


def test_only_a_few_batches_are_read_ahead(model: OnnxClassifier, images: Path) -> None:
    content = (images / "00.png").read_bytes()
    num_read = 0

    def endless() -> Iterator[ImageFile]:
        nonlocal num_read
        while True:
            num_read += 1
            yield ImageFile(str(num_read), lambda: content)

    rows = predict(endless(), model, model_name="m", options=PredictionOptions(), workers=2)
    for done, row in enumerate(islice(rows, 1000), start=1):
        assert row.path == str(done)
        assert num_read - done <= (2 * 2 + 1) * batch_size(model)
    rows.close()


def test_a_batch_of_bad_files_gives_rows_too(model: OnnxClassifier, images: Path) -> None:
    found = predicted(model, *(images / name for name in sorted(BAD)))
    assert len(found) == 4
    assert all(row.error for row in found)


def test_a_file_that_vanishes_is_a_row(model: OnnxClassifier, images: Path, tmp_path: Path) -> None:
    file = tmp_path / "soon_gone.png"
    file.write_bytes((images / "00.png").read_bytes())
    inputs = list(find_images([str(file)]))
    file.unlink()
    (row,) = predict(inputs, model, model_name="m", options=PredictionOptions())
    assert row.error == "the file is missing"


def refused() -> bytes:
    raise ServiceError("s3://bucket: Access Denied; check the address, the network and the credentials")


def test_a_file_that_a_store_refuses_is_a_row(model: OnnxClassifier, images: Path) -> None:
    good = next(one for one in find_images([str(images)]) if Path(one.name).name not in BAD)
    inputs = [ImageFile("s3://bucket/closed.jpg", refused), good]
    closed, answered = predict(inputs, model, model_name="digits v3", options=PredictionOptions())
    assert "Access Denied" in str(closed.error)
    assert answered.error is None


def test_a_store_that_gives_nothing_of_a_batch_stops_the_run(model: OnnxClassifier) -> None:
    inputs = [ImageFile(f"s3://bucket/{number}.jpg", refused) for number in range(batch_size(model))]
    with pytest.raises(ServiceError, match="Access Denied"):
        list(predict(inputs, model, model_name="digits v3", options=PredictionOptions()))


def test_a_name_that_is_no_unicode_is_text_in_the_row(model: OnnxClassifier, images: Path, tmp_path: Path) -> None:
    (tmp_path / os.fsdecode(b"caf\xe9.png")).write_bytes((images / "00.png").read_bytes())
    (row,) = predicted(model, tmp_path)
    assert row.error is None
    assert row.path.endswith("caf\\xe9.png")


@pytest.mark.parametrize(("ending", "options"), [("gif", {}), ("png", {}), ("tif", {}), ("webp", {"lossless": True})])
def test_of_several_frames_the_first_is_classified_and_the_row_says_so(
    model: OnnxClassifier, tmp_path: Path, ending: str, options: dict[str, bool]
) -> None:
    random = np.random.default_rng(5)
    frames = [Image.fromarray(random.integers(0, 256, (20, 20, 3), np.uint8)).quantize(8).convert("RGB") for _ in "ab"]
    frames[0].save(tmp_path / f"moving.{ending}", save_all=True, append_images=frames[1:], **options)
    frames[0].save(tmp_path / f"still.{ending}", **options)
    moving, still = predicted(model, tmp_path)
    assert (moving.note, still.note) == ("only the first of several frames or pages was classified", None)
    assert moving.prediction == still.prediction


def test_a_200_megapixel_image_is_refused_before_it_is_decoded(model: OnnxClassifier, tmp_path: Path) -> None:
    stream = io.BytesIO()
    Image.new("1", (20_000, 10_000)).save(stream, "PNG")
    (tmp_path / "vast.png").write_bytes(stream.getvalue())
    (row,) = predicted(model, tmp_path)
    assert row.error == "more than 1 megapixels"
