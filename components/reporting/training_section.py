"""Report section on training: settings, curves, and every epoch in numbers."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from components.reporting.line_charts import Chart, Line, draw_chart
from components.reporting.report_page import EpochLine, Fact, TrainingSection
from components.training.epoch_report import EpochReport


@dataclass(frozen=True)
class Phase:
    """The epochs of one step: training, then fine-tuning."""

    step: str
    epochs: Sequence[EpochReport]
    best_epoch: int | None
    diagnosis: str | None = None
    """What the curves show, with the setting to try."""


def training_section(phases: Sequence[Phase], *, params: Mapping[str, Any], classes: int | None) -> TrainingSection:
    """`phases` in the order in which they ran; `params` are the resolved settings, empty where they are unknown."""
    epochs = [report for phase in phases for report in phase.epochs]
    begins_fine_tuning = len(phases) > 1 and epochs
    mark = (float(len(phases[0].epochs) + 1), "fine-tuning") if begins_fine_tuning else None
    return TrainingSection(
        facts=[*_settings(params, classes), *(fact for phase in phases for fact in _phase_facts(phase))],
        charts=_charts(epochs, mark),
        epochs=[_epoch(phase, report) for phase in phases for report in phase.epochs],
    )


def _settings(params: Mapping[str, Any], classes: int | None) -> list[Fact]:
    if not params:
        return []
    model, train, size_px = params["model"], params["train"], params["preprocess"]["image_size_px"]
    return [
        Fact("Architecture", model["architecture"]),
        Fact("Initial weights", model["weights"] or "none, trained from scratch"),
        Fact("Image size", f"{size_px} × {size_px} px"),
        Fact("Classes", None if classes is None else f"{classes:,}"),
        Fact("Optimizer", train["optimizer"], f"batch size {train['batch_size']}"),
    ]


def _phase_facts(phase: Phase) -> list[Fact]:
    count = len(phase.epochs)
    seconds = sum(report.seconds for report in phase.epochs)
    done = f"{count} {'epoch' if count == 1 else 'epochs'}, {seconds:.1f} s" if count else None
    best = f"best validation score: epoch {phase.best_epoch}" if phase.best_epoch is not None else ""
    facts = [Fact(phase.step.capitalize(), done, best)]
    return facts if phase.diagnosis is None else [*facts, Fact(f"Curves of {phase.step}", phase.diagnosis)]


def _epoch(phase: Phase, report: EpochReport) -> EpochLine:
    return EpochLine(
        step=phase.step,
        epoch=report.epoch,
        train_loss=report.train_loss,
        val_loss=report.val_loss,
        val_accuracy=report.val_accuracy,
        val_macro_f1=report.val_macro_f1,
        seconds=report.seconds,
        chosen=None if phase.best_epoch is None else report.epoch == phase.best_epoch,
    )


def _charts(epochs: Sequence[EpochReport], mark: tuple[float, str] | None) -> list[Chart]:
    wanted = (
        ("Loss (nats)", math.inf, (("training", "train_loss"), ("validation", "val_loss"))),
        ("Validation scores", 1.0, (("accuracy", "val_accuracy"), ("macro F1", "val_macro_f1"))),
    )
    charts = (
        draw_chart(title, [Line(name, _points(epochs, key)) for name, key in lines], ceiling=ceiling, mark=mark)
        for title, ceiling, lines in wanted
    )
    return [chart for chart in charts if chart is not None]


def _points(epochs: Sequence[EpochReport], key: str) -> list[tuple[float, float]]:
    return [(float(number), getattr(report, key)) for number, report in enumerate(epochs, start=1)]
