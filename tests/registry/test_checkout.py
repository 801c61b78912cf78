"""What a version is trained from again: files of the project, and models that were the champion then."""

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from projects import REPOSITORY, isolate

from components.data.images.preprocessing import PreprocessSettings
from components.models.classifier import new_classifier, save_classifier
from components.models.settings import ModelSettings
from components.records.lineage import LineageRecord, Machine
from components.shared.errors import SettingsError
from components.shared.files import sha256_of_file
from components.task.single_label import SingleLabel
from flows.project.dvc import data_paths
from flows.project.params import read_params
from flows.project.project import Project, open_project
from flows.registry.checkout import bring_files, bring_models
from flows.registry.initial_weights import initial_weights, pinned_weights, teacher_fingerprint
from flows.session.session import Session
from flows.tracking import runs

WHO = "target version 1"


def new(root: Path) -> Project:
    root.mkdir(parents=True)
    for name in ("params.yaml", "dvc.yaml"):
        shutil.copy(REPOSITORY / name, root / name)
    return open_project(root)


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    isolate(monkeypatch)
    return new(tmp_path / "project")


@pytest.fixture
def again(project: Project) -> Project:
    """Where it is trained again, with nothing of the project but its two files."""
    other = new(project.root.with_name("again"))
    return Project(other.root, other.root.with_name("home of again"))


def lineage(weights: str | None = None, teacher: str | None = None, **record: Any) -> LineageRecord:
    params = {"model": {"weights": weights}, "train": {"teacher": teacher}, "evaluate": {"ood": None}}
    return LineageRecord(
        git="unknown",
        code="c",
        data_version="d",
        raw_manifest="m",
        split_digest="s",
        params=params,
        packages={},
        python="3.11",
        machine=Machine("Linux", "p"),
        **record,
    )


def session(project: Project, weights: str | None, teacher: str | None = None) -> Session:
    params = read_params(project.params)
    params = replace(
        params,
        model=params.model.model_copy(update={"weights": weights}),
        train=params.train.model_copy(update={"teacher": teacher}),
    )
    return Session(project, params)


def champion_of(project: Project, seed: int) -> None:
    """One more version of `source`, which is its champion from now on."""
    torch.manual_seed(seed)
    model, _ = new_classifier(
        ModelSettings(architecture="lenet5", weights=None, freeze_backbone=False),
        labels=SingleLabel.of([["a"], ["b"]]),
        preprocess=PreprocessSettings(image_size_px=16, resize="crop", max_megapixels=10),
        mean=[0.5] * 3,
        std=[0.2] * 3,
    )
    stored = project.root / f"stored{seed}"
    save_classifier(model, stored)
    tracking = runs.open_tracking(project, "source")
    run_id = runs.begin(tracking, "train", str(seed), name="train lenet5", tags={})
    runs.store(tracking, run_id, stored, "model")
    runs.finish(tracking, run_id, "train", str(seed))
    if seed == 1:
        tracking.client.create_registered_model("source")
    made = tracking.client.create_model_version(
        "source", source=f"runs:/{run_id}/model", run_id=run_id, tags={"step": "train"}
    )
    tracking.client.set_registered_model_alias("source", "champion", str(made.version))


def test_the_champion_of_then_is_brought_along_and_not_the_one_of_now(
    project: Project, again: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    for seed in (1, 2):
        champion_of(project, seed)
    asking = ("models:/source@champion", "models:/source/1")
    own = session(project, *asking)
    then = lineage(*asking, initial_weights=pinned_weights(own))
    before = initial_weights(own)[1], teacher_fingerprint(own)
    champion_of(project, 3)
    assert initial_weights(own)[1] != before[0]
    bring_models(own.tracking, then, again, who=WHO)
    other = {name: replace(pin, fingerprint="other") for name, pin in then.initial_weights.items()}
    with pytest.raises(SettingsError, match=r"was trained with models:/source/2 .model.weights., which has changed"):
        bring_models(own.tracking, lineage(*asking, initial_weights=other), again, who=WHO)

    # MLflow writes the address of the project's registry into the environment.
    isolate(monkeypatch)
    there = session(again, *asking)
    assert (initial_weights(there)[1], teacher_fingerprint(there)) == before


def test_files_of_the_project_are_brought_along_as_they_were(project: Project, again: Project) -> None:
    reference = data_paths(project).reference
    for folder in ("start", "others/deep"):
        (project.root / folder).mkdir(parents=True)
    reference.mkdir(parents=True)
    files = ["start/w.safetensors", "start/model.json", "others/deep/1.png"]
    for name in files:
        (project.root / name).write_text(name)
    (reference / "features.onnx").write_text("large")
    params = read_params(project.params)
    params = replace(params, model=params.model.model_copy(update={"weights": "start/w.safetensors"}))
    # Files need no registry.
    pins = pinned_weights(Session(project, params))
    left_out = {"features.onnx": sha256_of_file(reference / "features.onnx")}
    then = lineage("start/w.safetensors", initial_weights=pins, reference_left_out=left_out)
    then.params["evaluate"]["ood"] = "others"
    bring_files(project, then, again, who=WHO)
    assert [(again.root / name).read_text() for name in files] == files
    assert (data_paths(again).reference / "features.onnx").read_text() == "large"

    sentences = {
        "start/model.json": r"was trained from start/w.safetensors .model.weights., which has changed since",
        "start/w.safetensors": r"was trained from start/w.safetensors .model.weights., which isn't there any more",
        str(
            reference / "features.onnx"
        ): r"needs data/reference/features.onnx, which isn't there any more; bring it back",
    }
    for name, sentence in sentences.items():
        aside = (project.root / name).rename(project.root / "aside")
        with pytest.raises(SettingsError, match=sentence):
            bring_files(project, then, again, who=WHO)
        aside.rename(project.root / name)
    (reference / "features.onnx").write_text("other")
    with pytest.raises(SettingsError, match=r"features.onnx, which has changed since"):
        bring_files(project, then, again, who=WHO)
    then.params["evaluate"]["ood"] = "gone"
    with pytest.raises(SettingsError, match=r"evaluated beside the images in gone .evaluate.ood., which isn't there"):
        bring_files(project, then, again, who=WHO)
    outside = lineage("../w.safetensors")
    (project.root.parent / "w.safetensors").write_text("outside")
    with pytest.raises(SettingsError, match=r"w\.safetensors leads out of the project"):
        bring_files(project, outside, again, who=WHO)
