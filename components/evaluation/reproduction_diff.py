"""What differs between a model and the one that was trained again from the same data, settings and code."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from components.records.export import EXPORT, ExportRecord, MeasuredFile
from components.serving.onnx_classifier import ModelCard
from components.shared.files import sha256_of_file

_OF_THE_RUN = ("run_id", "code_version", "data_version")
"""Fields of a model card that name the run that made the file, or is compared by itself."""

_APART = {"weights": "weights", "file": "the file of each format", "choice": "the file that would be served"}
_NAMED = 3

Repeat = Callable[[str], Path | None]
"""Makes the int8 file of the repeated training by the recipe of this name; None where that is impossible."""


@dataclass(frozen=True)
class Finding:
    what: str
    then: str
    now: str
    same: bool
    chosen_by_time: bool = False
    """Differs because a search depends on measured time, which no second run repeats."""
    kind: Literal["record", "weights", "file", "choice"] = "record"


def outcome(findings: Sequence[Finding]) -> str:
    """Of the weights, the files and what was chosen, each by itself, a clause each; then of all else."""
    parts = []
    for kind, name in _APART.items():
        found = [one for one in findings if one.kind == kind]
        differing = [one for one in found if not one.same]
        parts += [f"{name} the same"] if found and not differing else []
        parts += [f"another {one.what} ({one.then}; now {one.now})" for one in differing]
    others = [one.what for one in findings if one.kind == "record" and not one.same]
    return "; ".join(parts) + (f"; {len(others)} more differ: {', '.join(others[:_NAMED])}" if others else "")


def compare_records(what: str, then: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[Finding]:
    """One finding for each value that differs, by its path, or one that says that none does."""
    one, other = dict(_flat("", then)), dict(_flat("", now))
    names = sorted(name for name in {*one, *other} if not _same(one.get(name), other.get(name)))
    for name in names:
        yield Finding(f"{what}: {name}", str(one.get(name, "absent")), str(other.get(name, "absent")), False)
    if not names:
        yield Finding(what, f"{len(one)} values", "the same", True)


def _same(one: Any, other: Any) -> bool:
    """Also of scores that both times couldn't be computed: nan isn't equal to itself."""
    return bool(one == other or (one != one and other != other))


def compare_weights(then: Path, now: Path) -> Finding:
    """Of two safetensors files: bit for bit, or the largest difference of a weight."""
    from safetensors.numpy import load_file

    if sha256_of_file(then) == sha256_of_file(now):
        return Finding("weights", sha256_of_file(then)[:12], "the same bit for bit", True, kind="weights")
    one, other = load_file(then), load_file(now)
    if {name: weight.shape for name, weight in one.items()} != {name: weight.shape for name, weight in other.items()}:
        return Finding(
            "weights",
            f"{len(one)} tensors",
            f"{len(other)} tensors, not of the same names and shapes",
            False,
            kind="weights",
        )
    apart = {name: _largest_difference(one[name], other[name]) for name in one}
    if not any(apart.values()):
        return Finding("weights", f"{len(one)} tensors", "the same bit for bit", True, kind="weights")
    worst = max(apart, key=lambda name: apart[name])
    return Finding(
        "weights", f"{len(one)} tensors", f"apart by up to {apart[worst]:.3g} (in {worst})", False, kind="weights"
    )


def compare_exports(then: Path, now: Path, *, repeat: Repeat = lambda recipe: None) -> Iterator[Finding]:
    """Of two folders with export.json: the file of each format by the same recipe, its scores, and what was chosen.

    The int8 recipe and the format to serve are chosen by accuracy and time. Where time chose otherwise, that is a
    finding of its own: the file is compared as `repeat` makes it by the first recipe.
    """
    records = [ExportRecord.read(folder / EXPORT) for folder in (then, now)]
    formats = [record.formats for record in records]
    files_of = [{name: one.measured for name, one in record.formats.items()} for record in records]
    candidates = [record.int8_variants for record in records]
    measured = [*_measured("int8 recipes", *candidates), *_measured("formats", *files_of)]
    by_time = all(one.same for one in measured)
    made_alike = []
    for name in (name for name in formats[0] if name in formats[1]):
        recipes = [one[name].measured.recipe for one in formats]
        files: list[Path | None] = [folder / f"model_{name}.onnx" for folder in (then, now)]
        if recipes[0] == recipes[1]:
            made_alike.append(name)
        else:
            yield _choice(f"recipe of {name}", *recipes, by_time=by_time)
            files[1] = repeat(recipes[0])
        if all(file is not None and file.exists() for file in files):
            yield compare_onnx(f"ONNX {name}", *[file for file in files if file is not None])
    yield from compare_records("scores", *({name: one[name].test.values for name in made_alike} for one in formats))
    yield from measured
    yield _choice("format to serve", *(record.served for record in records), by_time=by_time)


def _measured(what: str, then: Mapping[str, MeasuredFile], now: Mapping[str, MeasuredFile]) -> Iterator[Finding]:
    """What choices depend on, except for time, of whatever both made by the same recipe."""
    both = [name for name in then if name in now and then[name].recipe == now[name].recipe]
    yield from compare_records(
        what,
        *(
            {
                name: {"validation_accuracy": one[name].validation_accuracy, "agreement": one[name].agreement}
                for name in both
            }
            for one in (then, now)
        ),
    )


def _choice(what: str, then: str, now: str, *, by_time: bool) -> Finding:
    if then == now:
        return Finding(what, then, "the same", True, kind="choice")
    why = ", the better choice by the time measured now" if by_time else ""
    return Finding(what, then, f"{now}{why}", False, chosen_by_time=by_time, kind="choice")


def compare_onnx(what: str, then: Path, now: Path) -> Finding:
    """Of two ONNX files, but for what names the run that made them."""
    digests = [sha256_of_file(file)[:12] for file in (then, now)]
    if _without_metadata(then) != _without_metadata(now):
        return Finding(what, digests[0], f"{digests[1]}, another graph or other weights", False, kind="file")
    cards = [_card(file) for file in (then, now)]
    changed = [name for name in cards[0] if cards[0][name] != cards[1][name]]
    difference = f"the same but for {', '.join(changed)} in its card" if changed else "the same graph, weights and card"
    return Finding(what, digests[0], f"{digests[1]}, {difference}", not changed, kind="file")


def _card(file: Path) -> dict[str, Any]:
    import onnx

    entries = {entry.key: entry.value for entry in onnx.load(file).metadata_props}
    card = vars(ModelCard.from_metadata(entries, file.name))
    return {name: value for name, value in card.items() if name not in _OF_THE_RUN}


def _without_metadata(file: Path) -> bytes:
    import onnx

    model = onnx.load(file)
    graph = model.graph
    # The exporter notes at each element of the graph which line of code, in which folder, it comes from.
    for element in (model, graph, *graph.node, *graph.value_info, *graph.input, *graph.output, *graph.initializer):
        del element.metadata_props[:]
        element.ClearField("doc_string")
    content: bytes = model.SerializeToString(deterministic=True)
    return content


def _largest_difference(one: Any, other: Any) -> float:
    """NaN counts as infinitely far from a number."""
    if not one.size or np.array_equal(one, other):
        return 0.0
    return float(np.nan_to_num(np.abs(one.astype(np.float64) - other.astype(np.float64)), nan=np.inf).max())


def _flat(prefix: str, value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield from _flat(f"{prefix}.{key}" if prefix else str(key), item)
    else:
        yield prefix, value
