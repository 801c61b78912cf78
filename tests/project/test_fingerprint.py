"""A model step's fingerprint: another one when something that the step depends on is another, else the same."""

import json
import os
import re
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
    environment = os.environ | {"XDG_CACHE_HOME": str(folder / "cache")}
    answer = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=True, timeout=60
    )
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


TRAINING = "components.training.process"
PROSE = {
    "a docstring": ("training/learner.py", '"""', '"""Better words. '),
    "a comment": ("training/schedules.py", r"\n\n\ndef ", "\n\n\n# Why it is so.\ndef "),
    "the text of an error": ("training/initial_model.py", r'(raise \w+\(\s*f?")', r"\1Really: "),
    "a log line": ("training/initial_model.py", r"\n    return ", '\n    log.info("almost there")\n    return '),
    "a warning": ("training/schedules.py", r"\n    return ", '\n    warnings.warn("careful")\n    return '),
    "an import for types alone": (
        "training/losses.py",
        r"\n\n\n",
        "\n\n\nif TYPE_CHECKING:\n    import flows.cli\n\n\n",
    ),
    "a type": ("training/losses.py", r"\(([a-z]\w+): \w+", r"(\1: object"),
    "a page": ("reporting/figures.py", r"\n\n\ndef ", "\n\n\nSTYLE = 1\n\n\ndef "),
    "plain words": ("shared/plural.py", r"\n\n\ndef ", "\n\n\nSTYLE = 1\n\n\ndef "),
    "formatting": ("training/schedules.py", r"\n\n\ndef ", "\n\n\n\n\ndef "),
}
"""Real edits of modules that a training imports: file, pattern, replacement of its first match."""
COMPUTING = {
    "a constant": ("training/schedules.py", r"\b0\.\d+", "0.123"),
    "a condition": ("training/initial_model.py", r"\n( +)if ", r"\n\1if not "),
    "a removed statement": ("training/initial_model.py", r"\n    return .*", "\n    return None"),
    "the kind of an error": ("training/initial_model.py", r"raise \w+", "raise KeyError"),
    "the limit of a setting": ("training/settings.py", r"gt=0", "gt=1"),
    "a new name": ("models/classifier.py", r"\Z", "\nCHANGED = True\n"),
}


@pytest.mark.parametrize("edit", PROSE)
def test_prose_leaves_the_fingerprint_of_training_as_it_is(code: Path, edit: str) -> None:
    before = ask(code, TRAINING)["mark"]
    change(code, *PROSE[edit])
    assert ask(code, TRAINING)["mark"] == before


@pytest.mark.parametrize("edit", COMPUTING)
def test_what_computes_changes_the_fingerprint_of_training(code: Path, edit: str) -> None:
    before = ask(code, TRAINING)["mark"]
    change(code, *COMPUTING[edit])
    assert ask(code, TRAINING)["mark"] != before


def change(code: Path, file: str, pattern: str, replacement: str) -> None:
    path = code / "components" / file
    text, count = re.subn(pattern, replacement, path.read_text(), count=1)
    assert count == 1, f"{file} has nothing to edit"
    path.write_text(text)


def test_of_a_function_that_returns_a_sentence_only_its_presence_counts(code: Path) -> None:
    module = code / "components" / "talking.py"
    head = "from components.shared.plural import Sentence\n\n\n"
    lines = head + "def {name}(x: int) -> Sentence | None:\n    return {text}\n"
    module.write_text(lines.format(name="sentence", text='f"{x} of them"'))
    before = ask(code, "components.talking")["mark"]
    module.write_text(lines.format(name="sentence", text='f"only {x}"'))
    assert ask(code, "components.talking")["mark"] == before
    module.write_text(lines.format(name="other", text='f"only {x}"'))
    assert ask(code, "components.talking")["mark"] != before


def test_a_broken_cache_of_parsed_sources_is_made_again(code: Path) -> None:
    before = ask(code)["mark"]
    [cache] = (code / "cache" / "darkroom").iterdir()
    stored = cache.read_text()
    cache.write_text(stored[: len(stored) // 2])
    assert ask(code)["mark"] == before
    assert cache.read_text() == stored


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
    for name in ("training.learner", "data.augmentation.augmenter", "models.small_networks"):
        assert found[f"components.{name}"] == REPOSITORY.joinpath("components", *name.split(".")).with_suffix(".py")
