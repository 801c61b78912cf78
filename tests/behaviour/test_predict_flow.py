"""The model to predict with: a version that is missing or not Darkroom's is reported, and nothing is created."""

import shutil
from pathlib import Path

import pytest
from projects import REPOSITORY, isolate

from components.shared.errors import SettingsError
from flows.project.project import open_project
from flows.serving.predict import open_version
from flows.tracking import runs


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    isolate(monkeypatch)
    for name in ("params.yaml", "dvc.yaml"):
        shutil.copy(REPOSITORY / name, tmp_path / name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("model", [None, "models:/typo@champion", "models:/typo/1"])
def test_predicting_in_an_empty_project_creates_no_database(project: Path, model: str | None) -> None:
    with pytest.raises(SettingsError, match=r"(digits|typo) has no version yet; `darkroom run` makes one"):
        open_version(model)
    assert sorted(path.name for path in project.iterdir()) == ["dvc.yaml", "params.yaml"]


def test_a_name_an_alias_and_a_version_that_are_not_there_are_named(project: Path) -> None:
    client = runs.open_tracking(open_project(project), "digits").client
    client.create_registered_model("digits")
    run_id = client.create_run("0").info.run_id
    client.create_model_version("digits", source=f"runs:/{run_id}/m", run_id=run_id)
    for model, sentence in (
        ("models:/typo@champion", "the registry has no model typo"),
        ("models:/a:b@champion", "the registry has no model a:b; `darkroom models` lists what there is"),
        ("models:/ @champion", "models:/ @champion: should read NAME@ALIAS or NAME/VERSION"),
        ("models:/digits@best", "digits has no alias @best in the registry"),
        # MLflow itself takes it for the newest version, which the gate may have refused.
        ("models:/digits@latest", "digits has no alias @latest in the registry"),
        ("models:/digits@champion", "digits has no champion: no version was promoted; `darkroom models` says why"),
        ("models:/digits/7", "digits has no version 7 in the registry"),
        ("models:/digits/1", r"digits version 1 was not registered by Darkroom .it lacks served, step, sha256"),
    ):
        with pytest.raises(SettingsError, match=sentence):
            open_version(model)
    assert {experiment.name for experiment in client.search_experiments()} == {"Default", "digits"}
