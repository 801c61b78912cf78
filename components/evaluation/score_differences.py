"""How much the scores of a challenger differ from the champion's on the same images, and how surely.

Letters: N images, D draws.
"""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

import numpy as np

from components.evaluation.bootstrap import Interval, draws
from components.evaluation.confusion_counts import count
from components.evaluation.level_predictions import Floats, Judged
from components.evaluation.metrics import drawn_scores, score
from components.evaluation.paired_test import PairedComparison, compare_paired, drawn_interval
from components.evaluation.predictions import Predictions
from components.evaluation.served_predictions import accuracy_and_macro_f1

_DRAWS = 1000
_SEED = 7
"""Always the same draws: a decision that is made again comes out again."""


@dataclass(frozen=True)
class Changes:
    challenger: dict[str, float]
    champion: dict[str, float]
    intervals: dict[str, Interval]
    """Challenger minus champion, of the scores that were asked for and that both have."""
    paired: PairedComparison


def changes_between(
    challenger: Predictions, champion: Predictions, names: Collection[str], *, confidence: float, top_k: int
) -> Changes:
    """Of all scores; `names` get intervals, whose ends are each as sure as asked for."""
    first, second = (score(one, top_k=top_k).headline() for one in (challenger, champion))

    def drawn() -> list[dict[str, Floats]]:
        return [drawn_scores(one, top_k=top_k, num_resamples=_DRAWS, seed=_SEED) for one in (challenger, champion)]

    paired = compare_paired(challenger.correct_N, champion.correct_N)
    return Changes(first, second, _intervals(first, second, names, paired, drawn, confidence), paired)


def changes_by_name(
    label_N: Sequence[str],
    challenger_N: Sequence[str],
    champion_N: Sequence[str],
    names: Collection[str],
    *,
    confidence: float,
) -> Changes:
    """Of models with other classes, by what they say: accuracy and macro F1 alone."""
    first, second = (
        dict(zip(("accuracy", "macro_f1"), accuracy_and_macro_f1(label_N, said_N), strict=True))
        for said_N in (challenger_N, champion_N)
    )

    def drawn() -> list[dict[str, Floats]]:
        return [{"macro_f1": _drawn_macro_f1(label_N, said_N)} for said_N in (challenger_N, champion_N)]

    right = [np.array(said_N, dtype=object) == np.array(label_N, dtype=object) for said_N in (challenger_N, champion_N)]
    paired = compare_paired(*right)
    return Changes(first, second, _intervals(first, second, names, paired, drawn, confidence), paired)


def _intervals(
    challenger: dict[str, float],
    champion: dict[str, float],
    names: Collection[str],
    paired: PairedComparison,
    drawn: Callable[[], list[dict[str, Floats]]],
    confidence: float,
) -> dict[str, Interval]:
    """The accuracy's by the exact test; draws are made where another score asks for them."""
    found = {"accuracy": paired.interval(confidence)} if "accuracy" in names else {}
    others = [name for name in names if name in challenger.keys() & champion.keys() and name not in found]
    if others:
        own, other = drawn()
        for name in others:
            difference = challenger[name] - champion[name]
            found[name] = drawn_interval(difference, own[name] - other[name], confidence=confidence)
    return found


def _drawn_macro_f1(label_N: Sequence[str], said_N: Sequence[str]) -> Floats:
    """[D], over the classes that a draw has images of."""
    names = sorted({*label_N, *said_N})
    places = {name: place for place, name in enumerate(names)}
    target_N, predicted_N = (np.array([places[name] for name in of]) for of in (label_N, said_N))
    judged = Judged("single_label", names, target_N, predicted_N, np.empty((len(target_N), 0), np.float32), 1.0)
    blocks = draws(len(label_N), count=_DRAWS, seed=_SEED)
    return np.concatenate([count(judged, weight_DN).averages()["macro_f1"] for weight_DN in blocks])
