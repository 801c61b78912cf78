"""A model step's fingerprint: another one when something that the step depends on is another, else the same."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from projects import REPOSITORY

from flows.project.fingerprint import fingerprint, imported_modules

ROOT = "components.export.format_choice"

ASKED = """
import json, sys
from flows.project.fingerprint import fingerprint, imported_modules
modules = sorted(imported_modules((sys.argv[1],)))
mark = fingerprint("step", inputs={}, settings={}, code=(sys.argv[1],), packages=())
heavy = sorted({"torch", "lightning", "prefect", "mlflow", "numpy"} & set(sys.modules))
print(json.dumps({"modules": modules, "mark": mark, "heavy": heavy}))
"""


def ask(folder: Path, root: str = ROOT) -> dict[str, Any]:
    """In a process of its own, for the code of `folder` and not of this repository."""
    command = [sys.executable, "-c", ASKED, root]
    answer = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True, timeout=60)
    record: dict[str, Any] = json.loads(answer.stdout)
    return record


@pytest.fixture
def code(tmp_path: Path) -> Path:
    for name in ("components", "flows"):
        shutil.copytree(REPOSITORY / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path


def test_the_fingerprint_changes_with_an_imported_module_and_with_no_other(code: Path) -> None:
    before = ask(code)
    assert ROOT in before["modules"]
    assert "components.models.classifier" in before["modules"], "imported two steps away"
    assert "components.promotion.gate" not in before["modules"]
    append(code / "components" / "promotion" / "gate.py")
    assert ask(code)["mark"] == before["mark"]
    append(code / "components" / "models" / "classifier.py")
    assert ask(code)["mark"] != before["mark"]


def append(path: Path) -> None:
    path.write_text(path.read_text() + "\nCHANGED = True\n")


def test_the_init_of_a_package_counts(code: Path) -> None:
    before = ask(code)
    append(code / "components" / "export" / "__init__.py")
    assert ask(code)["mark"] != before["mark"]


def test_an_import_inside_a_function_counts(code: Path) -> None:
    (code / "components" / "lazy.py").write_text("def work():\n    from components import late\n")
    (code / "components" / "late.py").write_text("import components.later\n")
    (code / "components" / "later.py").write_text("")
    found = ask(code, "components.lazy")["modules"]
    assert found == ["components", "components.late", "components.later", "components.lazy"]


def test_imports_are_found_without_importing_them(code: Path) -> None:
    (code / "components" / "explosive.py").write_text("import torch\nraise SystemExit('imported')\n")
    answer = ask(code, "components.explosive")
    assert answer["modules"] == ["components", "components.explosive"]
    assert answer["heavy"] == []


def mark(**changes: Any) -> str:
    facts: dict[str, Any] = {"inputs": {"data": "1"}, "settings": {"epochs": 3}, "code": (), "packages": ("numpy",)}
    return fingerprint(changes.pop("step", "train"), **(facts | changes))


def test_equal_facts_have_equal_fingerprints() -> None:
    assert mark() == mark()
    assert mark(inputs={"a": 1, "b": 2}) == mark(inputs={"b": 2, "a": 1})


@pytest.mark.parametrize(
    "change",
    [
        {"step": "finetune"},
        {"inputs": {"data": "2"}},
        {"settings": {"epochs": 4}},
        {"settings": {"epochs": 3, "seed": 0}},
        {"code": (ROOT,)},
        {"packages": ()},
    ],
    ids=lambda change: next(iter(change)),
)
def test_another_fact_makes_another_fingerprint(change: dict[str, Any]) -> None:
    assert mark(**change) != mark()


def test_training_depends_on_the_code_that_trains() -> None:
    found = imported_modules(("components.training.process",))
    for name in (
        "components.training.learner",
        "components.data.augmentation.augmenter",
        "components.models.small_networks",
    ):
        assert found[f"components.{name}"] == REPOSITORY.joinpath("components", *name.split(".")).with_suffix(".py")
