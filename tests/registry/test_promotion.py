"""The gate over a data set that grows, with models of known answers: three colours, recognized by their channels.

Each version is an ONNX file of four operators, registered with the records that `train` and `quantize` would have left.
"""

import csv
import hashlib
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from colour_models import COLOURS, SIDE, colour_model
from exports import export_record, exported_file, measured_file
from projects import REPOSITORY, draw_colours, isolate, stored_folder
from scored import scores_record

from components.data.raw.ingest import write_raw
from components.data.sources import IngestSettings, find
from components.serving.onnx_classifier import OnnxClassifier
from components.shared.errors import DataError, ServiceError
from components.shared.files import read_json, sha256_of_file, write_json
from components.shared.processor import this_processor
from components.shared.progress import silent
from flows.project.dvc import data_paths
from flows.project.params import override
from flows.registry import versions
from flows.registry.lineage import images_of, known_images, training_lineage, write_lineage
from flows.session.session import Prepared, Session, open_session
from flows.stages.split import split
from flows.stages.validate import ValidatePaths, validate
from flows.steps.promote import Promote, Promoted
from flows.steps.step import Results
from flows.tracking import ledger, registry, runs
from flows.tracking.packaging import write_package
from flows.tracking.serving_check import SERVING_CHECK

SETTINGS = (
    f"preprocess.image_size_px={SIDE}",
    "split.fractions={train: 0.5, val: 0.1, test: 0.4}",
    "register.name=colours",
    "promote.floors={accuracy: 0.5}",
    "promote.min_slice_images=4",
    # Most versions are made here without a package to check.
    "promote.serving_check=false",
)


@dataclass(frozen=True)
class Life:
    session: Session
    folder: Path

    def asking(self, **rules: Any) -> "Life":
        """The same with other rules of the gate."""
        params = self.session.params
        promote = params.promote.model_copy(update=rules)
        return replace(self, session=replace(self.session, params=replace(params, promote=promote)))

    def named(self, name: str) -> "Life":
        """The same with another model in the registry."""
        register = self.session.params.register.model_copy(update={"name": name})
        return replace(self, session=replace(self.session, params=replace(self.session.params, register=register)))

    @property
    def name(self) -> str:
        return self.session.params.register.name

    def bring_in(self, each: int) -> Prepared:
        """The table of so many images a colour, ingested, validated and split, as DVC's stages do."""
        table, paths = write_table(self.folder / f"table_{each}", each), data_paths(self.session.project)
        draft = paths.raw.with_name("draft")
        before = paths.raw if paths.raw.exists() else None
        write_raw(find(str(table), IngestSettings()), draft, previous=before, progress=silent)
        shutil.rmtree(paths.raw, ignore_errors=True)
        draft.rename(paths.raw)
        paths.reference.mkdir(exist_ok=True)
        params = self.session.project.params
        validate(ValidatePaths(params, paths.raw, paths.reference, paths.validated, paths.report), silent)
        return self.split_again()

    def split_again(self, *settings: str) -> Prepared:
        """The split of the current data."""
        paths, params = data_paths(self.session.project), self.session.project.params
        override(params, list(settings), check=lambda _: None)
        split(params, paths.validated, paths.split, silent)
        version = hashlib.md5((paths.raw / "manifest.parquet").read_bytes(), usedforsecurity=False).hexdigest()
        return Prepared(version, read_json(paths.split / "leakage.json")["split_digest"], "a" * 64)

    def register(self, prepared: Prepared, model: Path, *, checks: bool | None = None) -> str:
        """A run that keeps what the gate reads, and a version of the file; of its package, where `checks` says how
        the serving check of that went.
        """
        tracking, sha256 = self.session.tracking, sha256_of_file(model)
        run_id = runs.begin(tracking, "train", f"{sha256} {prepared.split_digest}", name="colours", tags={})
        lineage = runs.new_folder(tracking, run_id, "lineage")
        write_lineage(self.session, prepared, lineage)
        package = write_package(model, self.folder / f"package_{sha256}") if checks is not None else None
        if package is not None:
            record = {"package_sha256": package.sha256, "passed": checks}
            write_json(lineage / SERVING_CHECK, record)
        runs.store(tracking, run_id, lineage, "lineage")
        runs.finish(tracking, run_id, "train", "done", place="lineage")
        export = runs.new_folder(tracking, run_id, "export")
        own = exported_file(measured_file("u8s8", size_bytes=model.stat().st_size), sha256=sha256)
        fp32 = exported_file(measured_file(), sha256="f")
        export_record({"int8": own, "fp32": fp32}, served="int8").write(export / "export.json")
        runs.store(tracking, run_id, export, "export")
        served = runs.new_folder(tracking, run_id, "served")
        scores_record().write(served / "scores.json")
        runs.store(tracking, run_id, served, "served")
        runs.finish(tracking, run_id, "quantize", "done", place="export")
        # Where a fetched model is kept: the registry needs no copy of its own for this.
        kept = tracking.work / "models" / sha256 / "model.onnx"
        kept.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(model, kept)
        tags = {"served": "int8", "step": "train", "sha256": sha256, "file": model.name}
        tags |= {"data_version": prepared.data_version, "split_digest": prepared.split_digest}
        if package is not None:
            made = registry.register(tracking, self.name, run_id=run_id, package=package, tags=tags, description="")
            return made.number
        if not registry.versions(tracking, self.name):
            tracking.client.create_registered_model(self.name)
        bare = tracking.client.create_model_version(self.name, source=f"runs:/{run_id}/m", run_id=run_id, tags=tags)
        return str(bare.version)

    def decide(self, prepared: Prepared, number: str) -> Promoted:
        outcome: Promoted = Promote(number, again=True).run(self.session, Results(prepared))
        return outcome

    def last_entry(self) -> dict[str, Any]:
        return ledger.read_ledger(self.session.tracking, self.name).entries[-1].record

    def aliases(self) -> dict[str, str]:
        return ledger.aliases(self.session.tracking, self.name)


def write_table(folder: Path, each: int) -> Path:
    """Half of the images of each colour are dull, by another camera. A larger table begins as a smaller one does."""
    folder.mkdir()
    with (folder / "table.csv").open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["path", "label", "camera"])
        for number in range(3 * each):
            colour = COLOURS[number % 3]
            shade = "dark" if number // 3 % 2 else "light"
            draw_colours([shade, colour], number).save(folder / f"{number:03d}.png")
            writer.writerow([f"{number:03d}.png", colour, {"dark": "phone", "light": "studio"}[shade]])
    return folder / "table.csv"


@pytest.fixture(scope="module")
def life(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Life]:
    with pytest.MonkeyPatch.context() as patch:
        isolate(patch)
        patch.setenv("PYTHONPATH", str(REPOSITORY))
        folder = tmp_path_factory.mktemp("colours")
        project = folder / "project"
        project.mkdir()
        for name in ("params.yaml", "dvc.yaml"):
            shutil.copy(REPOSITORY / name, project / name)
        override(project / "params.yaml", list(SETTINGS), check=lambda _: None)
        yield Life(open_session(str(project)), folder)


@pytest.fixture(scope="module")
def small(life: Life) -> Prepared:
    return life.bring_in(24)


# The tests build on each other in order: a champion is found, the data grow, it is measured again.


def test_the_slices_of_the_file_that_ships_are_scored(life: Life, small: Prepared, tmp_path: Path) -> None:
    biased = colour_model(tmp_path / "biased.onnx", red_bias=100)
    number = life.register(small, biased)
    strict = life.asking(slice_floors={"accuracy": {"camera": 0.9}})
    outcome = strict.decide(small, number)
    rules = {rule.rule: rule for rule in outcome.rules}
    rule = rules["lowest accuracy of a slice by camera"]
    # On average it is good enough: only the images of one camera betray it.
    assert rules["accuracy of the served file"].passed
    assert float(rule.value.removesuffix(" (camera phone)")) < float(rules["accuracy of the served file"].value)
    assert (outcome.status, rule.passed) == ("refused", False)
    assert outcome.reasons == [f"lowest accuracy of a slice by camera: {rule.value}, should be at least 0.9"]
    sound = life.register(small, colour_model(tmp_path / "sound.onnx"))
    promoted = strict.decide(small, sound)
    assert promoted.promoted
    assert life.aliases() == {"champion": sound}
    # Where it was scored is reported, and that it was exported elsewhere.
    (warning,) = [rule for rule in promoted.rules if rule.rule == "processor of these scores"]
    assert warning.value == life.last_entry()["processor"] == str(this_processor())
    assert "exported on another (none of these)" in warning.limit


def test_a_champion_that_stricter_rules_refuse_is_shown_as_refused_and_as_serving(
    life: Life, small: Prepared, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(life.session.project.root)
    strict = life.named("strict")
    number = strict.register(small, colour_model(tmp_path / "fair.onnx", red_bias=100.25))
    assert strict.decide(small, number).promoted
    outcome = strict.asking(floors={"accuracy": 0.999}).decide(small, number)
    assert (outcome.status, outcome.promoted) == ("refused", False)
    assert outcome.reasons[-1].startswith("it serves all the same")
    monkeypatch.setattr(versions, "model_name", lambda project: "strict")
    (row,) = versions.list_models(show=True).versions
    assert (row.verdict, row.serves, row.aliases) == ("refused", True, ["champion"])
    assert "refused, but serves" in capsys.readouterr().out


def test_a_model_that_was_deleted_leaves_no_champion_behind(life: Life, small: Prepared, tmp_path: Path) -> None:
    """The registry counts from 1 again: the new version 1 has nothing to do with what was decided about the old one."""
    again = life.named("deleted and made again")
    number = again.register(small, colour_model(tmp_path / "first.onnx", red_bias=0.5))
    assert again.decide(small, number).promoted
    again.session.tracking.client.delete_registered_model(again.name)
    worse = again.register(small, colour_model(tmp_path / "worse.onnx", red_bias=100.5))
    assert worse == number
    outcome = again.asking(floors={"accuracy": 0.99}).decide(small, worse)
    assert (outcome.status, outcome.promoted) == ("refused", False)
    assert again.aliases() == {"challenger": worse}
    waits = again.asking(approval=True)
    sound = waits.register(small, colour_model(tmp_path / "sound.onnx", red_bias=0.25))
    assert waits.decide(small, sound).status == "awaiting approval"
    assert again.aliases() == {"challenger": sound}


def test_a_serving_check_that_failed_keeps_the_package_out(life: Life, small: Prepared, tmp_path: Path) -> None:
    asking, before = life.asking(serving_check=True), life.aliases()["champion"]
    for passed in (None, False, True):
        file = colour_model(tmp_path / "again.onnx", red_bias=2 + bool(passed) + 0.5 * (passed is None))
        version = asking.register(small, file, checks=passed)
        outcome = asking.decide(small, version)
        (rule,) = [rule for rule in outcome.rules if rule.rule == "serving check in a clean process"]
        assert (rule.passed, outcome.promoted) == (passed is True, passed is True), outcome.reasons
        assert life.aliases()["champion"] == (version if passed else before)


def test_a_package_that_changed_since_its_check_is_not_decided_on(life: Life, small: Prepared, tmp_path: Path) -> None:
    asking, before = life.asking(serving_check=True), life.aliases()
    version = asking.register(small, colour_model(tmp_path / "sound.onnx", red_bias=4), checks=True)
    registered = registry.get_version(life.session.tracking, life.name, version)
    with (stored_folder(life.session.tracking, registered) / "scoring.py").open("a") as scoring:
        scoring.write("# changed\n")
    with pytest.raises(ServiceError, match=f"the package of version {version} isn't the one that was checked"):
        asking.decide(small, version)
    assert life.aliases() == before


def test_a_file_is_scored_on_the_provider_that_it_was_measured_on_or_not_at_all(
    life: Life, small: Prepared, tmp_path: Path
) -> None:
    before = life.aliases()
    version = life.register(small, colour_model(tmp_path / "elsewhere.onnx", red_bias=9, provider="tensorrt"))
    with pytest.raises(ServiceError, match=f"version {version} can't be scored here: the model was measured on tens"):
        life.decide(small, version)
    assert life.aliases() == before


def test_a_champion_is_measured_again_on_the_test_split_of_grown_data(
    life: Life, small: Prepared, tmp_path: Path
) -> None:
    champion = life.register(small, colour_model(tmp_path / "dull.onnx", red_bias=80))
    life.asking(max_drop_against_champion={"accuracy": 1.0}).decide(small, champion)
    assert life.aliases()["champion"] == champion
    then = life.last_entry()["comparison"]

    grown = life.bring_in(40)
    assert grown.split_digest != small.split_digest
    challenger = life.register(grown, colour_model(tmp_path / "better.onnx", red_bias=5))
    assert life.decide(grown, challenger).promoted
    now = life.last_entry()["comparison"]
    paths = data_paths(life.session.project)
    test = pq.read_table(paths.split / "split.parquet").to_pylist()
    test = [row for row in test if row["split"] == "test"]
    # No image moved when the data grew: nothing has to be taken out, and both answer all old and new test images.
    assert (now["version"], now["images"], now["taken_out"]) == (champion, len(test), 0)
    assert now["images"] > then["images"]
    assert now["test_digest"] != then["test_digest"]
    assert (now["challenger"]["accuracy"], now["champion"]["accuracy"]) == (
        1.0,
        accuracy_of(tmp_path / "dull.onnx", life),
    )
    assert now["champion"]["accuracy"] != then["challenger"]["accuracy"]

    # Split again, images that the champion was trained on stand in the test split: they count for neither.
    resplit = life.split_again("split.seed=8")
    late = life.register(resplit, colour_model(tmp_path / "late.onnx", red_bias=6))
    life.decide(resplit, late)
    again = life.last_entry()["comparison"]
    lineage = runs.folder_of(
        life.session.tracking, registry.get_version(life.session.tracking, "colours", challenger).run_id
    )
    learned = {
        row["sha256"]
        for row in pq.read_table(lineage / "lineage" / "split.parquet").to_pylist()
        if row["split"] in ("train", "val")
    }
    test = [row for row in pq.read_table(paths.split / "split.parquet").to_pylist() if row["split"] == "test"]
    assert again["version"] == challenger
    assert again["taken_out"] == sum(row["sha256"] in learned for row in test) > 0
    assert again["images"] == len(test) - again["taken_out"]


def test_near_duplicates_of_what_the_champion_learned_from_count_for_neither(life: Life, tmp_path: Path) -> None:
    """Such as the same picture stored again with other bytes, which a later split assigned to test."""
    resplit, file = life.split_again(), data_paths(life.session.project).split / "split.parquet"
    tracking = life.session.tracking
    none = life.asking(floors={"accuracy": 1.1})
    none.decide(resplit, life.register(resplit, colour_model(tmp_path / "one.onnx", red_bias=7)))
    before = life.last_entry()["comparison"]
    champion = registry.get_version(tracking, life.name, before["version"])
    learned = images_of(training_lineage(tracking, champion), ("train",))
    table = pq.read_table(file)
    rows = table.to_pylist()
    copied = next(row["cluster"] for row in rows if row["sha256"] in learned)
    unknown = next(
        row
        for row in rows
        if row["split"] == "test" and row["sha256"] not in known_images(life.session, champion, ("train", "val"))
    )
    clusters = [copied if row is unknown else row["cluster"] for row in rows]
    place = table.column_names.index("cluster")
    pq.write_table(table.set_column(place, table.field(place), pa.array(clusters, table.field(place).type)), file)
    none.decide(resplit, life.register(resplit, colour_model(tmp_path / "two.onnx", red_bias=8)))
    after = life.last_entry()["comparison"]
    assert after["version"] == before["version"]
    assert (after["taken_out"], after["images"]) == (before["taken_out"] + 1, before["images"] - 1)


def accuracy_of(model: Path, life: Life) -> float:
    """Accuracy of the model on the current test split, computed by hand."""
    classifier, raw = OnnxClassifier(model), life.folder / "table_40"
    rows = pq.read_table(data_paths(life.session.project).split / "split.parquet").to_pylist()
    hits = [
        COLOURS[classifier.logits(classifier.square((raw / row["path"]).read_bytes())[None])[0].argmax()]
        == row["label"]
        for row in rows
        if row["split"] == "test"
    ]
    return float(np.mean(hits))


def test_a_class_list_that_does_not_match_moves_nothing(life: Life, small: Prepared, tmp_path: Path) -> None:
    number = life.register(small, colour_model(tmp_path / "two.onnx", classes=("blue", "green")))
    before = life.aliases(), len(ledger.read_ledger(life.session.tracking, "colours").entries)
    with pytest.raises(
        DataError, match=r"can't be scored on the current test split: red is none of the 2 classes; train"
    ):
        life.decide(small, number)
    assert (life.aliases(), len(ledger.read_ledger(life.session.tracking, "colours").entries)) == before
