"""dvc.yaml: what each stage reads, writes and depends on; and that its code runs as the installed package alone."""

import ast
import shlex
from pathlib import Path
from typing import Any

import pytest
from projects import REPOSITORY
from ruamel.yaml import YAML

from flows.project.fingerprint import imported_modules
from flows.project.project import STAGES as CODE_STAGES

ALL: dict[str, Any] = YAML(typ="safe", pure=True).load((REPOSITORY / "dvc.yaml").read_text())["stages"]
CODE = ALL["code"]
STAGES = {name: stage for name, stage in ALL.items() if name != "code"}
OUTSIDE = {"prefect", "mlflow", "dvc", "torch", "lightning"}
"""What no stage may need."""


def modules_of(stage: str) -> dict[str, Path]:
    return imported_modules((f"flows.stages.{stage}",))


def names_of(entries: list[Any]) -> set[str]:
    return {next(iter(one)) if isinstance(one, dict) else one for one in entries}


def test_the_code_stage_always_runs_and_writes_the_fingerprint_of_every_other_stage() -> None:
    assert CODE["always_changed"]
    assert names_of(CODE["outs"]) == {"data/code.json"}
    assert set(CODE_STAGES) == set(STAGES)


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_depends_on_the_fingerprint_of_its_own_code(stage: str) -> None:
    assert {"data/code.json": [stage]} in STAGES[stage]["params"]


@pytest.mark.parametrize("stage", ALL)
def test_a_stage_runs_as_a_command_of_the_package_on_the_paths_that_it_depends_on(stage: str) -> None:
    words = shlex.split(ALL[stage]["cmd"])
    assert words[:3] == ["darkroom", "stage", stage]
    paths = {word for word in words if word.startswith("data/")}
    assert paths == names_of(ALL[stage]["outs"]) | set(ALL[stage].get("deps", []))


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_imports_no_orchestrator_and_no_tracker(stage: str) -> None:
    for name, path in modules_of(stage).items():
        assert not third_party(path) & OUTSIDE, name


def third_party(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} has a relative import, which imported_modules doesn't follow"
            found.add(str(node.module).split(".")[0])
    return found


def test_no_module_of_ours_has_an_import_that_can_not_be_followed() -> None:
    files = [path for folder in ("components", "flows") for path in (REPOSITORY / folder).rglob("*.py")]
    assert {"numpy", "torch", "prefect"} <= set().union(*(third_party(path) for path in files))


@pytest.mark.parametrize("stage", STAGES)
def test_the_sections_that_a_stage_reads_are_among_its_params(stage: str) -> None:
    source = (REPOSITORY / "flows" / "stages" / f"{stage}.py").read_text()
    read = {
        str(node.args[1].value).split(".")[0]
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") in ("read_section", "read_optional")
        if isinstance(node.args[1], ast.Constant)
    }
    params = {name for name in STAGES[stage]["params"] if isinstance(name, str)}
    assert read
    # What is auto in `preprocess` and `augment` follows from these.
    of_auto = {"auto", "model.compound"}
    assert params & of_auto == (of_auto if "preprocess" in params else set())
    assert read == {name.split(".")[0] for name in params - of_auto}


def test_the_stages_are_a_line_from_the_raw_data() -> None:
    made = {"data/raw", "data/reference"}
    for stage, entry in STAGES.items():
        assert set(entry["deps"]) <= made, stage
        made |= names_of(entry["outs"])
