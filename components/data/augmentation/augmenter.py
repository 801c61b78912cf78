"""Augmented images. Each draw is a function of seed, image and epoch alone, whoever asks for it and when."""

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
    """none; basic: shift, scale, rotation, light; advanced: also shear, noise, blur, cutout; medical: conservative;
    autoaugment, randaugment, trivialaugment: the published searches; pipeline: what `pipeline` writes out."""
    pipeline: list[Any]
    """With `policy: pipeline`: albumentations' transforms with their arguments, in their order."""
    flips: Flips
    """Which mirror images keep their label; handwriting has none. With `policy: none` nothing is mirrored."""
    copies: int = Field(ge=0, le=20)
    """Augmented copies of each training image that the stage writes beside it; more costs disk and time an epoch."""
    balance: float = Field(ge=0, le=1)
    """Rare classes get more copies until they have this share of the largest class; 0 leaves them as they are."""
    store: Literal["auto", "pixels", "jpeg"]
    """How the training split lies on disk: decoded, or as JPEGs of the model's size, which take a fifth of the space
    and are decoded once a training; auto: decoded up to `pixels_limit_gib`."""
    pixels_limit_gib: float = Field(gt=0)
    """Decoded splits may be this large with `store: auto`; best below the memory of the machine that trains."""
    seed: int = Field(ge=0)
    """Another seed draws other augmentations."""

    @model_validator(mode="after")
    def _pipeline_can_be_made(self) -> Self:
        if self.policy == "pipeline":
            read_pipeline(self.pipeline)
        elif self.pipeline:
            raise SettingsError(
                f"params.yaml: augment.pipeline: is written out, but augment.policy is {self.policy}; "
                "set augment.policy to pipeline, or the pipeline to []"
            )
        return self


def augmenter(settings: AugmentSettings) -> Draw:
    """Draws from the policy. Equal seed, image and epoch give equal pixels, on any worker and after a resume."""
    steps = policy_steps(settings.policy, settings.flips, settings.pipeline)
    prefix = f"{settings.seed} "

    def draw(pixels_HWC: NDArray[np.uint8], image: str, epoch: int) -> NDArray[np.uint8]:
        seed = hashlib.blake2b(f"{prefix}{epoch} {image}".encode(), digest_size=SEED_BYTES).digest()
        augmented = pixels_HWC
        for step in steps:
            augmented = step(augmented, seed)
        return augmented

    return _checked(draw) if settings.policy == "pipeline" else draw


def policies_to_show(settings: AugmentSettings) -> dict[str, AugmentSettings]:
    """Each policy that a sheet can show, with the other settings as they are; a written pipeline where it is chosen."""
    named: dict[str, AugmentSettings] = {
        policy: settings.model_copy(update={"policy": policy, "pipeline": []}) for policy in NAMED if policy != "none"
    }
    return named | ({"pipeline": settings} if settings.policy == "pipeline" else {})


def _checked(draw: Draw) -> Draw:
    """What a written pipeline does to an image is known only once it has done it."""

    def checked(pixels_HWC: NDArray[np.uint8], image: str, epoch: int) -> NDArray[np.uint8]:
        height, width = pixels_HWC.shape[:2]
        try:
            augmented = draw(pixels_HWC, image, epoch)
        # Transforms refuse an image with errors of many kinds.
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
