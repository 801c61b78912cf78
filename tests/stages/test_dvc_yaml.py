"""dvc.yaml depends on exactly what its stages read: a module that is missing there leaves stale data, silently."""

import ast
from pathlib import Path
from typing import Any

import pytest
from projects import REPOSITORY
from ruamel.yaml import YAML

from flows.project.fingerprint import imported_modules

STAGES: dict[str, Any] = YAML(typ="safe", pure=True).load((REPOSITORY / "dvc.yaml").read_text())["stages"]
OUTSIDE = {"prefect", "mlflow", "dvc", "torch", "lightning"}
"""What no stage may need."""


def modules_of(stage: str) -> dict[str, Path]:
    return imported_modules((f"flows.stages.{stage}",))


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_depends_on_exactly_the_modules_that_it_imports(stage: str) -> None:
    # An empty __init__.py changes nothing; one with content would have to stand among the deps.
    imported = {str(path.relative_to(REPOSITORY)) for path in modules_of(stage).values() if path.stat().st_size}
    listed = {dep for dep in STAGES[stage]["deps"] if dep.endswith(".py")}
    assert listed - imported == set(), "no longer imported"
    assert imported - listed == set(), "imported, but no dependency"


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_runs_its_own_module_and_reads_what_it_depends_on(stage: str) -> None:
    words = STAGES[stage]["cmd"].split()
    assert words[:3] == ["python", "-m", f"flows.stages.{stage}"]
    outs = {next(iter(out)) if isinstance(out, dict) else out for out in STAGES[stage]["outs"]}
    data = {dep for dep in STAGES[stage]["deps"] if not dep.endswith(".py")}
    assert {word for word in words if word.startswith("data/")} == outs | data


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
    params = set(STAGES[stage]["params"])
    assert read
    # The size of the images follows from it where preprocess.image_size_px is auto.
    assert ("model.compound" in params) == ("preprocess" in params)
    assert read == {str(name).split(".")[0] for name in params - {"model.compound"}}


def test_the_stages_are_a_line_from_the_raw_data() -> None:
    made = {"data/raw", "data/reference"}
    for stage, entry in STAGES.items():
        assert {dep for dep in entry["deps"] if not dep.endswith(".py")} <= made, stage
        made |= {next(iter(out)) if isinstance(out, dict) else out for out in entry["outs"]}
