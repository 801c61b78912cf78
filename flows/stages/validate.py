"""DVC stage: decode and measure every raw image, quarantine what can't be decoded, and check the rules on the data."""

import argparse
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path, PurePosixPath

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from components.data.images import measurement
from components.data.images.decoding import IMAGE_ENDINGS, decode
from components.data.images.embeddings import FILE as EMBEDDINGS
from components.data.images.embeddings import EmbeddingSettings, Pixels, embed, write_embeddings
from components.data.images.patch_features import patch_features
from components.data.images.preprocessing import PreprocessSettings
from components.data.quality.label_corrections import Correction, apply_corrections, read_corrections
from components.data.quality.label_errors import (
    LabelSearch,
    LabelSettings,
    check_searchable,
    find_label_errors,
    suspects_csv,
)
from components.data.quality.profile import profile_of, read_profile
from components.data.quality.quality_report import QualityReport, RuleResult
from components.data.quality.rule_checks import check_quality
from components.data.quality.rules import QualitySettings
from components.data.raw.dataset import RawImages, read_manifest_table, read_raw_dataset
from components.data.raw.measurement_pass import measure_all
from components.shared.errors import DataError
from components.shared.files import write_json, write_text
from components.shared.parquet import write_table
from components.shared.plural import Sentence, commonest, counted
from components.shared.progress import Progress
from components.task.label_text import counted_names
from components.task.task import Task
from components.task.task_types import task_type
from flows.project.fingerprint import code_fingerprint
from flows.project.project import HOME_VARIABLE
from flows.project.sections import read_optional, read_section
from flows.stages.entry import run_stage

_REPORTED_SUSPECTS, _NAMED_EXAMPLES = 60, 3


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
    """Writes the tables, the profile and the report, and returns a summary.

    Raises DataError where no file can be decoded, or a rule with the level `stop` is broken.
    """
    label_settings: LabelSettings = read_section(paths.params, "labels", LabelSettings)
    preprocess: PreprocessSettings = read_section(paths.params, "preprocess", PreprocessSettings)
    quality: QualitySettings = read_section(paths.params, "validate", QualitySettings)
    manifest, task = read_manifest_table(paths.raw), task_type(read_raw_dataset(paths.raw).task)
    check_searchable(label_settings, task)
    corrections = _corrections(label_settings, paths.reference, manifest, task)
    measured = measure_all(
        manifest,
        paths.raw,
        max_megapixels=preprocess.max_megapixels,
        code=code_fingerprint((measurement.__name__,)),
        cache=_measurement_cache(paths.params),
        progress=progress,
    )
    table = _write_images(paths.validated, manifest, measured.outcomes, corrections, task)
    quarantine = _write_quarantine(paths.validated, manifest, measured.outcomes)
    baseline = paths.reference / "baseline.json"
    checked = check_quality(
        table,
        quarantined=_classes_of_quarantined(manifest, measured.outcomes, corrections, task),
        settings=quality,
        baseline=read_profile(baseline) if baseline.exists() else None,
        may_lack_labels=task.may_lack_labels,
    )
    with RawImages(paths.raw) as store:
        pixels = _decoder(table, store, preprocess.max_megapixels)
        search = _search(table, pixels, label_settings, paths.reference, progress)
        _write_report(paths, checked, quarantine, corrections, search)
        if checked.stopping:
            raise DataError(f"the data breaks validation: {_broken(checked.stopping, quarantine, paths.report)}")
        _embed(paths, len(table), pixels, progress)
    return _summary(
        f"{counted(len(table), 'image')} ({measured.num_cached} measured before)",
        _quarantined(quarantine, paths.validated),
        _wrong_endings(table),
        f"{counted(len(corrections), 'label')} corrected" if corrections else "",
        f"{counted(len(search.suspects), 'label')} suspected" if search.suspects else "",
        _skipped(search.skipped_classes),
        f"warnings: {_broken(checked.broken, quarantine, paths.report)}" if checked.broken else "every rule passed",
    )


def _corrections(settings: LabelSettings, reference: Path, manifest: pa.Table, task: type[Task]) -> list[Correction]:
    if settings.corrections is None:
        return []
    labels = dict(zip(manifest["path"].to_pylist(), manifest["label"].to_pylist(), strict=True))
    return read_corrections(reference / settings.corrections, labels, task)


def _measurement_cache(params: Path) -> Path:
    """The folder of cached measurements; not among the stage's outputs, for DVC deletes those before the stage runs."""
    return Path(os.environ.get(HOME_VARIABLE) or params.parent / ".darkroom") / "measurements"


def _write_images(
    validated: Path, manifest: pa.Table, outcomes: pa.Table, corrections: list[Correction], task: type[Task]
) -> pd.DataFrame:
    """Writes images.parquet and profile.json; returns the table without its pictures.

    images.parquet has the manifest's rows that can be decoded, with all of their columns and the measurements.
    """
    table = apply_corrections(manifest.drop_columns(["problem"]), corrections, task)
    for name in outcomes.column_names:
        table = table.append_column(name, outcomes[name])
    write_table(validated / "images.parquet", table.filter(pc.is_null(table["reason"])).drop_columns(["reason"]))
    written = pq.read_table(validated / "images.parquet")
    images: pd.DataFrame = written.drop_columns(["thumbnail", "colours"]).to_pandas()
    write_json(validated / "profile.json", profile_of(images))
    return images


def _write_quarantine(validated: Path, manifest: pa.Table, outcomes: pa.Table) -> pd.DataFrame:
    """Writes and returns path, label and reason of each file that can't be decoded."""
    table = manifest.select(["path", "label"]).append_column("reason", outcomes["reason"])
    quarantine: pd.DataFrame = table.filter(pc.is_valid(table["reason"])).to_pandas()
    write_text(validated / "quarantine.csv", quarantine.to_csv(index=False))
    if len(quarantine) == len(manifest):
        reasons = f" ({commonest(quarantine['reason'])})" if len(quarantine) else ""
        raise DataError(
            f"none of the {len(manifest)} files can be decoded{reasons}; ingest images that can (quarantine.csv has "
            "the reason of each)"
        )
    return quarantine


def _classes_of_quarantined(
    manifest: pa.Table, outcomes: pa.Table, corrections: list[Correction], task: type[Task]
) -> list[list[str]]:
    table = manifest.select(["path", "label", "labels"]).filter(pc.is_valid(outcomes["reason"]))
    rows = apply_corrections(table, corrections, task).to_pylist()
    return [counted_names(row["label"], row["labels"]) for row in rows]


def _decoder(table: pd.DataFrame, store: RawImages, max_megapixels: float) -> Pixels:
    locations = list(table[["shard", "offset", "size_bytes"]].itertuples(index=False, name=None))
    return lambda row: decode(store.read(*locations[row]), max_megapixels=max_megapixels).pixels_HWC


def _search(
    table: pd.DataFrame, pixels: Pixels, settings: LabelSettings, reference: Path, progress: Progress
) -> LabelSearch:
    if not settings.find_errors:
        return LabelSearch([], [])
    if settings.features is None:
        features = patch_features(len(table), pixels, seed=settings.seed, progress=progress)
    else:
        model = reference / settings.features
        features = embed(len(table), pixels, model=model, setting="labels.features", progress=progress)
    labels, paths, sha256 = (list(table[name]) for name in ("label", "path", "sha256"))
    return find_label_errors(features, labels, paths, sha256=sha256, settings=settings)


def _write_report(
    paths: ValidatePaths,
    checked: QualityReport,
    quarantine: pd.DataFrame,
    corrections: list[Correction],
    search: LabelSearch,
) -> None:
    """Writes label_errors.csv and validation.json."""
    write_text(paths.validated / "label_errors.csv", suspects_csv(search.suspects))
    record = checked.as_record() | {
        "quarantined": quarantine[["path", "reason"]].to_dict("records"),
        "corrected_labels": [asdict(correction) for correction in corrections],
        "suspected_label_errors": [asdict(suspect) for suspect in search.suspects[:_REPORTED_SUSPECTS]],
        "num_suspected": len(search.suspects),
        "classes_not_searched": search.skipped_classes,
    }
    write_json(paths.report, record)


def _embed(paths: ValidatePaths, num_images: int, pixels: Pixels, progress: Progress) -> None:
    """Writes the embeddings by which the split stage finds duplicates, where its settings name a model."""
    settings = read_optional(paths.params, "split.duplicates.embeddings", EmbeddingSettings)
    if settings is not None:
        model, setting = paths.reference / settings.model, "split.duplicates.embeddings.model"
        embedding_NF = embed(num_images, pixels, model=model, setting=setting, progress=progress)
        write_embeddings(paths.validated / EMBEDDINGS, embedding_NF)


def _summary(*clauses: str) -> Sentence:
    return ", ".join(filter(None, clauses))


def _broken(results: list[RuleResult], quarantine: pd.DataFrame, report: Path) -> Sentence:
    """The broken rules with some of what broke them, where to read more, and what to do."""
    rules = "; ".join(
        f"{result.rule} is {result.value}, should be {result.limit}{_reasons(result, quarantine)}" for result in results
    )
    return f"{rules}; {report} lists more: fix the data, or change the rule under validate in params.yaml"


def _reasons(result: RuleResult, quarantine: pd.DataFrame) -> Sentence:
    if result.rule == "decodable_fraction":
        return f" ({commonest(quarantine['reason'])}, such as {', '.join(quarantine['path'][:_NAMED_EXAMPLES])})"
    return _such_as(result.examples)


def _quarantined(quarantine: pd.DataFrame, validated: Path) -> Sentence:
    if quarantine.empty:
        return "none quarantined"
    return (
        f"{len(quarantine)} quarantined ({commonest(quarantine['reason'])}; {validated / 'quarantine.csv'} lists them)"
    )


def _wrong_endings(table: pd.DataFrame) -> Sentence:
    expected = table["path"].map(lambda path: IMAGE_ENDINGS.get(PurePosixPath(path).suffix.lower()))
    wrong = table[expected != table["format"]]
    if wrong.empty:
        return ""
    formats = commonest(
        f"{PurePosixPath(path).suffix or 'no ending'} is {format_}"
        for path, format_ in zip(wrong["path"], wrong["format"], strict=True)
    )
    example = wrong["path"].iloc[0]
    return f"{counted(len(wrong), 'ending is', 'endings are')} wrong, the content counts ({formats}, such as {example})"


def _skipped(classes: list[str]) -> Sentence:
    return f"{', '.join(classes)} too small to be searched for label errors" if classes else ""


def _such_as(names: list[str]) -> Sentence:
    return f" (such as {', '.join(names[:_NAMED_EXAMPLES])})" if names else ""
