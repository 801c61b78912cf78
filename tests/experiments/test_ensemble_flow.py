"""The snapshots of a cyclic training as one model, from their run to the verdict."""

import shutil
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from projects import QUICK, REPOSITORY, isolate, prepared_from, write_shapes

from components.data.packed.loaders import open_split
from components.evaluation.inference import predict_split
from components.evaluation.predictions import read_predictions
from components.models.classifier import load_classifier
from components.models.ensemble import Ensemble, open_model
from components.records.scores import ScoresRecord
from components.serving.onnx_classifier import OnnxClassifier
from components.shared.errors import SettingsError
from components.shared.files import read_json
from components.shared.progress import silent
from flows.experiments.ensemble import JoinMembers, find_members
from flows.project.dvc import data_paths
from flows.project.params import override
from flows.registry.reproduce import reproduce_version
from flows.report.page import write_report
from flows.session.session import Prepared, Session, open_session
from flows.steps.evaluate import Evaluate, members_of
from flows.steps.promote import Promote, Promoted
from flows.steps.quantize import Exported, Quantize, served_file
from flows.steps.register import Register
from flows.steps.step import Results
from flows.steps.train import Train, Trained
from flows.tracking import runs

SETTINGS = [
    *QUICK,
    "preprocess.image_size_px=16",
    "model.architecture=lenet5",
    "train.epochs=4",
    "train.schedule=cyclic",
    "train.cycles=2",
    "train.batch_size=16",
    "train.learning_rate=0.01",
    "train.augment=false",
    "augment.policy=none",
    "validate.images_per_class={at_least: 2, level: stop}",
    "register.name=shapes",
    "promote.floors=null",
    "promote.ceilings={log_loss: 100.0}",
]


@dataclass(frozen=True)
class Joined:
    session: Session
    prepared: Prepared
    member: Trained
    """The training that left the snapshots."""
    ensemble: Trained
    exported: Exported
    promoted: Promoted


@pytest.fixture(scope="module")
def joined(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Joined]:
    with pytest.MonkeyPatch.context() as patch:
        isolate(patch)
        patch.setenv("PYTHONPATH", str(REPOSITORY))
        folder = tmp_path_factory.mktemp("ensemble")
        project = folder / "project"
        project.mkdir()
        for name in ("params.yaml", "dvc.yaml"):
            shutil.copy(REPOSITORY / name, project / name)
        override(project / "params.yaml", SETTINGS, check=lambda _: None)
        session = open_session(str(project))
        prepared = prepared_from(session, write_shapes(folder / "shapes", each=24))
        member = Train().run(session, Results(prepared))
        ensemble = JoinMembers(("snapshots",)).run(session, Results(prepared))
        Evaluate().run(session, Results(prepared, ensemble))
        exported = Quantize().run(session, Results(prepared, ensemble))
        promoted = Promote(Register().run(session, Results(prepared, exported)).version).run(session, Results(prepared))
        yield Joined(session, prepared, member, ensemble, exported, promoted)


def test_its_run_holds_the_snapshots_and_names_what_it_is(joined: Joined) -> None:
    tracking, run_id = joined.session.tracking, joined.ensemble.run_id
    model = open_model(runs.fetch(tracking, run_id, "model", step="ensemble"))
    assert isinstance(model, Ensemble)
    assert len(model.members) == 2
    record = read_json(runs.fetch(tracking, run_id, "lineage", step="ensemble") / "lineage.json")
    assert record["params"]["model"]["architecture"] == "ensemble of lenet5, lenet5"
    assert record["members"] == [f"snapshot {number} of run {joined.member.run_id}" for number in ("01", "02")]
    assert runs.tags_of(tracking, run_id)["darkroom.members"] == joined.member.run_id


def test_the_file_that_serves_answers_like_all_members_together(joined: Joined) -> None:
    served = served_file(joined.session, joined.exported)
    assert OnnxClassifier(served).card.architecture == "ensemble of lenet5, lenet5"
    assert joined.exported.record.formats["fp32"].parity.agreement == 1
    found = read_predictions(
        runs.fetch(joined.session.tracking, joined.ensemble.run_id, "evaluate", step="evaluate") / "predictions.parquet"
    )
    test = open_split(data_paths(joined.session.project).augmented, "test")
    members = [member.folder for member in find_members(joined.session, joined.prepared, ["snapshots"])]
    answers = [predict_split(load_classifier(folder), test, progress=silent) for folder in members]
    expected = np.mean([found.task.probabilities(one.logits_NT) for one in answers], axis=0)
    assert found.task.probabilities(found.logits_NT) == pytest.approx(expected, abs=1e-5)


def test_its_members_are_scored_beside_it(joined: Joined) -> None:
    test = open_split(data_paths(joined.session.project).augmented, "test")
    own = ScoresRecord.read(
        runs.fetch(joined.session.tracking, joined.ensemble.run_id, "evaluate", step="evaluate") / "scores.json"
    )
    members = find_members(joined.session, joined.prepared, ["snapshots"])
    recorded = members_of(joined.session, joined.ensemble.run_id)
    assert [one.name for one in recorded] == [member.name for member in members]
    for one, member in zip(recorded, members, strict=True):
        accuracy = predict_split(load_classifier(member.folder), test, progress=silent).correct_N.mean()
        assert one.accuracy == pytest.approx(accuracy)
        assert one.difference == pytest.approx(accuracy - own.values["accuracy"])
    shown = [file.path for file in joined.session.tracking.client.list_artifacts(joined.ensemble.run_id)]
    assert "members.json" in shown


def test_the_gate_decides_on_it_like_any_candidate(joined: Joined) -> None:
    assert joined.promoted.promoted, joined.promoted.reasons


def test_made_again_it_is_found(joined: Joined) -> None:
    results = Results(joined.prepared)
    assert JoinMembers(("snapshots",)).run(joined.session, results).run_id == joined.ensemble.run_id
    assert [time.state for time in results.times] == ["reused"]


def test_a_run_is_a_member_by_its_id(joined: Joined) -> None:
    (member,) = find_members(joined.session, joined.prepared, [joined.member.run_id])
    assert load_classifier(member.folder).spec.architecture == "lenet5"


@pytest.mark.parametrize(
    ("addresses", "sentence"),
    [
        (["shapes"], "shapes: should read NAME@ALIAS or NAME/VERSION, or ALIAS or VERSION alone for shapes"),
        (["@nobody"], "shapes has no alias @nobody in the registry"),
        (["9"], "shapes has no version 9 in the registry"),
        (["@champion"], "version 1 of shapes holds no single network to start from; name the version of one of its"),
        (["f" * 32], "run f+ keeps no trained network; name a finished run of train or finetune"),
        (
            ["snapshots", "snapshots"],
            "snapshot 01 of run .* is the same model as snapshot 01 .*; name each member once",
        ),
    ],
)
def test_what_is_no_member_is_refused(joined: Joined, addresses: list[str], sentence: str) -> None:
    with pytest.raises(SettingsError, match=sentence):
        JoinMembers(tuple(addresses)).run(joined.session, Results(joined.prepared))


def test_one_model_is_no_ensemble_and_leaves_no_run(joined: Joined) -> None:
    with pytest.raises(SettingsError, match="at least two members, not 1"):
        JoinMembers((joined.member.run_id,)).run(joined.session, Results(joined.prepared))
    digest = joined.prepared.split_digest
    assert runs.newest_done(joined.session.tracking, "ensemble", split_digest=digest) == joined.ensemble.run_id


def test_members_of_another_split_are_refused(joined: Joined) -> None:
    other = Results(replace(joined.prepared, split_digest="0" * 64))
    with pytest.raises(SettingsError, match="was trained on other data or another split than the current ones"):
        JoinMembers((joined.member.run_id,)).run(joined.session, other)
    with pytest.raises(SettingsError, match="nothing was trained on this split yet, so there are no snapshots"):
        JoinMembers(("snapshots",)).run(joined.session, other)


def test_reports_and_reproduction_know_what_it_is(joined: Joined, monkeypatch: pytest.MonkeyPatch) -> None:
    root: Path = joined.session.project.root
    monkeypatch.chdir(root)
    page = write_report(root / "report.html").read_text(encoding="utf-8")
    assert "ensemble of lenet5, lenet5" in page
    assert f"snapshot 02 of run {joined.member.run_id}" in page
    assert "could not be read" not in page
    with pytest.raises(SettingsError, match="version 1 is an ensemble, which isn't trained; reproduce its members"):
        reproduce_version("1", name=None, show=False)
