"""DVC stage: decode and measure every raw image, quarantine what can't be decoded, judge what remains."""

import argparse
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from components.data.images.decoding import decode
from components.data.images.embeddings import FILE as EMBEDDINGS
from components.data.images.embeddings import EmbeddingSettings, Pixels, embed, write_embeddings
from components.data.images.preprocessing import PreprocessSettings
from components.data.quality.expectations import QualityReport, QualitySettings, RuleResult, check_quality
from components.data.quality.label_errors import (
    Correction,
    LabelSearch,
    LabelSettings,
    check_searchable,
    find_label_errors,
    patch_features,
    read_corrections,
    suspects_csv,
)
from components.data.quality.profile import profile_of, read_profile
from components.data.raw.dataset import RawImages, read_manifest_table, read_raw_dataset
from components.data.raw.measurement_pass import measure_all
from components.shared.errors import DataError
from components.shared.files import write_json, write_text
from components.shared.parquet import write_table
from components.shared.plural import counted
from components.shared.progress import Progress
from components.task.label_text import counted_names
from components.task.registry import task_type
from components.task.task import Task
from flows.project.project import HOME_VARIABLE
from flows.project.sections import read_optional, read_section
from flows.stages.entry import run_stage

SHOWN_SUSPECTS = 60
_NAMED = 3


@dataclass(frozen=True)
class ValidatePaths:
    """The files and folders that the stage reads and writes, as dvc.yaml names them."""

    params: Path
    raw: Path
    reference: Path
    """What people provide: baseline.json, corrected labels, a model for features."""
    validated: Path
    report: Path


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    for field in fields(ValidatePaths):
        parser.add_argument(f"--{field.name}", type=Path, required=True)
    paths = ValidatePaths(**vars(parser.parse_args(arguments)))
    run_stage("validate", lambda progress: validate(paths, progress))


def validate(paths: ValidatePaths, progress: Progress) -> str:
    """Writes the tables, the profile and the report; raises DataError when a rule says stop."""
    label_settings: LabelSettings = read_section(paths.params, "labels", LabelSettings)
    preprocess: PreprocessSettings = read_section(paths.params, "preprocess", PreprocessSettings)
    manifest = read_manifest_table(paths.raw)
    task = task_type(read_raw_dataset(paths.raw).task)
    check_searchable(label_settings, task)
    corrections = _corrections(label_settings, paths.reference, manifest, task)
    measured = measure_all(
        manifest,
        paths.raw,
        max_megapixels=preprocess.max_megapixels,
        store=_measurements(paths.params),
        progress=progress,
    )
    _write_images(paths.validated / "images.parquet", manifest, measured.outcomes, corrections, task)
    quarantine = _quarantine(manifest, measured.outcomes)
    write_text(paths.validated / "quarantine.csv", quarantine.to_csv(index=False))
    if len(quarantine) == len(manifest):
        raise DataError(
            f"none of the {len(manifest)} files can be decoded"
            + (f", for one: {quarantine['path'][0]}: {quarantine['reason'][0]}" if len(quarantine) else "")
            + "; ingest images that can (quarantine.csv has the reason of each)"
        )
    table = pq.read_table(paths.validated / "images.parquet").drop_columns(["thumbnail", "colours"]).to_pandas()
    write_json(paths.validated / "profile.json", profile_of(table))
    lost = _lost(manifest, measured.outcomes, corrections, task)
    outcome, search = _judge(paths, table, quarantine, lost, corrections, progress)
    if outcome.stopping:
        raise DataError(f"the data breaks validation: {_broken(outcome.stopping, quarantine, paths.report)}")
    _embed(paths, table, preprocess.max_megapixels, progress)
    return (
        f"{counted(len(table), 'image')} ({measured.num_known} measured before), {_quarantined(quarantine, paths)}, "
        + (f"{counted(len(corrections), 'label')} corrected, " if corrections else "")
        + (f"{counted(len(search.suspects), 'label')} suspected, " if search.suspects else "")
        + (f"{', '.join(search.unjudged)} too small to be searched for label errors, " if search.unjudged else "")
        + _warnings(outcome, quarantine, paths.report)
    )


def _judge(
    paths: ValidatePaths,
    table: pd.DataFrame,
    quarantine: pd.DataFrame,
    lost: list[list[str]],
    corrections: list[Correction],
    progress: Progress,
) -> tuple[QualityReport, LabelSearch]:
    """Writes the report and the suspected label errors."""
    quality: QualitySettings = read_section(paths.params, "validate", QualitySettings)
    label_settings: LabelSettings = read_section(paths.params, "labels", LabelSettings)
    preprocess: PreprocessSettings = read_section(paths.params, "preprocess", PreprocessSettings)
    baseline = paths.reference / "baseline.json"
    outcome = check_quality(
        table,
        quarantined=lost,
        settings=quality,
        baseline=read_profile(baseline) if baseline.exists() else None,
    )
    with RawImages(paths.raw) as store:
        decoded = _decoder(table, store, preprocess.max_megapixels)
        search = _search(table, decoded, label_settings, paths.reference, progress)
    suspects = search.suspects
    write_text(paths.validated / "label_errors.csv", suspects_csv(suspects))
    record = outcome.as_record() | {
        "quarantined": quarantine[["path", "reason"]].to_dict("records"),
        "corrected_labels": [asdict(correction) for correction in corrections],
        "suspected_label_errors": [asdict(suspect) for suspect in suspects[:SHOWN_SUSPECTS]],
        "num_suspected": len(suspects),
        "classes_not_searched": search.unjudged,
    }
    write_json(paths.report, record)
    return outcome, search


def _embed(paths: ValidatePaths, table: pd.DataFrame, max_megapixels: float, progress: Progress) -> None:
    """Writes a row an image where the split asks for a model's embeddings: here the images are at hand."""
    settings = read_optional(paths.params, "split.duplicates.embeddings", EmbeddingSettings)
    if settings is None:
        return
    with RawImages(paths.raw) as store:
        decoded = _decoder(table, store, max_megapixels)
        model = paths.reference / settings.model
        setting = "split.duplicates.embeddings.model"
        found = embed(len(table), decoded, model=model, setting=setting, progress=progress)
    write_embeddings(paths.validated / EMBEDDINGS, found)


def _corrections(settings: LabelSettings, reference: Path, manifest: pa.Table, task: type[Task]) -> list[Correction]:
    if settings.corrections is None:
        return []
    labels = dict(zip(manifest["path"].to_pylist(), manifest["label"].to_pylist(), strict=True))
    return read_corrections(reference / settings.corrections, labels, task)


def _search(
    table: pd.DataFrame, decoded: Pixels, settings: LabelSettings, reference: Path, progress: Progress
) -> LabelSearch:
    if not settings.find_errors:
        return LabelSearch([], [])
    if settings.features is None:
        features = patch_features(len(table), decoded, seed=settings.seed, progress=progress)
    else:
        model = reference / settings.features
        features = embed(len(table), decoded, model=model, setting="labels.features", progress=progress)
    labels, paths, sha256 = (list(table[name]) for name in ("label", "path", "sha256"))
    return find_label_errors(features, labels, paths, sha256=sha256, settings=settings)


def _decoder(table: pd.DataFrame, store: RawImages, max_megapixels: float) -> Pixels:
    places = list(table[["shard", "offset", "size_bytes"]].itertuples(index=False, name=None))
    return lambda row: decode(store.read(*places[row]), max_megapixels=max_megapixels).pixels_HWC


def _measurements(params: Path) -> Path:
    """The store of this machine: outside of what DVC manages, for DVC deletes a stage's outputs before it runs."""
    return Path(os.environ.get(HOME_VARIABLE) or params.parent / ".darkroom") / "measurements"


def _write_images(
    target: Path, manifest: pa.Table, outcomes: pa.Table, corrections: list[Correction], task: type[Task]
) -> None:
    """The manifest's rows that could be decoded, with all of its columns, and what was measured."""
    table = _corrected(manifest.drop_columns(["problem"]), corrections, task)
    for name in outcomes.column_names:
        table = table.append_column(name, outcomes[name])
    write_table(target, table.filter(pc.is_null(table["reason"])).drop_columns(["reason"]))


def _quarantine(manifest: pa.Table, outcomes: pa.Table) -> pd.DataFrame:
    """Path, label and reason of each file that could not be decoded."""
    table = manifest.select(["path", "label"]).append_column("reason", outcomes["reason"])
    quarantine: pd.DataFrame = table.filter(pc.is_valid(table["reason"])).to_pandas()
    return quarantine


def _lost(manifest: pa.Table, outcomes: pa.Table, corrections: list[Correction], task: type[Task]) -> list[list[str]]:
    """The classes of each file that could not be decoded; none of one that stands in no class."""
    table = manifest.select(["path", "label", "labels"]).filter(pc.is_valid(outcomes["reason"]))
    rows = _corrected(table, corrections, task).to_pylist()
    return [counted_names(row["label"], row["labels"]) for row in rows]


def _corrected(table: pa.Table, corrections: list[Correction], task: type[Task]) -> pa.Table:
    """With the corrected labels in `label`, and taken apart in `labels` as the label type says; what they were
    stays in `ingested_label` and `ingested_labels`, by which images are dealt to splits."""
    new = {correction.path: correction.corrected for correction in corrections}
    paths = table["path"].to_pylist()
    taken_apart = {path: task.labels_of(label) for path, label in new.items()}
    for name, values in (("label", new), ("labels", taken_apart)):
        if new and name in table.column_names:
            table = table.append_column(f"ingested_{name}", table[name])
            index = table.column_names.index(name)
            column = [values.get(path, old) for path, old in zip(paths, table[name].to_pylist(), strict=True)]
            table = table.set_column(index, table.schema.field(name), pa.array(column, table.schema.field(name).type))
    return table


def _warnings(outcome: QualityReport, quarantine: pd.DataFrame, report: Path) -> str:
    broken = [result for result in outcome.results if not result.passed]
    return f"warnings: {_broken(broken, quarantine, report)}" if broken else "every rule passed"


def _broken(results: list[RuleResult], quarantine: pd.DataFrame, report: Path) -> str:
    """The rules with some of what broke them, where to read more, and what to do."""
    rules = "; ".join(
        f"{result.rule} is {result.value}, should be {result.limit}{_such_as(_culprits(result, quarantine))}"
        for result in results
    )
    return f"{rules}; {report} lists more: fix the data, or change the rule under validate in params.yaml"


def _culprits(result: RuleResult, quarantine: pd.DataFrame) -> list[str]:
    return list(quarantine["path"]) if result.rule == "decodable_fraction" else result.examples


def _quarantined(quarantine: pd.DataFrame, paths: ValidatePaths) -> str:
    if quarantine.empty:
        return "none quarantined"
    named = _such_as(list(quarantine["path"]))
    return f"{len(quarantine)} quarantined{named}, each with its reason in {paths.validated / 'quarantine.csv'}"


def _such_as(names: list[str]) -> str:
    return f" (such as {', '.join(names[:_NAMED])})" if names else ""
