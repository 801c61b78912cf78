"""What differs between a model and the one that was trained again from the same data, settings and code."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from components.files import read_json, sha256_of_file


@dataclass(frozen=True)
class Finding:
    what: str
    then: str
    now: str
    same: bool
    chosen_by_time: bool = False
    """Differs because a search judges by the time that it measures, which no second run repeats."""


def compare_records(what: str, then: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[Finding]:
    """One finding for each value that differs, by its place, or one that says that none does."""
    one, other = dict(_flat("", then)), dict(_flat("", now))
    names = sorted(name for name in {*one, *other} if one.get(name) != other.get(name))
    for name in names:
        yield Finding(f"{what}: {name}", str(one.get(name, "absent")), str(other.get(name, "absent")), False)
    if not names:
        yield Finding(what, f"{len(one)} values", "the same", True)


def compare_weights(then: Path, now: Path) -> Finding:
    """Of two safetensors files: bit for bit, or the largest difference of a weight."""
    from safetensors.numpy import load_file

    if sha256_of_file(then) == sha256_of_file(now):
        return Finding("weights", sha256_of_file(then)[:12], "the same bit for bit", True)
    one, other = load_file(then), load_file(now)
    if {name: weight.shape for name, weight in one.items()} != {name: weight.shape for name, weight in other.items()}:
        return Finding(
            "weights", f"{len(one)} tensors", f"{len(other)} tensors, not of the same names and shapes", False
        )
    apart = {name: _largest_difference(one[name], other[name]) for name in one}
    if not any(apart.values()):
        return Finding("weights", f"{len(one)} tensors", "the same bit for bit", True)
    worst = max(apart, key=lambda name: apart[name])
    return Finding("weights", f"{len(one)} tensors", f"apart by up to {apart[worst]:.3g} (in {worst})", False)


def compare_exports(then: Path, now: Path) -> Iterator[Finding]:
    """Of two folders with export.json: each form of the model, where both made it the same way, and what was chosen.

    The way to int8 and the form to serve are chosen by accuracy and time. Where time chose otherwise, that is one
    finding, and the ways that both tried are compared by what they say.
    """
    records = [read_json(folder / "export.json") for folder in (then, now)]
    formats = [record["formats"] for record in records]
    made_alike = []
    for name in (name for name in formats[0] if name in formats[1]):
        ways = [str(one[name].get("recipe", name)) for one in formats]
        files = [folder / f"model_{name}.onnx" for folder in (then, now)]
        if ways[0] != ways[1]:
            yield _by_time(f"ONNX {name}", *ways)
        elif all(file.exists() for file in files):
            made_alike.append(name)
            yield compare_onnx(f"ONNX {name}", *files)
    yield from compare_records("scores", *({name: one[name]["test"] for name in made_alike} for one in formats))
    tried = [record.get("int8_variants", {}) for record in records]
    both = [name for name in tried[0] if name in tried[1]]
    told = ("validation_accuracy", "agreement")
    yield from compare_records(
        "ways to int8", *({way: {key: one[way].get(key) for key in told} for way in both} for one in tried)
    )
    served = [str(record["served"]) for record in records]
    if served[0] != served[1]:
        yield _by_time("form to serve", *served)


def _by_time(what: str, then: str, now: str) -> Finding:
    return Finding(
        what, then, f"{now}, which was the better choice by the time measured now", False, chosen_by_time=True
    )


def compare_onnx(what: str, then: Path, now: Path) -> Finding:
    """Of two ONNX files, without their metadata: those name the run that made them."""
    same = _without_metadata(then) == _without_metadata(now)
    digests = [sha256_of_file(file)[:12] for file in (then, now)]
    return Finding(what, digests[0], f"{digests[1]}, {'the same graph and weights' if same else 'another graph'}", same)


def _without_metadata(file: Path) -> bytes:
    import onnx

    model = onnx.load(file)
    graph = model.graph
    # The exporter notes at each part of the graph where in which folder's code it comes from.
    for part in (model, graph, *graph.node, *graph.value_info, *graph.input, *graph.output, *graph.initializer):
        del part.metadata_props[:]
        part.ClearField("doc_string")
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
