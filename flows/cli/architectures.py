"""A table of architectures and what each costs at a size of images."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from components.models.catalogue import COMPOUND, OWN_ARCHITECTURES
from components.models.compound_scaling import LEAST_COMPOUND, MOST_COMPOUND
from components.shared.errors import SettingsError
from flows.console.console import progress
from flows.console.tables import show_table

if TYPE_CHECKING:
    from components.models.costs import Costs
    from components.models.scenarios import Advice

_LATENCY_RUNS = 20


@dataclass(frozen=True)
class Refused:
    """An architecture that can't take images of the size."""

    architecture: str
    reason: str


@dataclass(frozen=True)
class ArchitectureTable:
    image_size_px: int
    architectures: "list[Costs]"
    """By their computation, the cheapest first."""
    refused: list[Refused]


def list_architectures(
    names: list[str], *, image_size_px: int, num_classes: int, latency: bool, show: bool, compound: float | None = None
) -> ArchitectureTable:
    """Costs of the named architectures, or of all; those that can't take the size are listed with the reason.

    `compound` scales `efficientnet`, which is B0 without it.
    """
    from components.models.costs import costs
    from components.models.zoo import torchvision_names

    _check_compound(compound, names)
    chosen = names or [*OWN_ARCHITECTURES, *torchvision_names()]
    rows, refused = [], []
    for done, name in enumerate(chosen, start=1):
        try:
            found = costs(
                name,
                image_size_px=image_size_px,
                num_classes=num_classes,
                compound=(compound or 0.0) if name == COMPOUND else None,
                latency_runs=_LATENCY_RUNS if latency else 0,
            )
            rows.append(found)
        except SettingsError as problem:
            if names:
                raise
            refused.append(Refused(name, str(problem)))
        progress()("architectures", done, len(chosen))
    rows.sort(key=lambda row: row.macs)
    table = ArchitectureTable(image_size_px, rows, refused)
    if show:
        _show(table)
    return table


def _check_compound(compound: float | None, names: list[str]) -> None:
    if compound is None:
        return
    if not LEAST_COMPOUND <= compound <= MOST_COMPOUND:
        raise SettingsError(f"--compound: is {compound:g}, should be from {LEAST_COMPOUND:g} to {MOST_COMPOUND:g}")
    if names and COMPOUND not in names:
        raise SettingsError(f"--compound: belongs to {COMPOUND} alone; name it too, or leave --compound out")


def advised(scenario: str, *, image_size_px: int, with_weights: bool, show: bool) -> "Advice":
    """One architecture for a purpose, and why."""
    from components.models.scenarios import advise

    advice = advise(scenario, image_size_px=image_size_px, with_weights=with_weights)
    if show:
        print(f"model.architecture={advice.architecture}: {advice.reason}")
    return advice


def _show(table: ArchitectureTable) -> None:
    columns = (
        "architecture",
        "parameters",
        "million multiply-adds",
        "weights, MB",
        "activations, MB an image",
        "latency, ms",
    )
    rows = [
        (
            row.architecture + (f", compound {row.compound:g}" if row.compound is not None else ""),
            f"{row.parameters:,}",
            f"{row.macs / 1e6:,.1f}",
            f"{row.weight_bytes / 1e6:,.1f}",
            f"{row.activation_bytes / 1e6:,.1f}",
            f"{row.latency_ms:.1f}" if row.latency_ms is not None else "not measured",
        )
        for row in table.architectures
    ]
    show_table(f"architectures at {table.image_size_px} px, the cheapest first", columns, rows)
    if table.refused:
        names = ", ".join(one.architecture for one in table.refused)
        print(f"not at this size: {names}")
