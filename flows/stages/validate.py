"""DVC stage: decode and measure every raw image, quarantine what can't be decoded, judge what remains."""

import argparse
import os
from dataclasses import asdict
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from components.data.measuring import Outcome, measure_all
from components.data.preprocessing import PreprocessSettings
from components.data.probing import Measurement
from components.data.quality import QualityReport, QualitySettings, check_quality
from components.data.raw import MANIFEST, RawFile, read_manifest
from components.data.tables import write_table
from components.errors import DataError
from components.files import write_json, write_text
from components.progress import Progress
from flows.project import HOME_VARIABLE
from flows.sections import read_section
from flows.stages.entry import run_stage


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
    measured = measure_all(
        rows, raw, max_megapixels=preprocess.max_megapixels, store=_measurements(params), progress=progress
    )
    accepted = [isinstance(outcome, Measurement) for outcome in measured.outcomes]
    quarantine = [(row, reason) for row, reason in zip(rows, measured.outcomes, strict=True) if isinstance(reason, str)]
    _write_images(validated / "images.parquet", raw, accepted, measured.outcomes)
    _write_quarantine(validated / "quarantine.csv", quarantine)
    if not any(accepted):
        raise DataError(
            f"none of the {len(rows)} files can be decoded"
            + (f", for one: {quarantine[0][0].path}: {quarantine[0][1]}" if quarantine else "")
        )
    table = pq.read_table(validated / "images.parquet").drop_columns(["thumbnail"]).to_pandas()
    outcome = check_quality(table, num_quarantined=len(quarantine), settings=quality)
    reasons = [{"path": row.path, "reason": reason} for row, reason in quarantine]
    write_json(report, outcome.as_record() | {"quarantined": reasons})
    _refuse_bad(outcome, report)
    return (
        f"{len(table)} images ({measured.num_known} measured before), {len(quarantine)} quarantined, "
        f"{_warnings(outcome)}"
    )


def _measurements(params: Path) -> Path:
    """The store of this machine: outside of what DVC manages, for DVC deletes a stage's outputs before it runs."""
    return Path(os.environ.get(HOME_VARIABLE) or params.parent / ".darkroom") / "measurements"


def _write_images(target: Path, raw: Path, accepted: list[bool], outcomes: list[Outcome]) -> None:
    """The manifest's rows that could be decoded, with all of its columns, and what was measured."""
    table = pq.read_table(raw / MANIFEST).drop_columns(["problem"]).filter(pa.array(accepted, pa.bool_()))
    measured = [asdict(found) for found in outcomes if isinstance(found, Measurement)]
    for name in Measurement.__annotations__:
        kind = pa.uint64() if name.endswith("hash") else None
        table = table.append_column(name, pa.array([row[name] for row in measured], type=kind))
    write_table(target, table)


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
