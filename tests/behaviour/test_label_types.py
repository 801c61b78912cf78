"""Each label type from images to verdict: packed, trained, scored, exported, decided on and predicted.

The steps themselves, called in one process; only training has one of its own, as always.
"""

import base64
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from logged import logged
from projects import QUICK, REPOSITORY, draw_colours, isolate, prepared_from

from components.data.packed.decoded_cache import decoded_once
from components.data.packed.loaders import open_split
from components.evaluation.decision_rule import fit_decision_rule
from components.evaluation.served_predictions import predict_packed
from components.models.classifier import load_classifier
from components.records.lineage import LINEAGE
from components.serving.onnx_classifier import OnnxClassifier
from components.shared.errors import SettingsError
from components.shared.files import read_json
from components.shared.processor import Processor
from flows.project.dvc import data_paths
from flows.project.params import override
from flows.registry.lineage import lineage_of, version_lineage
from flows.report.page import write_report
from flows.session.session import Prepared, Session, open_session
from flows.steps.evaluate import Evaluate, Evaluated
from flows.steps.promote import Promote, Promoted
from flows.steps.quantize import Exported, Quantize, export_folder, served_file
from flows.steps.register import Register
from flows.steps.step import Results
from flows.steps.train import Train
from flows.tracking import registry, runs
from flows.tracking.serving_check import SERVING_CHECK

SIDE = 16
SETTINGS = [
    *QUICK,
    f"preprocess.image_size_px={SIDE}",
    "model.architecture=lenet5",
    "train.epochs=2",
    "train.batch_size=16",
    "train.learning_rate=0.01",
    "train.augment=false",
    "finetune.epochs=0",
    "augment.policy=none",
    "augment.balance=0.5",
    "augment.store=jpeg",
    "validate.images_per_class={at_least: 2, level: stop}",
    "quantize.qat={epochs: 1, learning_rate: 0.0001}",
    "register.name=kinds",
    "promote.floors=null",
    "promote.ceilings={log_loss: 100.0}",
]


@dataclass(frozen=True)
class Life:
    """What the steps made of one data set."""

    task: str
    session: Session
    evaluated: Evaluated
    exported: Exported
    promoted: Promoted
    prepared: Prepared
    source: Path

    def asking(self, **rules: Any) -> Session:
        """The same with other rules of the gate."""
        promote = self.session.params.promote.model_copy(update=rules)
        return replace(self.session, params=replace(self.session.params, promote=promote))

    @property
    def model(self) -> Path:
        """What was trained."""
        return runs.fetch(self.session.tracking, self.exported.run_id, "model", step="train")

    @property
    def classes(self) -> list[str]:
        if self.task == "multi_label":
            return ["blue", "green", "red"]
        return [f"{shade}/{colour}" for shade in ("dark", "light") for colour in ("blue", "green", "red")]


def write_table(folder: Path, task: str, count: int = 96) -> Path:
    """A manifest of sets of colours, of which one is empty, or of shades with their colours below them."""
    sets = [[], ["red"], ["green"], ["blue"], ["green", "red"], ["blue", "green"], ["blue", "green", "red"]]
    paths = [[shade, colour] for shade in ("dark", "light") for colour in ("red", "green", "blue")]
    header = {"multi_label": "path,labels,weight", "hierarchy": "path,shade,colour,weight"}[task]
    lines = [header]
    folder.mkdir(parents=True)
    for number in range(count):
        kinds = sets if task == "multi_label" else paths
        labels = kinds[number % len(kinds)]
        draw_colours(labels, number).save(folder / f"{number:03d}.png")
        text = "|".join(labels) if task == "multi_label" else ",".join(labels)
        lines.append(f"{number:03d}.png,{text},{1 + number % 2}")
    (folder / "table.csv").write_text("\n".join(lines) + "\n")
    return folder / "table.csv"


@pytest.fixture(scope="module", params=["multi_label", "hierarchy"])
def life(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Life]:
    with pytest.MonkeyPatch.context() as patch:
        isolate(patch)
        patch.setenv("PYTHONPATH", str(REPOSITORY))
        # Whether or not static int8 is good enough for these, what is done where it isn't has to work.
        patch.setattr("components.export.exporter._lacks", lambda *_: True)
        yield lived(request.param, tmp_path_factory.mktemp(request.param))


def lived(task: str, folder: Path) -> Life:
    table = write_table(folder / "source", task)
    project = folder / "project"
    project.mkdir()
    for name in ("params.yaml", "dvc.yaml"):
        shutil.copy(REPOSITORY / name, project / name)
    levels = ["ingest.label_columns=[shade, colour]"] if task == "hierarchy" else ["model.level_weights=null"]
    override(project / "params.yaml", [*SETTINGS, *levels], check=lambda _: None)
    session = open_session(str(project))
    prepared = prepared_from(session, table)
    trained = Train().run(session, Results(prepared))
    # What `train` has decoded is all that the steps after it have.
    for file in data_paths(session.project).augmented.glob("train-*.jpegs"):
        file.write_bytes(bytes(file.stat().st_size))
    evaluated = Evaluate().run(session, Results(prepared, trained))
    exported = Quantize().run(session, Results(prepared, trained))
    version = Register().run(session, Results(prepared, exported)).version
    promoted = Promote(version).run(session, Results(prepared))
    return Life(task, session, evaluated, exported, promoted, prepared, table.parent)


def test_it_learns_and_is_scored_in_its_own_way(life: Life) -> None:
    scores = life.evaluated.scores
    assert scores.values["accuracy"] > 0.3
    assert scores.values["macro_f1"] > 0.4
    assert [one.label for one in scores.classes] == life.classes
    if life.task == "multi_label":
        assert scores.confusion is None
    else:
        assert list(scores.levels) == ["shade"]
        assert scores.levels["shade"].values["accuracy"] >= scores.values["accuracy"]
        assert scores.levels["shade"].values["coverage"] >= scores.values["coverage"]
    assert {"coverage", "answered"} <= life.exported.record.served_file.test.intervals.keys()


def test_the_file_that_ships_says_how_it_answers(life: Life) -> None:
    card = OnnxClassifier(served_file(life.session, life.exported)).card
    assert card.labels.task == life.task
    assert card.classes == life.classes
    if life.task == "multi_label":
        assert len(card.decision_rule.thresholds or []) == 3
    else:
        assert card.decision_rule.thresholds is None
        assert [level.name for level in card.labels.levels] == ["shade", "colour"]
    assert life.exported.record.formats["fp32"].parity.agreement == 1
    spec = load_classifier(life.model).spec
    assert (card.mean, card.std) == (spec.mean, spec.std)
    lineage = runs.fetch(life.session.tracking, life.exported.run_id, "lineage", step="train")
    assert card.code_version == read_json(lineage / "lineage.json")["git"]


def test_the_temperature_of_the_file_that_ships_is_the_one_that_its_own_answers_to_validation_ask_for(
    life: Life,
) -> None:
    model = OnnxClassifier(served_file(life.session, life.exported))
    val = open_split(data_paths(life.session.project).augmented, "val")
    fitted = fit_decision_rule(predict_packed(model, val))
    rule = model.card.decision_rule
    assert rule.temperature == pytest.approx(fitted.temperature)
    assert rule.set_thresholds is not None
    assert np.array(rule.set_thresholds) == pytest.approx(np.array(fitted.set_thresholds))
    assert fitted.temperature != 1


def test_the_registered_version_is_an_mlflow_model(life: Life) -> None:
    import mlflow

    loaded = mlflow.pyfunc.load_model(f"models:/kinds/{life.promoted.version}")
    signature, example = loaded.metadata.signature, loaded.input_example
    assert signature.inputs.input_names() == ["image"]
    assert signature.params.to_dict()[0]["name"] == "top_k"
    assert list(example.columns) == ["image"]
    image = base64.b64encode((life.source / "000.png").read_bytes()).decode()
    (answer,) = loaded.predict(pd.DataFrame({"image": [image]}), params={"probabilities": True})
    assert set(signature.outputs.input_names()) <= set(answer)
    if life.task == "multi_label":
        said = answer["label"].split("|") if answer["label"] else []
        assert set(said) <= set(life.classes)
    else:
        assert answer["label"] in life.classes
        assert answer["level_shade"] == answer["label"].partition("/")[0]
    (grey,) = loaded.predict(example)
    assert set(signature.outputs.input_names()) <= set(grey)


def test_the_very_package_passed_its_serving_check(life: Life) -> None:
    decision = Promote(life.promoted.version, again=True).run(life.asking(serving_check=True), Results(life.prepared))
    (rule,) = [rule for rule in decision.rules if rule.rule == "serving check in a clean process"]
    assert rule.passed
    version = registry.get_version(life.session.tracking, "kinds", life.promoted.version)
    kept = version_lineage(life.session.tracking, version)
    found = read_json(kept / SERVING_CHECK)
    assert [check for check in found["checks"] if not check["passed"]] == []
    assert (
        found["package_sha256"] == read_json(kept / LINEAGE)["file"]["package_sha256"] == version.tags["package_sha256"]
    )


def test_quantization_aware_training_runs(life: Life) -> None:
    found = life.exported.record.int8_variants
    assert sorted(one.qat_epochs for one in found.values())[-2:] == [0, 1]
    tracking, run_id = life.session.tracking, life.exported.run_id
    assert len(runs.metric_history(tracking, run_id, "qat/val_accuracy")) == 1
    assert len(runs.metric_history(tracking, run_id, "val_accuracy")) == 2
    kept = export_folder(life.session, run_id) / "qat"
    assert load_classifier(kept / "model").spec.labels.task == life.task


def test_the_gate_promotes_it(life: Life) -> None:
    assert life.promoted.promoted, life.promoted.reasons


def test_scores_of_a_coarser_level_can_be_asked_for_and_no_other_level(life: Life) -> None:
    if life.task == "multi_label":
        with pytest.raises(SettingsError, match=r"promote\.floors: shade\.accuracy is of no level .* have no levels"):
            Promote(life.promoted.version).run(life.asking(floors={"shade.accuracy": 0.1}), Results(life.prepared))
        return
    decision = Promote(life.promoted.version, again=True).run(
        life.asking(ceilings={"shade.log_loss": 50.0}), Results(life.prepared)
    )
    (rule,) = [rule for rule in decision.rules if "shade.log loss" in rule.rule]
    assert rule.passed, rule
    for level in ("shad", "colour"):
        with pytest.raises(SettingsError, match="is of no level that is scored; the levels above the finest are shade"):
            Promote(life.promoted.version).run(life.asking(ceilings={f"{level}.log_loss": 1.0}), Results(life.prepared))


def test_a_new_data_version_without_new_images_to_learn_from_keeps_nothing_out(life: Life) -> None:
    """Such as one more file that can't be read: the model is the one of before, its files name the new version."""
    prepared = replace(life.prepared, data_version="e" * 32)
    other = "fp32" if life.exported.record.served == "int8" else "int8"
    quantize = life.session.params.quantize.model_copy(update={"serve": other})
    session = replace(life.session, params=replace(life.session.params, quantize=quantize))
    elsewhere = Processor("elsewhere", ["avx2"])
    record = life.exported.record.model_copy(update={"served": other, "processor": elsewhere})
    exported = replace(life.exported, record=record)
    number = Register().run(session, Results(prepared, exported)).version
    assert number != life.promoted.version
    decision = Promote(number).run(session, Results(prepared))
    rules = {rule.rule: rule.value for rule in decision.rules}
    assert rules["data validation"] == "passed"
    # What a version is reproduced from are its own settings and data.
    records = [
        lineage_of(session.tracking, registry.get_version(session.tracking, "kinds", one))
        for one in (life.promoted.version, number)
    ]
    assert [record.data_version[0] for record in records] == ["d", "e"]
    assert [record.params["quantize"]["serve"] for record in records] == ["auto", other]
    # Measured on the processor of the export, whichever trained it.
    assert records[1].file is not None
    assert records[1].file.exported_on == "elsewhere (avx2)"
    assert registry.get_version(session.tracking, "kinds", number).tags["processor"] == "elsewhere (avx2)"


@pytest.mark.parametrize("num_classes", [60, 1500])
def test_every_rule_of_many_is_shown_wherever_the_decision_is(
    life: Life, num_classes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    named = {f"no such class, and a rather long name: {number}": 0.5 for number in range(num_classes)}
    asking = life.asking(class_floors={"recall": named})
    decision = Promote(life.promoted.version, again=True).run(asking, Results(life.prepared))
    rules = [f"recall of the class {name}" for name in named]
    assert decision.status == "refused"
    assert set(rules) <= {rule.rule for rule in decision.rules}
    monkeypatch.chdir(life.session.project.root)
    page = write_report(life.session.project.root / "report.html").read_text(encoding="utf-8")
    assert all(f">{rule}<" in page for rule in rules)


def test_copies_lift_rare_labels_and_weights_reach_training(life: Life) -> None:
    split = open_split(data_paths(life.session.project).augmented, "train")
    assert set(split.weight_N.tolist()) == {1.0, 2.0}
    assert split.target.shape == ((len(split), 3) if life.task == "multi_label" else (len(split),))


def test_the_steps_of_a_run_share_what_was_decoded(life: Life) -> None:
    split = open_split(data_paths(life.session.project).augmented, "train")
    with pytest.raises(OSError, match="cannot identify image file"):
        split.pixels_NHWC[0]
    kept = life.session.decoded.file(life.session.project, life.prepared.augmented_digest)
    with logged() as messages, decoded_once(split, kept) as once:
        assert once.pixels_NHWC[:].std() > 10
    assert not messages
    assert not messages


def test_the_report_shows_it(life: Life, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(life.session.project.root)
    page = write_report(life.session.project.root / "report.html").read_text(encoding="utf-8")
    assert all(name in page for name in life.classes)
    assert "could not be read" not in page
    assert ("Confusion of each label" if life.task == "multi_label" else "Accuracy at shade") in page
    assert f"Scores of the {life.exported.record.served} file on" in page
    assert "Accuracy under corruptions" in page
