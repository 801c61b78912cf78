"""Draws: functions of seed, image and epoch alone; a written pipeline is checked before anything is drawn."""

from typing import Any

import numpy as np
import pytest
from PIL import Image
from projects import draw_shape
from shapes import AUGMENT
from torchvision.transforms import InterpolationMode, v2

from components.data.augmentation.augmenter import AugmentSettings, augmenter
from components.data.augmentation.policies import NAMED
from components.data.augmentation.published_policies import IMAGENET, MODERATE, WIDE, Ranges, magnitude_of, operate
from components.shared.errors import SettingsError

SQUARE = np.asarray(draw_shape("circle", 3, 40))
DRAWN = [policy for policy in NAMED if policy != "none"]


def settings(**changed: Any) -> AugmentSettings:
    return AugmentSettings.from_section("augment", AUGMENT | changed)


def written(*pipeline: Any) -> AugmentSettings:
    return settings(policy="pipeline", pipeline=list(pipeline))


@pytest.mark.parametrize("policy", NAMED)
def test_a_draw_depends_on_nothing_that_was_drawn_before(policy: str) -> None:
    draw = augmenter(settings(policy=policy, flips="both"))
    in_order = [draw(SQUARE, "a.png", epoch) for epoch in range(12)]
    again = augmenter(settings(policy=policy, flips="both"))
    for epoch in (7, 2, 11):
        np.random.seed(epoch)
        again(SQUARE, "b.png", epoch)
        drawn = again(SQUARE, "a.png", epoch)
        assert np.array_equal(drawn, in_order[epoch])
        assert drawn.shape == SQUARE.shape
        assert drawn.dtype == np.uint8


@pytest.mark.parametrize("policy", DRAWN)
def test_image_epoch_and_seed_each_change_the_draws(policy: str) -> None:
    def draws(image: str = "a.png", first: int = 0, seed: int = 7) -> list[bytes]:
        draw = augmenter(settings(policy=policy, seed=seed))
        return [draw(SQUARE, image, epoch).tobytes() for epoch in range(first, first + 8)]

    assert len({*map(tuple, (draws(), draws("b.png"), draws(first=8), draws(seed=8)))}) == 4
    assert len(set(draws())) > 4


def test_no_policy_is_the_image_itself() -> None:
    assert np.array_equal(augmenter(settings(policy="none", flips="both"))(SQUARE, "a.png", 0), SQUARE)


def test_the_transforms_of_a_draw_are_drawn_apart() -> None:
    """Seeded by albumentations itself, two transforms of equal probability would always come together."""
    draw = augmenter(written({"HorizontalFlip": {"p": 0.5}}, {"VerticalFlip": {"p": 0.5}}))
    ways = {
        SQUARE.tobytes(): "none",
        SQUARE[:, ::-1].tobytes(): "horizontal",
        SQUARE[::-1].tobytes(): "vertical",
        SQUARE[::-1, ::-1].tobytes(): "both",
    }
    seen = [ways[draw(SQUARE, "a.png", epoch).tobytes()] for epoch in range(400)]
    assert all(60 < seen.count(way) < 140 for way in ways.values())


@pytest.mark.parametrize(("flips", "expected"), [("none", 1), ("horizontal", 2), ("both", 4)])
def test_mirror_images_are_those_that_keep_their_label(flips: str, expected: int) -> None:
    draw = augmenter(settings(policy="pipeline", pipeline=["NoOp"], flips=flips))
    assert len({draw(SQUARE, "a.png", epoch).tobytes() for epoch in range(60)}) == expected


def test_medical_changes_less_than_basic_and_basic_less_than_advanced() -> None:
    def change(policy: str) -> float:
        draw = augmenter(settings(policy=policy))
        return float(np.mean([np.abs(draw(SQUARE, "a.png", epoch).astype(int) - SQUARE) for epoch in range(60)]))

    assert change("medical") < change("basic") < change("advanced")


@pytest.mark.parametrize(
    ("reference", "ranges", "bins"),
    [(v2.AutoAugment, MODERATE, 10), (v2.RandAugment, MODERATE, 31), (v2.TrivialAugmentWide, WIDE, 31)],
)
def test_the_searches_have_torchvisions_operations_and_strengths(reference: Any, ranges: Ranges, bins: int) -> None:
    image = Image.fromarray(SQUARE).resize((40, 48))
    theirs = reference()
    for name, (magnitudes, signed) in theirs._AUGMENTATION_SPACE.items():
        strengths = magnitudes(bins, image.height, image.width)
        for number, sign in [(number, sign) for number in range(bins) for sign in ((1, -1) if signed else (1,))]:
            strength = 0.0 if strengths is None else float(strengths[number])
            assert magnitude_of(name, number / (bins - 1), ranges, image.size) == pytest.approx(strength, abs=1e-4)
            expected = theirs._apply_image_or_video_transform(
                image, name, sign * strength, interpolation=InterpolationMode.NEAREST, fill=theirs._fill
            )
            difference = np.abs(np.asarray(operate(name, image, sign * strength)).astype(int) - np.asarray(expected))
            assert difference.max() <= 1, (name, number, sign)


def test_autoaugment_has_the_published_policy() -> None:
    theirs = [
        tuple((name, probability, magnitude or 0) for name, probability, magnitude in pair)
        for pair in v2.AutoAugment()._policies
    ]
    assert theirs == list(IMAGENET)


def test_a_written_pipeline_is_drawn_as_it_is_written() -> None:
    draw = augmenter(
        written(
            "Transpose",
            {"OneOf": {"transforms": [{"GaussNoise": {"std_range": [0.1, 0.2]}}, {"GaussianBlur": None}], "p": 0.5}},
        )
    )
    draws = [draw(SQUARE, "a.png", epoch) for epoch in range(40)]
    unchanged = [np.array_equal(drawn, SQUARE.transpose(1, 0, 2)) for drawn in draws]
    assert 8 < sum(unchanged) < 32
    assert np.array_equal(draw(SQUARE, "a.png", 5), draws[5])


@pytest.mark.parametrize(
    ("pipeline", "sentence"),
    [
        ([], "augment.pipeline: is empty; write transforms such as"),
        ([{"GausianBlur": {}}], "augment.pipeline.0: GausianBlur is no transform .*; did you mean GaussianBlur"),
        (
            ["NoOp", {"GaussianBlur": {"blur_limits": 3}}],
            "pipeline.1.GaussianBlur.blur_limits: unknown; did you mean blur_",
        ),
        ([{"HorizontalFlip": {"p": 2}}], "HorizontalFlip: p: is 2: Input should be less than or equal to 1"),
        ([{"CenterCrop": {"width": 3}}], "pipeline.0.CenterCrop: needs height"),
        ([{"OneOf": {"transforms": ["NoOp", "Lambda"]}}], "pipeline.0.OneOf.1: Lambda takes functions"),
        (["OneOf"], "pipeline.0.OneOf: needs a list of transforms under `transforms`"),
        (["Normalize"], "Normalize leaves 8-bit pixels; the model normalizes by itself"),
        (["os.system"], "os.system is no transform"),
        (["BasicTransform"], "BasicTransform is no transform"),
        ([3], "pipeline.0: is 3, should be a transform with its arguments"),
        ([{"NoOp": {}, "Blur": {}}], "pipeline.0: is .* should be a transform"),
    ],
)
def test_a_pipeline_that_can_not_be_made_is_one_sentence(pipeline: list[Any], sentence: str) -> None:
    with pytest.raises(SettingsError, match=sentence) as refused:
        written(*pipeline)
    assert str(refused.value).startswith("params.yaml: augment.pipeline")
    assert "\n" not in str(refused.value)


def test_a_pipeline_that_changes_the_size_is_refused_at_the_first_image() -> None:
    draw = augmenter(written({"CenterCrop": {"height": 8, "width": 8}}))
    with pytest.raises(SettingsError, match="makes 8×8×3 uint8 of 40×40×3 uint8; end it with `Resize"):
        draw(SQUARE, "a.png", 0)


def test_a_pipeline_without_its_policy_is_not_ignored() -> None:
    with pytest.raises(SettingsError, match=r"augment.pipeline: is set, but augment.policy is basic"):
        settings(policy="basic", pipeline=["NoOp"])
