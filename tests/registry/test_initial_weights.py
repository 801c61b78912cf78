"""Starting from a registered model, through a real registry."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from projects import REPOSITORY, isolate

from components.data.images.preprocessing import PreprocessSettings
from components.models.classifier import new_classifier, save_classifier
from components.models.settings import ModelSettings
from components.shared.errors import SettingsError
from components.task.single_label import SingleLabel
from components.task.task import Task
from components.training.distillation import open_teacher
from flows.project.params import read_params
from flows.project.project import Project, open_project
from flows.registry.initial_weights import initial_weights, registered_model, teacher_model
from flows.session.session import Session
from flows.tracking import runs

PREPROCESS = PreprocessSettings(image_size_px=16, resize="crop", max_megapixels=10)


def model_settings(weights: str | None) -> ModelSettings:
    return ModelSettings(architecture="lenet5", weights=weights, freeze_backbone=False)


def labels(*names: str) -> Task:
    return SingleLabel.of([[name] for name in names])


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    isolate(monkeypatch)
    for name in ("params.yaml", "dvc.yaml"):
        (tmp_path / name).write_bytes((REPOSITORY / name).read_bytes())
    return open_project(tmp_path)


def session(project: Project, weights: str | None) -> Session:
    """Of the target's project: its name isn't the source's."""
    params = read_params(project.params)
    model = params.model.model_copy(update={"architecture": "lenet5", "weights": weights})
    return Session(project, replace(params, model=model))


@pytest.fixture
def source(project: Project, tmp_path: Path) -> torch.nn.Module:
    """Version 1 of `source`, @champion, with a run that keeps its network; version 2 has none of its own."""
    torch.manual_seed(0)
    model, _ = new_classifier(
        model_settings(None), labels=labels("a", "b", "c"), preprocess=PREPROCESS, mean=[0.2] * 3, std=[0.3] * 3
    )
    save_classifier(model, tmp_path / "stored" / "model")
    tracking = runs.open_tracking(project, "source")
    run_id = runs.begin(tracking, "train", "f" * 64, name="train lenet5", tags={})
    runs.store(tracking, run_id, tmp_path / "stored" / "model", "model")
    runs.finish(tracking, run_id, "train", "f" * 64)
    tracking.client.create_registered_model("source")
    for step in ("train", "ensemble"):
        tracking.client.create_model_version(
            "source", source=f"runs:/{run_id}/model", run_id=run_id, tags={"step": step}
        )
    tracking.client.set_registered_model_alias("source", "champion", "1")
    return model


def test_an_alias_is_resolved_to_the_weights_behind_it(project: Project, source: torch.nn.Module) -> None:
    weights, mark = initial_weights(session(project, "models:/source@champion"))
    assert mark is not None
    assert mark.startswith("models:/source/1 ")
    assert (weights, mark) == initial_weights(session(project, "models:/source/1"))
    target, said = new_classifier(
        model_settings(weights), labels=labels("x", "y"), preprocess=PREPROCESS, mean=[0.9] * 3, std=[0.9] * 3
    )
    assert "with a new head, because theirs predicts 3 single-label classes, and the images" in said[-1]
    assert target.spec.mean == [0.2] * 3, "normalization follows the weights"
    own, theirs = target.net.state_dict(), source.net.state_dict()  # type: ignore[union-attr, operator]
    assert all(torch.equal(own[name], value) for name, value in theirs.items() if not name.startswith("classifier"))


@pytest.mark.usefixtures("source")
@pytest.mark.parametrize(
    ("address", "sentence"),
    [
        ("models:/source@nobody", r"model\.weights: source has no alias @nobody in the registry; `darkroom models`"),
        ("models:/source@champoin", r"source has no alias @champoin in the registry; did you mean champion\?"),
        ("models:/sorce@champion", r"model\.weights: the registry has no model sorce; did you mean source\?"),
        ("models:/zebra/1", r"model\.weights: the registry has no model zebra; `darkroom models` lists what"),
        ("models:/source/7", r"model\.weights: source has no version 7 in the registry; `darkroom models` lists"),
        ("models:/source/2", r"model\.weights: version 2 of source holds no single network to start from"),
        ("models:/source", r"model\.weights: is 'models:/source', should read models:/NAME@ALIAS"),
    ],
)
def test_what_the_registry_does_not_hold_is_refused(project: Project, address: str, sentence: str) -> None:
    with pytest.raises(SettingsError, match=sentence):
        registered_model(session(project, address), address, setting="model.weights")


def test_an_ensemble_may_teach(project: Project, source: torch.nn.Module, tmp_path: Path) -> None:
    tracking = runs.open_tracking(project, "source")
    for member in ("01", "02"):
        save_classifier(source, tmp_path / "joined" / "model" / member)  # type: ignore[arg-type]
    run_id = runs.begin(tracking, "ensemble", "e" * 64, name="ensemble", tags={})
    runs.store(tracking, run_id, tmp_path / "joined" / "model", "model")
    runs.finish(tracking, run_id, "ensemble", "e" * 64)
    tracking.client.create_model_version("source", source="x", run_id=run_id, tags={"step": "ensemble"})
    target = session(project, None)
    train = target.params.train.model_copy(update={"teacher": "models:/source/3"})
    teacher = teacher_model(replace(target, params=replace(target.params, train=train)))
    assert teacher is not None
    assert len(teacher.fingerprint.split()) == 5
    assert open_teacher(teacher.folder, labels("a", "b", "c"))(torch.zeros(2, 32, 32, 3)).shape == (2, 3)


def test_a_files_digest_stands_for_it(project: Project, tmp_path: Path) -> None:
    (tmp_path / "w.pth").write_bytes(b"one")
    first = initial_weights(session(project, "w.pth"))
    (tmp_path / "w.pth").write_bytes(b"two")
    assert first[0] == "w.pth"
    assert initial_weights(session(project, "w.pth"))[1] != first[1]
    assert initial_weights(session(project, None)) == (None, None)
