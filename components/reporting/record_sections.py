"""Sections of the report from the records that a run keeps.

The records may be of an older release: whatever one of them lacks becomes None, which the page writes as `unknown`.
"""

import json
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from components.data.quality.rules import meaning
from components.data.split.names import SPLITS
from components.records.leak_proof import LeakProof
from components.reporting.inline_pictures import Picture
from components.reporting.leak_proof_section import leak_proof_section
from components.reporting.line_charts import Chart, Line, draw_chart
from components.reporting.record_fields import Record, flag_of, number_of, text_of, whole_of
from components.reporting.report_page import (
    ClassCounts,
    ComparisonLine,
    DataSection,
    DecisionLine,
    EpochLine,
    Fact,
    GateSection,
    LineageSection,
    Quarantined,
    RuleLine,
    TrainingSection,
)

_SHOWN_QUARANTINED = 50
_CHANGES = "+changes"


@dataclass(frozen=True)
class Phase:
    """The epochs of one step: training, then fine-tuning."""

    step: str
    epochs: Sequence[Record]
    best_epoch: int | None
    diagnosis: str | None = None
    """What the curves say, with the setting to try."""


def gate_section(verdict: Record, comparison: Record | None, decisions: Sequence[DecisionLine]) -> GateSection:
    """From a version's verdict; `comparison` is that of gate_vN.json."""
    rules = [
        RuleLine(str(rule.get("rule")), text_of(rule, "value"), text_of(rule, "limit"), flag_of(rule, "passed"))
        for rule in verdict.get("rules", [])
    ]
    if comparison is None:
        return GateSection(rules, decisions)
    both = {side: comparison.get(side) or {} for side in ("challenger", "champion")}
    lines = [
        ComparisonLine(name, *(number_of(both[side], key) for side in ("challenger", "champion")))
        for name, key in (("Accuracy", "accuracy"), ("Macro F1", "macro_f1"))
    ]
    paired = comparison.get("paired") or {}
    return GateSection(rules, decisions, text_of(comparison, "version"), whole_of(paired, "images"), lines)


def class_counts(labels_and_splits: Iterable[tuple[str, str]]) -> list[ClassCounts]:
    """A line a class, in order of the labels."""
    counts = Counter(labels_and_splits)
    labels = sorted({label for label, _ in counts})
    return [ClassCounts(label, [counts[label, split] for split in SPLITS]) for label in labels]


def data_section(
    *,
    counts: Sequence[ClassCounts],
    validation: Record | None,
    proof: LeakProof | None,
    split_digest: str,
    augment: Record,
    preview: Picture | None,
    pictures: Mapping[str, Picture] | None = None,
) -> DataSection:
    """`pictures` by path, of images of leaking pairs."""
    quarantined = (validation or {}).get("quarantined") or []
    return DataSection(
        splits=SPLITS if counts else (),
        counts=counts,
        rules=[_validation_rule(rule) for rule in (validation or {}).get("results", [])],
        quarantined=[Quarantined(str(one["path"]), str(one["reason"])) for one in quarantined[:_SHOWN_QUARANTINED]],
        num_quarantined=whole_of(validation, "num_quarantined") if validation else None,
        leak=leak_proof_section(proof, split_digest, pictures) if proof else None,
        preview=preview,
        augmentation=_augmentation(augment),
    )


def training_section(phases: Sequence[Phase], *, params: Record, classes: int | None) -> TrainingSection:
    """`phases` in the order in which they happened."""
    lines: list[EpochLine] = []
    points: list[tuple[int, Record]] = []
    marks: list[int] = []
    for phase in phases:
        marks.append(len(points) + 1)
        for entry in phase.epochs:
            points.append((len(points) + 1, entry))
            lines.append(_epoch(phase, entry))
    mark = (float(marks[1]), "fine-tuning") if len(marks) > 1 and points else None
    return TrainingSection(_training_facts(phases, params, classes), _charts(points, mark), lines)


def lineage_section(
    record: Record,
    *,
    run_id: str,
    trained_from: str | None,
    version: str | None,
    sha256: str | None,
    served: str | None,
) -> LineageSection:
    git = text_of(record, "git")
    changed = git is not None and git.endswith(_CHANGES)
    machine = record.get("machine") or {}
    facts = [
        Fact(
            "Git revision",
            git.removesuffix(_CHANGES) if git else None,
            "with changes that were not committed" if changed else "",
        ),
        Fact("Data version", text_of(record, "data_version")),
        Fact("Split digest", text_of(record, "split_digest")),
        Fact("MLflow run", run_id, f"trained on from run {trained_from}" if trained_from else ""),
        Fact("Registered version", version or "not registered yet"),
        Fact("SHA-256 of the served file", sha256, f"the {served} ONNX file" if served else ""),
        Fact("Processor", text_of(machine, "processor")),
        Fact("System", text_of(machine, "system")),
        Fact("Python", text_of(record, "python")),
    ]
    packages = [Fact(name, str(number)) for name, number in sorted((record.get("packages") or {}).items())]
    sections = {name: list(_flat(values)) for name, values in (record.get("params") or {}).items()}
    return LineageSection(facts, packages, sections)


def _validation_rule(rule: Record) -> RuleLine:
    return RuleLine(
        rule=str(rule.get("rule")).replace("_", " "),
        value=text_of(rule, "value"),
        limit=text_of(rule, "limit"),
        passed=flag_of(rule, "passed"),
        warns=rule.get("level") == "warn",
        examples=[str(example) for example in rule.get("examples", [])],
        meaning=meaning(str(rule.get("rule"))),
    )


def _augmentation(augment: Record) -> str:
    policy, copies = augment.get("policy"), augment.get("copies")
    if policy is None:
        return ""
    if policy == "none":
        return "No augmentation: the training split was used as it came."
    many = {0: "no augmented copies", 1: "one augmented copy"}.get(copies, f"{copies} augmented copies")  # type: ignore[arg-type]
    return f"Policy {policy}, mirror images {augment.get('flips')}, {many} of each training image on disk."


def _epoch(phase: Phase, entry: Record) -> EpochLine:
    epoch = whole_of(entry, "epoch") or 0
    return EpochLine(
        step=phase.step,
        epoch=epoch,
        train_loss=number_of(entry, "train_loss"),
        val_loss=number_of(entry, "val_loss"),
        val_accuracy=number_of(entry, "val_accuracy"),
        val_macro_f1=number_of(entry, "val_macro_f1"),
        seconds=number_of(entry, "seconds"),
        kept=None if phase.best_epoch is None else epoch == phase.best_epoch,
    )


def _charts(points: Sequence[tuple[int, Record]], mark: tuple[float, str] | None) -> list[Chart]:
    wanted = (
        ("Loss (nats)", math.inf, (("training", "train_loss"), ("validation", "val_loss"))),
        ("Scores on validation", 1.0, (("accuracy", "val_accuracy"), ("macro F1", "val_macro_f1"))),
    )
    charts = (
        draw_chart(title, [Line(name, list(_points(points, key))) for name, key in lines], ceiling=ceiling, mark=mark)
        for title, ceiling, lines in wanted
    )
    return [chart for chart in charts if chart is not None]


def _points(points: Sequence[tuple[int, Record]], key: str) -> Iterable[tuple[float, float]]:
    for place, entry in points:
        value = number_of(entry, key)
        if value is not None:
            yield float(place), value


def _training_facts(phases: Sequence[Phase], params: Record, classes: int | None) -> list[Fact]:
    model, train = params.get("model") or {}, params.get("train") or {}
    size = (params.get("preprocess") or {}).get("image_size_px")
    weights = model.get("weights", "unknown")
    facts = [
        Fact("Architecture", text_of(model, "architecture")),
        Fact("Weights at the start", "none, from scratch" if weights is None else str(weights)),
        Fact("Image size", f"{size} × {size} px" if size else None),
        Fact("Classes", None if classes is None else f"{classes:,}"),
        Fact(
            "Optimizer",
            text_of(train, "optimizer"),
            f"batches of {train['batch_size']}" if "batch_size" in train else "",
        ),
    ]
    for phase in phases:
        seconds = [number_of(entry, "seconds") for entry in phase.epochs]
        total = sum(one for one in seconds if one is not None)
        spent = f", {total:.1f} s in epochs" if phase.epochs and None not in seconds else ""
        best = f"best on validation: epoch {phase.best_epoch}" if phase.best_epoch is not None else ""
        done = f"{len(phase.epochs)} {'epoch' if len(phase.epochs) == 1 else 'epochs'}{spent}" if phase.epochs else None
        facts.append(Fact(phase.step.capitalize(), done, best))
        if phase.diagnosis is not None:
            facts.append(Fact(f"Curves of {phase.step}", phase.diagnosis))
    return facts


def _flat(values: Any, prefix: str = "") -> Iterable[Fact]:
    if isinstance(values, Mapping):
        for key, value in values.items():
            yield from _flat(value, f"{prefix}.{key}" if prefix else str(key))
    else:
        yield Fact(prefix, json.dumps(values, ensure_ascii=False) if isinstance(values, bool | None) else str(values))
