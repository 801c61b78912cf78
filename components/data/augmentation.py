"""Augmentation policies. Each draw is a function of seed, image and epoch alone, whoever asks for it and when."""

import hashlib
import os
import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from components.settings import Settings

if TYPE_CHECKING:
    import albumentations

    Transforms = list[albumentations.BasicTransform | albumentations.BaseCompose]

Policy = Literal["none", "basic", "advanced", "medical"]
Flips = Literal["none", "horizontal", "both"]
Draw = Callable[[NDArray[np.uint8], str, int], NDArray[np.uint8]]
"""(pixels_HWC, image, epoch) → an augmented image of the same shape."""


class AugmentSettings(Settings):
    """params.yaml: augment."""

    policy: Policy
    """none; basic: shift, scale, rotation, light; advanced: also shear, noise, blur, cutout; medical: conservative."""
    flips: Flips
    """Which mirror images keep their label; handwriting has none."""
    copies: int = Field(ge=0, le=20)
    """Augmented copies of each training image that the stage writes beside it; more costs disk and time an epoch."""
    balance: float = Field(ge=0, le=1)
    """Rare classes get more copies until they have this share of the largest class; 0 leaves them as they are."""
    seed: int = Field(ge=0)
    """Another seed draws other augmentations."""


def augmenter(settings: AugmentSettings) -> Draw:
    """Draws from the policy. Equal seed, image and epoch give equal pixels, on any worker and after a resume."""
    pipeline = _pipeline(settings.policy, settings.flips)

    def draw(pixels_HWC: NDArray[np.uint8], image: str, epoch: int) -> NDArray[np.uint8]:
        pipeline.set_random_seed(_seed_of(settings.seed, image, epoch))
        augmented: NDArray[np.uint8] = pipeline(image=pixels_HWC)["image"]
        return augmented

    return draw


def _seed_of(seed: int, image: str, epoch: int) -> int:
    digest = hashlib.blake2b(f"{seed} {epoch} {image}".encode(), digest_size=4)
    return int.from_bytes(digest.digest(), "big")


def _pipeline(policy: Policy, flips: Flips) -> "albumentations.Compose":
    # albumentations asks the network for its newest version when it is imported, unless told not to.
    os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
    import albumentations as alb

    with warnings.catch_warnings():
        # An argument name that it doesn't know only warns and runs on defaults: here that is an error.
        warnings.simplefilter("error")
        transforms = [*_flips(flips), *_POLICIES[policy]()] if policy != "none" else []
        return alb.Compose(transforms)


def _flips(flips: Flips) -> "Transforms":
    import albumentations as alb

    horizontal: Transforms = [alb.HorizontalFlip(p=0.5)]
    return {"none": [], "horizontal": horizontal, "both": [*horizontal, alb.VerticalFlip(p=0.5)]}[flips]


def _basic() -> "Transforms":
    import albumentations as alb

    return [
        alb.Affine(translate_percent=(-0.08, 0.08), scale=(0.9, 1.1), rotate=(-10, 10), p=0.9),
        alb.RandomBrightnessContrast(brightness_limit=0.2, contrast_limit=0.2, p=0.5),
    ]


def _advanced() -> "Transforms":
    import albumentations as alb

    return [
        alb.Affine(translate_percent=(-0.1, 0.1), scale=(0.8, 1.2), rotate=(-15, 15), shear=(-8, 8), p=0.9),
        alb.ColorJitter(brightness=0.3, contrast=0.3, saturation=0.3, hue=0.05, p=0.7),
        alb.OneOf([alb.GaussNoise(std_range=(0.02, 0.1)), alb.GaussianBlur(blur_limit=(3, 5))], p=0.3),
        alb.CoarseDropout(num_holes_range=(1, 2), hole_height_range=(0.1, 0.3), hole_width_range=(0.1, 0.3), p=0.5),
    ]


def _medical() -> "Transforms":
    import albumentations as alb

    return [
        alb.Affine(translate_percent=(-0.03, 0.03), scale=(0.97, 1.03), rotate=(-5, 5), p=0.8),
        alb.RandomBrightnessContrast(brightness_limit=0.05, contrast_limit=0.05, p=0.3),
    ]


_POLICIES: "dict[str, Callable[[], Transforms]]" = {"basic": _basic, "advanced": _advanced, "medical": _medical}
