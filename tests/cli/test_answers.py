"""What commands answer on standard output: versions, predictions, and what comes next."""

import json
import sys
from importlib.metadata import version
from pathlib import Path

import pytest
from colour_models import SIDE, colour_model
from PIL import Image
from typer.testing import CliRunner

from components.serving.prediction_records import PredictionOptions
from flows.cli import results
from flows.cli.main import app
from flows.project.baseline import Baseline
from flows.serving.predict import print_predictions


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A model file, a good image and a bad one, in no project; the working directory of the test."""
    monkeypatch.chdir(tmp_path)
    colour_model(tmp_path / "m.onnx")
    Image.new("RGB", (SIDE, SIDE), "red").save(tmp_path / "red.png")
    (tmp_path / "bad.png").write_text("no image")
    return tmp_path


def test_version_names_what_is_installed_and_imports_none_of_it() -> None:
    answer = CliRunner().invoke(app, ["--version"])
    assert answer.exit_code == 0
    assert (
        answer.stdout == f"darkroom {version('darkroom')}, Python {sys.version.split()[0]}, torch {version('torch')}\n"
    )


@pytest.mark.usefixtures("folder")
def test_predictions_in_a_pipe_are_json_lines_and_nothing_else() -> None:
    answer = CliRunner().invoke(app, ["predict", "red.png", "bad.png", "--model", "m.onnx", "--top-k", "1"])
    assert answer.exit_code == 3
    first, second = map(json.loads, answer.stdout.splitlines())
    assert (first["path"], first["label"], first["top_1"], first["error"]) == ("red.png", "red", "red", None)
    assert (second["label"], second["error"]) == (None, "the content is no image that can be read")
    with_summary = CliRunner().invoke(app, ["predict", "red.png", "--model", "m.onnx", "--json"])
    assert with_summary.exit_code == 0
    assert json.loads(with_summary.stdout.splitlines()[-1])["images"] == 1


@pytest.mark.usefixtures("folder")
def test_predictions_on_a_terminal_are_a_table(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    found = print_predictions(["red.png", "bad.png"], model="m.onnx", options=PredictionOptions())
    shown = capsys.readouterr().out
    assert (found.images, found.unreadable, found.out) == (2, 1, None)
    assert all(word in shown for word in ("predictions of m.onnx", "probability", "red.png", "no image"))
    assert "{" not in shown


@pytest.mark.parametrize(
    ("said", "commands"),
    [
        (results.prepared({"split_digest": "abc"}), ["darkroom run", "darkroom train", "darkroom set-baseline"]),
        (results.baseline(Baseline(90)), ["darkroom ingest --data SOURCE", "darkroom prepare", "darkroom run"]),
    ],
)
def test_what_comes_next_names_commands_that_exist(said: str, commands: list[str]) -> None:
    for command in commands:
        assert f"`{command}`" in said
        assert CliRunner().invoke(app, [command.split()[1], "--help"]).exit_code == 0
