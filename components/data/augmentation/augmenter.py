"""Augmented images: a function of seed, image and epoch alone, in whatever process and order."""

import hashlib
from collections.abc import Callable
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from components.data.augmentation.affine import Flips
from components.data.augmentation.policies import NAMED, SEED_BYTES, Policy, policy_steps, read_pipeline
from components.shared.errors import SettingsError
from components.shared.settings import Settings

Draw = Callable[[NDArray[np.uint8], str, int], NDArray[np.uint8]]
"""(pixels_HWC, image, epoch) → an augmented image of the same shape."""


class AugmentSettings(Settings):
    """params.yaml: augment."""

    policy: Policy
    """none | basic | advanced | medical | autoaugment | randaugment | trivialaugment | pipeline.

    basic: shift, scale, rotation, light; advanced: also shear, noise, blur, cutout; medical: conservative; autoaugment,
    randaugment, trivialaugment: as published; pipeline: the transforms of `pipeline`.
    """
    pipeline: list[Any]
    """With policy: pipeline, albumentations' transforms: - GaussianBlur: {blur_limit: [3, 5], p: 0.3}."""
    flips: Flips
    """none | horizontal | both: flips that keep the label; handwriting has none; with policy: none there are none."""
    copies: int = Field(ge=0, le=20)
    """Augmented copies on disk of each training image; more costs disk and time per epoch."""
    balance: float = Field(ge=0, le=1)
    """Rare classes get copies up to this fraction of the largest class; 0 adds none."""
    store: Literal["auto", "pixels", "jpeg"]
    """pixels (decoded once) | jpeg (a fifth of the disk, decoded once per run) | auto: pixels up to the limit below."""
    pixels_limit_gib: float = Field(gt=0)
    """Largest size of all splits as pixels with `store: auto`; best below the memory of the training machine."""
    seed: int = Field(ge=0)
    """Another seed gives other random transforms."""

    @model_validator(mode="after")
    def _check_pipeline(self) -> Self:
        if self.policy == "pipeline":
            read_pipeline(self.pipeline)
        elif self.pipeline:
            raise SettingsError(
                f"params.yaml: augment.pipeline: is set, but augment.policy is {self.policy}; "
                "set augment.policy to pipeline, or the pipeline to []"
            )
        return self


def augmenter(settings: AugmentSettings) -> Draw:
    """The policy as a function. Equal seed, image and epoch give equal pixels, on any worker and after a resume."""
    steps = policy_steps(settings.policy, settings.flips, settings.pipeline)
    prefix = f"{settings.seed} "

    def draw(pixels_HWC: NDArray[np.uint8], image: str, epoch: int) -> NDArray[np.uint8]:
        seed = hashlib.blake2b(f"{prefix}{epoch} {image}".encode(), digest_size=SEED_BYTES).digest()
        augmented = pixels_HWC
        for step in steps:
            augmented = step(augmented, seed)
        return augmented

    return _checked(draw) if settings.policy == "pipeline" else draw


def preview_policies(settings: AugmentSettings) -> dict[str, AugmentSettings]:
    """The settings with each policy that has a preview; `pipeline` only if it is chosen."""
    named: dict[str, AugmentSettings] = {
        policy: settings.model_copy(update={"policy": policy, "pipeline": []}) for policy in NAMED if policy != "none"
    }
    return named | ({"pipeline": settings} if settings.policy == "pipeline" else {})


def _checked(draw: Draw) -> Draw:
    """Checks each image after a pipeline: its effect on shape and type is unknown before."""

    def checked(pixels_HWC: NDArray[np.uint8], image: str, epoch: int) -> NDArray[np.uint8]:
        height, width = pixels_HWC.shape[:2]
        try:
            augmented = draw(pixels_HWC, image, epoch)
        # Transforms raise errors of many types.
        except Exception as problem:
            raise SettingsError(
                f"params.yaml: augment.pipeline: can't be applied to {height}×{width} pixels: "
                f"{' '.join(str(problem).split())}"
            ) from None
        if augmented.shape != pixels_HWC.shape or augmented.dtype != np.uint8:
            raise SettingsError(
                f"params.yaml: augment.pipeline: makes {'×'.join(map(str, augmented.shape))} {augmented.dtype} of "
                f"{height}×{width}×3 uint8; end it with `Resize: {{height: {height}, width: {width}}}`"
            )
        return augmented

    return checked
