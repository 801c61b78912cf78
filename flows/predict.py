"""Classify images with a registered model or an ONNX file. Imports neither torch nor Prefect."""

from collections.abc import Iterator
from pathlib import Path

from components.errors import SettingsError
from components.serving.classifier import OnnxClassifier
from components.serving.prediction import Row, find_images, predict, writer_for
from flows.console import progress
from flows.project import open_project
from flows.tracking import registry
from flows.tracking.runs import open_tracking

_SCHEME = "models:/"


def predict_files(paths: list[str], *, out: Path, model: str | None) -> tuple[int, int, str]:
    """Writes a row an image; returns how many, how many of them could not be read, and the model's name."""
    write = writer_for(out)
    files = find_images(paths)
    classifier, name = _open_model(model)
    unreadable = 0

    def counted() -> Iterator[Row]:
        nonlocal unreadable
        for row in predict(files, classifier, model_name=name, progress=progress()):
            unreadable += row.error is not None
            yield row

    return write(counted()), unreadable, name


def _open_model(model: str | None) -> tuple[OnnxClassifier, str]:
    """An .onnx file, models:/NAME@ALIAS or models:/NAME/VERSION; by default the project's champion."""
    if model is not None and not model.startswith(_SCHEME):
        return OnnxClassifier(Path(model)), model
    project = open_project()
    from flows.params import read_params

    name = read_params(project.params).register.name
    wanted = registry.CHAMPION
    if model is not None:
        name, wanted = _parse(model)
    tracking = open_tracking(project, name)
    version = registry.get_version(tracking, name, wanted)
    file = registry.fetch_model(tracking, version)
    return OnnxClassifier(file, expected_sha256=version.sha256), f"{_SCHEME}{name}/{version.number}"


def _parse(model: str) -> tuple[str, str]:
    text = model.removeprefix(_SCHEME)
    name, separator, wanted = text.partition("@") if "@" in text else text.partition("/")
    if not separator or not name or not wanted:
        raise SettingsError(f"--model {model}: should read models:/NAME@ALIAS or models:/NAME/VERSION")
    return name, wanted
