"""Records of exports to change: a file of each format with what was measured of it."""

from collections.abc import Mapping
from typing import Any

from components.records.export import ExportedFile, ExportRecord, Latency, MeasuredFile, Parity, ScoresOnTest
from components.shared.processor import Processor

PARITY = Parity(8, 0.0, 1.0)


def measured_file(recipe: str = "fp32", **changes: Any) -> MeasuredFile:
    fields: dict[str, Any] = {
        "qat_epochs": 0,
        "size_bytes": 1000,
        "validation_accuracy": 0.9,
        "agreement": 1.0,
        "latency": Latency(1.0, 1.0, 1.0),
        "images_per_second": 500.0,
        "best_batch": 8,
        "peak_mib": 60.5,
    }
    return MeasuredFile(recipe=recipe, **fields | changes)


def exported_file(
    measured: MeasuredFile, *, sha256: str = "0" * 64, test: dict[str, float] | None = None, parity: Parity = PARITY
) -> ExportedFile:
    return ExportedFile(measured, parity, ScoresOnTest(sha256, test or {}, {}))


def export_record(formats: Mapping[str, ExportedFile], *, served: str, **changes: Any) -> ExportRecord:
    fields: dict[str, Any] = {
        "int8_variants": {},
        "skipped": {},
        "reasons": [],
        "calibration_digest": None,
        "processor": Processor("another", ["none of these"]),
    }
    return ExportRecord(formats=dict(formats), served=served, **fields | changes)
