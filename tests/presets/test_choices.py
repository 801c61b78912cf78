"""Settings that are auto: what they become for which data, and that what the user fixed is taken into account."""

from typing import Any

import pytest

from components.presets.choices import CHOSEN, choose
from components.presets.preset import Preset
from components.presets.settings import AutoSettings
from components.records.data_facts import TYPICAL, DataFacts


def chosen(facts: DataFacts = TYPICAL, *, preset: Preset = "balanced", **fixed: Any) -> dict[str, Any]:
    values = {name.replace("__", "."): value for name, value in fixed.items()}
    names = [name for name in CHOSEN if name not in values]
    return {one.name: one.value for one in choose(names, values, AutoSettings(preset=preset), facts)}


def facts(**changed: Any) -> DataFacts:
    return TYPICAL.model_copy(update=changed)


@pytest.mark.parametrize(
    ("data", "values"),
    [
        (
            {},
            {"model.architecture": "tf_efficientnet_lite0", "model.weights": "imagenet", "augment.flips": "horizontal"},
        ),
        ({"side_px": 4000}, {"preprocess.image_size_px": 224}),
        ({"side_px": 150}, {"preprocess.image_size_px": 160, "model.weights": "imagenet"}),
        ({"side_px": 60}, {"preprocess.image_size_px": 96}),
        ({"side_px": 28}, {"model.architecture": "plain", "model.weights": None, "preprocess.image_size_px": 32}),
        ({"side_px": 28}, {"model.freeze_backbone": False, "finetune.epochs": 0, "train.augment": True}),
        ({"coloured": False}, {"augment.flips": "none"}),
        ({"train_images": 60}, {"train.batch_size": 32}),
        ({"classes": 2}, {"evaluate.top_k": 2}),
        ({"classes": 1000}, {"evaluate.top_k": 5}),
    ],
)
def test_values_follow_from_the_data(data: dict[str, Any], values: dict[str, Any]) -> None:
    assert chosen(facts(**data)).items() >= values.items()


def test_presets_differ_in_what_learns() -> None:
    fast, balanced, best = (chosen(preset=preset) for preset in ("fast", "balanced", "best"))
    assert fast["finetune.epochs"] == 0 < balanced["finetune.epochs"] < best["finetune.epochs"]
    assert fast["model.freeze_backbone"]
    assert (balanced["finetune.unfreeze_last_n"], best["finetune.unfreeze_last_n"]) == (4, None)


def test_what_the_user_fixed_counts() -> None:
    from_scratch = chosen(model__architecture="resnet18", model__weights=None)
    assert not from_scratch["model.freeze_backbone"]
    assert from_scratch["finetune.epochs"] == 0
    assert "model.architecture" not in from_scratch


def test_each_choice_has_a_reason() -> None:
    assert all(one.reason for one in choose(list(CHOSEN), {}, AutoSettings(), TYPICAL))
