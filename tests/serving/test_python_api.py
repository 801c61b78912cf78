"""`import darkroom`: a model that answers paths, bytes, images of Pillow's and arrays alike."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from colour_models import COLOURS, SIDE, colour_model
from PIL import Image
from projects import REPOSITORY, isolate, new_project
from registered import promoted_version

import darkroom
from components.serving.onnx_classifier import OnnxClassifier
from flows.tracking.packaging import write_package

_HEAVY = ("torch", "torchvision", "lightning", "prefect", "dvc", "mlflow", "albumentations", "sklearn")
_LIGHT = f"""
import sys
import darkroom
print(darkroom.load(sys.argv[1])(sys.argv[2]).label, sorted(set({_HEAVY!r}) & set(sys.modules)))
"""


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return colour_model(tmp_path_factory.mktemp("model") / "m.onnx")


@pytest.fixture(scope="module")
def model(file: Path) -> darkroom.Model:
    return darkroom.load(file)


@pytest.fixture(scope="module")
def photo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pixels = np.random.default_rng(0).integers(0, 60, (SIDE + 9, SIDE + 4, 3), dtype=np.uint8)
    pixels[..., 1] += 120
    path = tmp_path_factory.mktemp("photos") / "green.png"
    Image.fromarray(pixels).save(path)
    return path


def _forms(photo: Path) -> dict[str, Any]:
    with Image.open(photo) as opened:
        image = opened.convert("RGB")
    return {
        "path": photo,
        "text": str(photo),
        "bytes": photo.read_bytes(),
        "image": image,
        "image with alpha": image.convert("RGBA"),
        "array": np.asarray(image),
        "strided array": np.asarray(image)[:, ::-1][:, ::-1],
    }


def test_every_form_of_an_image_gets_the_same_answer(model: darkroom.Model, photo: Path) -> None:
    forms = _forms(photo)
    answers = {name: model(form) for name, form in forms.items()}
    first = answers["path"]
    assert all(answer == first for answer in answers.values()), answers
    assert list(model.predict(list(forms.values()) * 5)) == [first] * 5 * len(forms)
    assert (first.label, first.labels, first.levels, first.note) == ("green", ("green",), {}, None)
    assert (first.out_of_distribution, first.answer, first.sure, first.prediction_set) == (None, None, None, None)
    assert list(first.probabilities) == list(COLOURS) == model.classes
    assert first.probabilities["green"] == first.probability == pytest.approx(1.0, abs=1e-3)
    assert first.model == model.name
    assert model.sha256[:12] in model.name


def test_a_rotated_photo_is_upright_in_every_form(model: darkroom.Model, tmp_path: Path) -> None:
    pixels = np.zeros((SIDE, 2 * SIDE, 3), np.uint8)
    pixels[:, SIDE // 2 : SIDE, 0], pixels[:, SIDE:, 2] = 250, 200
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(pixels).save(tmp_path / "r.png", exif=exif)
    with Image.open(tmp_path / "r.png") as opened:
        assert model(opened) == model(tmp_path / "r.png") == model(np.rot90(pixels, -1))


def test_what_the_model_is_sure_of_is_answered_where_its_file_says_so(onnx_file: Path) -> None:
    answer = darkroom.load(onnx_file)(Image.new("RGB", (16, 16), "grey"))
    record = OnnxClassifier(onnx_file).card.decision_rule
    assert (answer.out_of_distribution is None) == (record.ood_threshold is None)
    assert record.set_thresholds is not None
    assert isinstance(answer.sure, bool)
    assert answer.answer
    assert answer.prediction_set is not None
    assert set(answer.prediction_set) <= set(answer.probabilities)


def test_grey_pixels_are_an_image_too(model: darkroom.Model) -> None:
    grey = np.full((SIDE, SIDE), 90, np.uint8)
    assert model(grey) == model(np.repeat(grey[..., None], 3, axis=2))


def test_the_first_frame_of_an_animation_is_noted(model: darkroom.Model, tmp_path: Path) -> None:
    frames = [Image.new("RGB", (SIDE, SIDE), colour) for colour in ("red", "blue")]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    answer = model(tmp_path / "a.gif")
    assert (answer.label, answer.note) == ("red", "only the first of several frames or pages was classified")


@pytest.mark.parametrize(
    ("image", "error", "sentence"),
    [
        ("gone.png", darkroom.DataError, "gone.png: can't be read: No such file"),
        (b"no image", darkroom.UndecodableImage, "the content is no image"),
        (b"", darkroom.UndecodableImage, "the file is empty"),
        (Image.new("1", (2000, 1000)), darkroom.UndecodableImage, "2 megapixels, more than 1"),
        (Image.new("F", (8, 8)), darkroom.UndecodableImage, "floating-point pixels"),
        (np.zeros((8, 8, 3), np.float32), darkroom.DataError, "pixels are float32 of"),
        (np.zeros((8, 8, 4), np.uint8), darkroom.DataError, "should be uint8 of"),
        (np.zeros((0, 8, 3), np.uint8), darkroom.DataError, "should be uint8 of"),
        (7, darkroom.DataError, "int is no image"),
        (None, darkroom.DataError, "NoneType is no image"),
    ],
)
def test_what_is_no_image_is_named(model: darkroom.Model, image: Any, error: type[Exception], sentence: str) -> None:
    with pytest.raises(error, match=sentence):
        model(image)


def test_the_champion_of_a_project_is_loaded_from_anywhere(
    file: Path, photo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    isolate(monkeypatch)
    package = write_package(file, tmp_path / "package")
    folders = [new_project(tmp_path / name) for name in ("one", "two")]
    promoted_version(folders[0], package)
    monkeypatch.chdir(tmp_path)
    for model in (None, "models:/digits@champion", "digits@champion", "digits/1"):
        assert darkroom.load(model, project=folders[0])(photo).model == "models:/digits/1"
    with pytest.raises(darkroom.SettingsError, match="digits has no version yet"):
        darkroom.load(project=folders[1])
    with pytest.raises(darkroom.SettingsError, match="is no Darkroom project"):
        darkroom.load()


def test_nothing_that_only_training_needs_is_imported(file: Path, photo: Path) -> None:
    answer = subprocess.run(
        [sys.executable, "-c", _LIGHT, str(file), str(photo)],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert answer.stdout == "green []\n", answer.stderr
