"""What MLflow's pages show of a model, and their addresses."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from projects import isolate

from components.reporting.model_page import KEPT
from flows.project.project import Project
from flows.project.user import user_name
from flows.registry.version_page import describe_model
from flows.tracking.connection import Pages, connect, pages, version_page
from flows.tracking.ledger import Ledger
from flows.tracking.runs import Tracking, begin, open_tracking, tags_of


@pytest.mark.parametrize(
    ("known", "replaced"),
    [(None, True), ("", True), (f"An older text\n\n{KEPT}", True), ("Ask Ada before you use it.", False)],
)
def test_a_description_that_a_person_wrote_stays(known: str | None, replaced: bool) -> None:
    written: list[str] = []
    client = SimpleNamespace(
        get_registered_model=lambda name: SimpleNamespace(description=known),
        update_registered_model=lambda name, text: written.append(text),
    )
    describe_model(Tracking(cast(Any, client), "0", "pets", Path()), "pets", Ledger([], 0, []))
    assert bool(written) == replaced
    assert all("No version serves" in text and text.endswith(KEPT) for text in written)


def test_the_page_of_a_version_is_logged_where_a_server_shows_it_and_without_its_password(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    isolate(monkeypatch)
    project = Project(tmp_path, tmp_path / ".darkroom")
    assert version_page(project, "cats and dogs", "3") is None
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://ada:secret@models.example:5000/")
    assert version_page(project, "cats and dogs", "3") == (
        "http://models.example:5000/#/models/cats%20and%20dogs/versions/3"
    )


def test_the_pages_of_a_run_are_named_also_where_no_server_shows_them_yet(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    isolate(monkeypatch)
    project = Project(tmp_path, tmp_path / ".darkroom")
    for server, served in (("http://127.0.0.1:5000", False), ("http://models.example", True)):
        if served:
            monkeypatch.setenv("MLFLOW_TRACKING_URI", f"{server}/")
        found = pages(project, experiment_id="1", run_id="abc", name="pets", version="3")
        assert found == Pages(
            experiment=f"{server}/#/experiments/1/runs",
            run=f"{server}/#/experiments/1/runs/abc",
            version=f"{server}/#/models/pets/versions/3",
            served=served,
        )


def test_an_experiment_is_one_of_model_training_and_a_run_says_who_began_it_and_how(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    isolate(monkeypatch)
    monkeypatch.setattr("getpass.getuser", lambda: "ada")
    project = Project(tmp_path, tmp_path / ".darkroom")
    connect(project).create_experiment("older")
    for name in ("pets", "older"):
        tracking = open_tracking(project, name)
        assert tracking.client.get_experiment(tracking.experiment_id).tags == {
            "mlflow.experimentKind": "custom_model_development"
        }
    run_id = begin(tracking, "train", "f" * 64, name="a run", tags={"darkroom.data_version": "d"})
    tags = tags_of(tracking, run_id)
    assert (tags["mlflow.user"], tags["mlflow.source.name"]) == ("ada", "darkroom train")
    assert tracking.client.get_run(run_id).info.user_id == "ada"


def test_an_account_without_a_name_is_named_by_its_number(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown() -> str:
        raise KeyError("getpwuid(): uid not found: 4711")

    monkeypatch.setattr("getpass.getuser", unknown)
    assert user_name().startswith("uid ")
