"""Ways to int8 tried one after another, on this machine, until one keeps what it must keep."""

from collections.abc import Callable, Iterator
from dataclasses import replace

from components.export.quantization import DYNAMIC, DYNAMIC_REDUCED, S8S8, U8S8, U8S8_REDUCED, Recipe

_EXCLUDED = (1, 2, 4, 8, 16)
"""How many of the most distorted results stay in float, in turn."""


def first_recipes(*, is_transformer: bool) -> list[Recipe]:
    """What is always tried: which signedness and range is fast and exact depends on the processor."""
    static = [U8S8, U8S8_REDUCED, S8S8]
    # Ranges of attention vary from image to image: what is static loses most of the accuracy there.
    return [DYNAMIC, DYNAMIC_REDUCED, *static] if is_transformer else static


def recipe_named(name: str, most_distorted: Callable[[Recipe], list[tuple[str, ...]]]) -> Recipe | None:
    """The recipe that a search calls so, whose base is asked for its most distorted results; None where none is."""
    known = first_recipes(is_transformer=True)
    bases = [recipe for recipe in known if name == recipe.name or name.startswith(f"{recipe.name}_")]
    if not bases:
        return None
    base = max(bases, key=lambda recipe: len(recipe.name))
    if name == base.name:
        return base
    return next((recipe for recipe in refined(base, lambda: most_distorted(base)) if recipe.name == name), None)


def refined(best: Recipe, most_distorted: Callable[[], list[tuple[str, ...]]]) -> Iterator[Recipe]:
    """What is tried where the first recipes lose too much: ranges without outliers, then nodes left in float.

    `best` is the best static one: a dynamic one has no ranges to choose.
    """
    yield replace(best, name=f"{best.name}_percentile", calibration="percentile")
    groups = most_distorted()
    for count in (count for count in _EXCLUDED if count < len(groups)):
        nodes = dict.fromkeys(node for group in groups[:count] for node in group)
        yield replace(best, name=f"{best.name}_without_{count}", excluded=tuple(nodes))
