"""The gate asks for scores by name: every score that is computed has a known one."""

import numpy as np
import pytest

from components.evaluation.metric_names import LARGER_IS_BETTER, OF_A_CLASS, SMALLER_IS_BETTER, title, without_level
from components.evaluation.metrics import score
from components.evaluation.predictions import Predictions
from components.task.single_label import SingleLabel


def test_every_score_that_is_computed_can_be_asked_for() -> None:
    target = np.array([0, 1, 2, 0, 1, 2])
    predictions = Predictions(
        path_N=[str(number) for number in target],
        sha256_N=[str(number) for number in target],
        target=target,
        logits_NT=np.eye(3, dtype=np.float32)[[0, 1, 2, 1, 1, 0]],
        task=SingleLabel(classes=["a", "b", "c"]),
    )
    scores = score(predictions, top_k=2)
    assert set(scores.headline()) <= {*LARGER_IS_BETTER, *SMALLER_IS_BETTER}
    assert {"accuracy", "macro_f1", "log_loss"} <= set(scores.headline())
    assert all(hasattr(scores.classes[0], name) for name in OF_A_CLASS if name != "average_precision")


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("macro_f1", "macro F1"),
        ("macro_roc_auc", "macro ROC AUC"),
        ("log_loss", "log loss"),
        ("super.accuracy", "super.accuracy"),
    ],
)
def test_a_name_is_shown_as_a_person_writes_it(name: str, shown: str) -> None:
    assert title(name) == shown
    assert without_level(name) in (*LARGER_IS_BETTER, *SMALLER_IS_BETTER)
