"""A record of scores to change: two classes, four test images."""

from typing import Any

from components.records.scores import ClassScores, ScoresRecord

CLASS = ClassScores("cat", 0.5, 0.5, 0.5, 0.5, 0.5, 2, 1, 1, 1, 1)


def scores_record(**changes: Any) -> ScoresRecord:
    fields: dict[str, Any] = {
        "task": "single_label",
        "images": 4,
        "top_k": 2,
        "resamples": 0,
        "values": {"accuracy": 0.5},
        "intervals": {},
        "classes": [CLASS],
        "confusion": None,
        "confused": [],
        "levels": {},
        "slices": [],
        "num_slices": 0,
    }
    return ScoresRecord(**fields | changes)
