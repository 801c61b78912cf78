"""Ways to int8 tried one after another, on this machine, until one keeps what it must keep."""

from collections.abc import Callable, Iterator
from dataclasses import replace

from components.export.quantization import DYNAMIC, S8S8, U8S8, U8S8_REDUCED, Recipe

_EXCLUDED = (1, 2, 4, 8, 16)
"""How many of the most distorted results stay in float, in turn."""


def first_recipes(*, is_transformer: bool) -> list[Recipe]:
    """What is always tried: which signedness and range is fast and exact depends on the processor."""
    # Ranges of attention vary from image to image: what is static loses most of the accuracy there.
    return [DYNAMIC, U8S8] if is_transformer else [U8S8, U8S8_REDUCED, S8S8]


def refined(best: Recipe, most_distorted: Callable[[], list[tuple[str, ...]]]) -> Iterator[Recipe]:
    """What is tried where the first recipes lose too much: ranges without outliers, then nodes left in float.

    `best` is the best static one: a dynamic one has no ranges to choose.
    """
    yield replace(best, name=f"{best.name}_percentile", calibration="percentile")
    groups = most_distorted()
    for count in (count for count in _EXCLUDED if count < len(groups)):
        nodes = dict.fromkeys(node for group in groups[:count] for node in group)
        yield replace(best, name=f"{best.name}_without_{count}", excluded=tuple(nodes))
