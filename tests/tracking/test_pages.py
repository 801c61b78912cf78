"""What MLflow's pages show of a model, and their addresses."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from projects import isolate

from components.reporting.model_page import KEPT
from flows.project.project import Project
from flows.registry.version_page import describe_model
from flows.tracking.connection import version_page
from flows.tracking.ledger import Ledger
from flows.tracking.runs import Tracking


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
