"""Report section on lineage: what leads from the data to the served file, packages, settings."""

import json
from collections.abc import Iterable, Mapping
from typing import Any

from components.records.lineage import LineageRecord
from components.reporting.report_page import Fact, LineageSection


def lineage_section(
    record: LineageRecord,
    *,
    run_id: str,
    trained_from: str | None,
    version: str | None,
    sha256: str | None,
    served: str | None,
) -> LineageSection:
    """`trained_from` is the run whose model was fine-tuned."""
    changed = "with changes that were not committed" if record.uncommitted else ""
    facts = [
        Fact("Git revision", record.revision, changed),
        Fact("Data version", record.data_version),
        Fact("Split digest", record.split_digest),
        Fact("MLflow run", run_id, f"fine-tuned from run {trained_from}" if trained_from else ""),
        Fact("Registered version", version or "not registered yet"),
        Fact("SHA-256 of the served file", sha256, f"the {served} ONNX file" if served else ""),
        Fact("Processor", record.machine.processor),
        Fact("System", record.machine.system),
        Fact("Python", record.python),
    ]
    packages = [Fact(name, number) for name, number in sorted(record.packages.items())]
    sections = {name: list(_flat(values)) for name, values in record.params.items()}
    return LineageSection(facts, packages, sections)


def _flat(values: Any, prefix: str = "") -> Iterable[Fact]:
    if isinstance(values, Mapping):
        for key, value in values.items():
            yield from _flat(value, f"{prefix}.{key}" if prefix else str(key))
    else:
        yield Fact(prefix, json.dumps(values, ensure_ascii=False) if isinstance(values, bool | None) else str(values))
