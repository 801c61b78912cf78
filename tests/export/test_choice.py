"""Which file would be served, as a table of measurements."""

from typing import Any

import numpy as np
import pytest

from components.export.choice import choose
from components.export.settings import QuantizeSettings

SETTINGS = QuantizeSettings(
    calibration_images=64,
    max_accuracy_loss=0.01,
    min_agreement=0.95,
    max_logit_difference=0.001,
    parity_images=64,
    latency_runs=200,
)
IMAGES = 100


def measured(accuracy: float = 0.98, *, differing: int = 0, p50_ms: float = 1.0) -> dict[str, Any]:
    answers = np.zeros(IMAGES, np.int64)
    answers[:differing] = 1
    return {"validation_accuracy": accuracy, "validation_answers": answers, "latency": {"p50_ms": p50_ms}}


@pytest.mark.parametrize(
    ("variants", "best", "served"),
    [
        ({"a": measured()}, "a", "int8"),
        ({"a": measured(0.97)}, "a", "int8"),
        ({"a": measured(0.96)}, "a", "fp32"),
        ({"a": measured(differing=5)}, "a", "int8"),
        ({"a": measured(differing=6)}, "a", "fp32"),
        ({"a": measured(0.96), "b": measured(0.975)}, "b", "int8"),
        ({"a": measured(0.975), "b": measured(0.98, differing=6)}, "a", "int8"),
        ({"a": measured(0.5), "b": measured(0.9)}, "b", "fp32"),
        ({"a": measured(p50_ms=1.0), "b": measured(p50_ms=0.9)}, "a", "int8"),
        ({"a": measured(p50_ms=1.0), "b": measured(p50_ms=0.5)}, "b", "int8"),
        ({"a": measured(0.98, p50_ms=9.0), "b": measured(0.979, p50_ms=1.0)}, "a", "int8"),
    ],
    ids=[
        "keeps all",
        "loses what it may",
        "loses too much",
        "differs where it may",
        "differs too often",
        "only the second keeps enough",
        "the more accurate one breaks a rule",
        "none keeps enough: the better one is shown",
        "faster within the noise",
        "faster beyond the noise",
        "accuracy before speed",
    ],
)
def test_int8_is_served_where_it_keeps_what_it_must(
    variants: dict[str, dict[str, Any]], best: str, served: str
) -> None:
    choice = choose(measured(), variants, SETTINGS)
    assert (choice.int8, choice.served) == (best, served)
    assert all(reason.startswith(f"{served} would be served") for reason in choice.reasons)


def test_every_reason_for_fp32_is_named_with_its_numbers() -> None:
    choice = choose(measured(), {"a": measured(0.9, differing=20)}, SETTINGS)
    assert choice.reasons == [
        "fp32 would be served: int8 loses 0.0800 accuracy, at most 0.01 is allowed",
        "fp32 would be served: int8 agrees on 0.8000 of the labels, at least 0.95 is asked for",
    ]
