"""Which file would be served, as a table of measurements."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from components.export.format_choice import Choice, Measurements, best_int8, choose
from components.export.settings import QuantizeSettings
from components.training.settings import QatSettings

IMAGES = 100


def settings(**changed: Any) -> QuantizeSettings:
    return QuantizeSettings(
        **{
            "serve": "auto",
            "search_trials": 2,
            "qat": QatSettings(epochs=0, learning_rate=0.1),
            "provider": "cpu",
            "calibration_images": 64,
            "max_accuracy_drop": 0.01,
            "min_agreement": 0.95,
            "max_logit_difference": 0.001,
            "parity_images": 64,
            "latency_runs": 200,
        }
        | changed
    )


def measured(
    accuracy: float = 0.98, *, differing: int = 0, p50_ms: float = 1.0, size_bytes: int = 100, recipe: str = "u8s8"
) -> Measurements:
    answers = np.zeros(IMAGES, np.int64)
    answers[:differing] = 1
    return Measurements(recipe, size_bytes, accuracy, answers, p50_ms)


FP32 = measured(size_bytes=400, p50_ms=2.0, recipe="fp32")


def choice_of(int8: Measurements, fp32: Measurements = FP32, **changed: Any) -> Choice:
    return choose({"fp32": fp32, "int8": int8}, settings(**changed))


@pytest.mark.parametrize(
    ("int8", "served"),
    [
        (measured(), "int8"),
        (measured(0.97), "int8"),
        (measured(0.96), "fp32"),
        (measured(differing=5), "int8"),
        (measured(differing=6), "fp32"),
        (measured(p50_ms=2.2), "int8"),
        (measured(p50_ms=3.0), "fp32"),
    ],
    ids=[
        "keeps all",
        "loses what it may",
        "loses too much",
        "differs where it may",
        "differs too often",
        "slower within the noise, but smaller",
        "slower beyond the noise",
    ],
)
def test_int8_is_served_where_it_keeps_what_it_must_and_is_no_slower(int8: Measurements, served: str) -> None:
    choice = choice_of(int8)
    assert choice.served == served
    assert all(reason.startswith(f"{served} would be served") for reason in choice.reasons)


@pytest.mark.parametrize(
    ("variants", "best"),
    [
        ([measured(0.96, recipe="a"), measured(0.975, recipe="b")], "b"),
        ([measured(0.975, recipe="a"), measured(0.98, differing=6, recipe="b")], "a"),
        ([measured(0.5, recipe="a"), measured(0.9, recipe="b")], "b"),
        ([measured(0.979, recipe="a", p50_ms=1.0), measured(0.98, recipe="b", p50_ms=1.1)], "b"),
        ([measured(0.98, recipe="a", p50_ms=9.0), measured(0.979, recipe="b", p50_ms=1.0)], "b"),
    ],
    ids=[
        "only the second keeps enough",
        "the more accurate one breaks a rule",
        "none keeps enough: the better one is shown",
        "as quick: the more accurate",
        "what is lost may be lost: the quicker",
    ],
)
def test_the_best_int8_is_the_quickest_of_those_that_keep_enough(variants: list[Measurements], best: str) -> None:
    assert best_int8(FP32, variants, settings()).recipe == best


def test_a_requested_format_is_served_however_slow_if_it_is_accurate_enough() -> None:
    assert choice_of(measured(p50_ms=9.0), serve="int8").served == "int8"
    assert choice_of(measured(0.5), serve="int8").served == "fp32"
    assert choice_of(measured(), serve="fp32").served == "fp32"


def test_fp16_is_served_where_it_is_the_quickest() -> None:
    half = measured(p50_ms=0.3, size_bytes=200, recipe="fp16")
    assert choose({"fp32": FP32, "fp16": half, "int8": measured()}, settings()).served == "fp16"


def test_what_speaks_against_the_requested_format_is_named() -> None:
    half = measured(0.5, recipe="fp16")
    choice = choose({"fp32": FP32, "fp16": half, "int8": measured()}, settings(serve="fp16"))
    assert choice == Choice("fp32", ["fp32 would be served: fp16 loses 0.4800 accuracy, at most 0.01 is allowed"])
    assert choice_of(measured(0.5), serve="fp16") == Choice(
        "fp32", ["fp32 would be served: fp16 doesn't run on this machine"]
    )


def test_the_reason_names_quantization_aware_fine_tuning() -> None:
    qat = replace(measured(0.975), qat_epochs=3)
    training = "after 3 epochs of quantization-aware fine-tuning"
    assert (
        choice_of(qat).reasons[0].startswith(f"int8 would be served (u8s8 {training}): 0.0050 less accurate than fp32")
    )
    assert choice_of(replace(qat, accuracy=0.9)).reasons == [
        f"fp32 would be served: int8 {training} loses 0.0800 accuracy, at most 0.01 is allowed"
    ]


def test_every_reason_for_fp32_is_named_with_its_numbers() -> None:
    assert choice_of(measured(0.9, differing=20)).reasons == [
        "fp32 would be served: int8 loses 0.0800 accuracy, at most 0.01 is allowed",
        "fp32 would be served: int8 agrees on 0.8000 of the labels, at least 0.95 is asked for",
    ]
    assert choice_of(measured(p50_ms=3.0)).reasons == [
        "fp32 would be served: int8 takes 3.00 ms an image here, fp32 2.00"
    ]
