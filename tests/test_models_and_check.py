"""`report`, `models` and `check` as commands, before there is anything and after one real, tiny run."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from projects import isolate, new_project, write_shapes
from ruamel.yaml import YAML

from components.errors import SettingsError
from flows.listing import show_table
from flows.models import list_models
from flows.report import write_report

Darkroom = Callable[..., subprocess.CompletedProcess[str]]

_TINY = (
    "model.architecture=lenet5",
    "train.epochs=1",
    "finetune.epochs=0",
    "augment.copies=0",
    "quantize.latency_runs=20",
    "promote.floors={accuracy: 0.0, macro_f1: 0.0}",
)
_HOSTILE = "<i>stripes"
_OURS = ("MLFLOW_TRACKING_URI", "PREFECT_API_URL", "DARKROOM_HOME", "PREFECT_HOME")


def call(folder: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if name not in _OURS} | variables
    return subprocess.run(
        [sys.executable, "-m", "flows.cli", *arguments],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )


def last_line(answer: subprocess.CompletedProcess[str]) -> Any:
    return json.loads(answer.stdout.splitlines()[-1])


def by_name(record: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {check["name"]: check for check in record["checks"]}


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, prefect_api: str) -> tuple[Path, dict[str, Any]]:
    """A project with one judged version, made once for this module, and what its run answered."""
    root = tmp_path_factory.mktemp("trained")
    folder, shapes = new_project(root / "project"), write_shapes(root / "shapes", each=25)
    (shapes / "stripes").rename(shapes / _HOSTILE)
    (shapes / "circle" / "broken.png").write_bytes(b"no image")
    settings = [part for setting in _TINY for part in ("--set", setting)]
    answer = call(folder, "run", "--data", str(shapes), *settings, "--json", PREFECT_API_URL=prefect_api)
    assert answer.returncode == 0, answer.stderr
    return folder, last_line(answer)


@pytest.fixture
def inside(trained: tuple[Path, dict[str, Any]], monkeypatch: pytest.MonkeyPatch) -> Path:
    """The trained project as the working directory, for calls that need no process of their own."""
    folder, _ = trained
    monkeypatch.chdir(folder)
    isolate(monkeypatch)
    return folder


@pytest.fixture(scope="module")
def page(trained: tuple[Path, dict[str, Any]]) -> str:
    folder, _ = trained
    answer = call(folder, "report", "--out", "pages/report.html")
    assert answer.returncode == 0, answer.stderr
    return (folder / "pages" / "report.html").read_text(encoding="utf-8")


def test_nothing_trained_is_said_and_leaves_nothing_behind(darkroom: Darkroom, project_folder: Path) -> None:
    before = sorted(project_folder.rglob("*.db"))
    report = darkroom("report", "--out", "report.html")
    assert report.returncode == 2
    assert "darkroom run" in report.stderr
    assert "Traceback" not in report.stderr
    assert not (project_folder / "report.html").exists()
    models = darkroom("models")
    assert models.returncode == 0
    assert "no registered version yet" in models.stdout
    assert last_line(darkroom("models", "--json")) == {
        "name": "digits",
        "champion": None,
        "challenger": None,
        "previous": None,
        "versions": [],
        "ledger": [],
    }
    assert sorted(project_folder.rglob("*.db")) == before


def test_models_lists_the_version_as_the_run_told_of_it(trained: tuple[Path, dict[str, Any]]) -> None:
    folder, told = trained
    record = last_line(call(folder, "models", "--json"))
    (version,) = record["versions"]
    assert record["champion"] == version["version"] == told["version"]
    assert version["aliases"] == ["champion"]
    assert version["served"] == told["served"]
    assert version["accuracy"] == pytest.approx(told["metrics"][f"onnx_{told['served']}"]["accuracy"], abs=1e-6)
    assert version["bytes"] == told["bytes"]
    assert (version["verdict"], version["reason"]) == ("promoted", told["reasons"][0])
    assert version["run_id"] == told["run_id"]
    (entry,) = record["ledger"]
    assert (entry["number"], entry["action"], entry["version"]) == (1, "promoted", told["version"])


@pytest.mark.usefixtures("inside")
def test_models_is_shown_as_plain_lines_where_there_is_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    record = list_models(show=True)
    lines = capsys.readouterr().out.splitlines()
    (row,) = [line for line in lines if record["versions"][0]["run_id"][:12] in line]
    assert "@champion" in row
    assert not [line for line in lines if "\x1b" in line]


def test_the_page_tells_what_the_run_told(trained: tuple[Path, dict[str, Any]], page: str) -> None:
    _, told = trained
    served = told["metrics"][f"onnx_{told['served']}"]
    assert f"{served['accuracy']:.4f}" in page
    assert f"{served['macro_f1']:.4f}" in page
    for known in (told["run_id"], told["data_version"], told["split_digest"], f"{told['bytes']:,}", *told["reasons"]):
        assert known in page
    assert "circle/broken.png" in page
    assert "It serves now, as @champion." in page
    assert "What could not be read" not in page


def test_a_class_named_like_markup_stays_text(page: str) -> None:
    assert "<i>stripes" not in page
    assert "&lt;i&gt;stripes" in page


def test_mistakes_are_single_pictures_while_the_data_is_at_hand_and_a_sheet_when_it_is_not(
    inside: Path, page: str
) -> None:
    assert 'class="errors"' in page
    raw = inside / "data" / "raw"
    raw.rename(inside / "data" / "elsewhere")
    try:
        without = write_report(Path("without.html")).read_text(encoding="utf-8")
    finally:
        (inside / "data" / "elsewhere").rename(raw)
    assert 'class="errors"' not in without
    assert "got most surely wrong" in without


@pytest.mark.usefixtures("inside")
def test_a_page_that_cannot_be_written_is_one_sentence() -> None:
    with pytest.raises(SettingsError, match=r"data can't be written .*give --out a file"):
        write_report(Path("data"))


def test_check_finds_a_sound_project_fit(trained: tuple[Path, dict[str, Any]]) -> None:
    folder, told = trained
    answer = call(folder, "check", "--json")
    record = last_line(answer)
    assert answer.returncode == 0
    assert record["fit"] is True
    assert not [check for check in record["checks"] if check["state"] == "bad"]
    found = by_name(record)
    assert told["data_version"][:12] in found["data"]["found"]
    assert "lenet5" in found["architecture"]["found"]


def test_check_names_every_problem_at_once_and_changes_nothing(
    trained: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    folder = tmp_path / "broken"
    shutil.copytree(trained[0], folder, ignore=shutil.ignore_patterns(".git", ".darkroom", "cache", "raw"))
    params = YAML(typ="safe", pure=True).load((folder / "params.yaml").read_text(encoding="utf-8"))
    params["model"] |= {"architecture": "lenet6", "weights": "gone.pth"}
    params["train"]["batch_size"] = -1
    params["evaluate"]["topk"] = params["evaluate"].pop("top_k")
    YAML(typ="safe", pure=True).dump(params, folder / "params.yaml")
    (folder / "dvc.yaml").write_text("stages: {}\n", encoding="utf-8")
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*") if "__pycache__" not in path.parts}
    answer = call(
        folder,
        "check",
        "--json",
        MLFLOW_TRACKING_URI="http://somebody:hidden@127.0.0.1:9",
        PREFECT_API_URL="http://127.0.0.1:9/api",
    )
    record = last_line(answer)
    assert answer.returncode == 2
    assert record["fit"] is False
    bad = [check for check in record["checks"] if check["state"] == "bad"]
    assert {check["name"] for check in bad} >= {
        "parameters",
        "architecture",
        "weights",
        "pipeline",
        "dvc",
        "tracking",
        "prefect",
    }
    assert all(check["remedy"] for check in bad)
    told = " ".join(check["found"] for check in bad)
    for word in ("train.batch_size", "did you mean top_k?", "did you mean lenet5?", "gone.pth", "127.0.0.1:9"):
        assert word in told
    assert "hidden" not in answer.stdout + answer.stderr
    after = {path: path.stat().st_mtime_ns for path in folder.rglob("*") if "__pycache__" not in path.parts}
    assert after == before


def test_check_outside_of_a_project_says_where_to_go(tmp_path: Path) -> None:
    repository = Path(__file__).resolve().parents[1]
    answer = call(tmp_path, "check", PYTHONPATH=str(repository))
    assert answer.returncode == 2
    assert "go to a folder that holds params.yaml and dvc.yaml" in answer.stdout
    assert "gpu" in answer.stdout


def test_a_name_from_outside_cannot_steer_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    show_table("versions", ("name", "reason"), [("[red]x[/red]", "\x1b[2J wiped")])
    shown = capsys.readouterr().out
    assert "\x1b" not in shown
    assert "[red]x[/red]" in shown
