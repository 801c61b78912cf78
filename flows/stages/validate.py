"""DVC stage: decode and measure every raw image, quarantine what can't be decoded, judge what remains."""

import argparse
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path

import pandas as pd
import pyarrow as pa

from components.data.decoding import UndecodableImage
from components.data.preprocessing import PreprocessSettings
from components.data.probing import Measurement, probe
from components.data.quality import QualityReport, QualitySettings, check_quality
from components.data.raw import RawFile, RawImages, read_manifest
from components.data.tables import write_table
from components.errors import DataError
from components.files import write_json, write_text
from components.progress import Progress, track
from flows.sections import read_section
from flows.stages.entry import run_stage

LOCATION = ("path", "label", "group", "given_split", "sha256", "shard", "offset", "size_bytes")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    for flag in ("--params", "--raw", "--validated", "--report"):
        parser.add_argument(flag, type=Path, required=True)
    flags = parser.parse_args()
    run_stage("validate", lambda progress: validate(flags.params, flags.raw, flags.validated, flags.report, progress))


def validate(params: Path, raw: Path, validated: Path, report: Path, progress: Progress) -> str:
    """Writes images.parquet and quarantine.csv; raises DataError when a rule says stop."""
    quality: QualitySettings = read_section(params, "validate", QualitySettings)
    preprocess: PreprocessSettings = read_section(params, "preprocess", PreprocessSettings)
    rows = read_manifest(raw)
    outcomes = measure(rows, raw, max_megapixels=preprocess.max_megapixels, progress=progress)
    accepted = [(row, found) for row, found in zip(rows, outcomes, strict=True) if isinstance(found, Measurement)]
    quarantine = [(row, found) for row, found in zip(rows, outcomes, strict=True) if isinstance(found, str)]
    _write_images(validated / "images.parquet", accepted)
    _write_quarantine(validated / "quarantine.csv", quarantine)
    if not accepted:
        raise DataError(
            f"none of the {len(rows)} files can be decoded, for one: {quarantine[0][0].path}: {quarantine[0][1]}"
        )
    table = pd.DataFrame(
        [{"path": row.path, "label": row.label, "sha256": row.sha256} | asdict(found) for row, found in accepted]
    )
    outcome = check_quality(table, num_quarantined=len(quarantine), settings=quality)
    reasons = [{"path": row.path, "reason": reason} for row, reason in quarantine]
    write_json(report, outcome.as_record() | {"quarantined": reasons})
    _refuse_bad(outcome, report)
    return f"{len(accepted)} images, {len(quarantine)} quarantined, {_warnings(outcome)}"


def measure(rows: list[RawFile], raw: Path, *, max_megapixels: float, progress: Progress) -> list[Measurement | str]:
    """For each file what was measured, or the reason why it goes to quarantine."""

    def one(row: RawFile) -> Measurement | str:
        if row.problem is not None or row.shard is None:
            return row.problem or "the file has no content"
        try:
            return probe(store.read(row.shard, row.offset, row.size_bytes), row.path, max_megapixels=max_megapixels)
        except UndecodableImage as problem:
            return str(problem)

    with RawImages(raw) as store, ThreadPoolExecutor() as threads:
        return list(track(threads.map(one, rows), task="validate", total=len(rows), progress=progress))


def _write_images(target: Path, accepted: list[tuple[RawFile, Measurement]]) -> None:
    fields = [pa.field(name, pa.int64() if name in ("offset", "size_bytes") else pa.string()) for name in LOCATION]
    location = pa.Table.from_pylist(
        [{name: getattr(row, name) for name in LOCATION} for row, _ in accepted], schema=pa.schema(fields)
    )
    measured = [asdict(found) for _, found in accepted]
    for name in Measurement.__annotations__:
        kind = pa.uint64() if name.endswith("hash") else None
        location = location.append_column(name, pa.array([row[name] for row in measured], type=kind))
    write_table(target, location)


def _write_quarantine(target: Path, quarantine: list[tuple[RawFile, str]]) -> None:
    frame = pd.DataFrame(
        [(row.path, row.label, reason) for row, reason in quarantine], columns=["path", "label", "reason"]
    )
    write_text(target, frame.to_csv(index=False))


def _refuse_bad(outcome: QualityReport, report: Path) -> None:
    if outcome.stopping:
        broken = "; ".join(
            f"{result.rule} is {result.value}, should be {result.limit}"
            + (f" (such as {', '.join(result.examples[:3])})" if result.examples else "")
            for result in outcome.stopping
        )
        raise DataError(
            f"the data breaks validation: {broken}; mend the data or the rule in params.yaml (see {report})"
        )


def _warnings(outcome: QualityReport) -> str:
    broken = [result.rule for result in outcome.results if not result.passed]
    return f"warnings: {', '.join(broken)}" if broken else "every rule passed"


if __name__ == "__main__":
    main()
