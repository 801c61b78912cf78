"""The published policies AutoAugment, RandAugment and TrivialAugment, on Pillow's operations.

Operations, ranges and the ImageNet policy are those of torchvision.transforms.v2 for PIL images, which uses torch's
global generator; here the caller passes a generator, and no torch is needed (docs/adr/0012). Tests compare the two.
AutoAugment: Cubuk et al. 2018. RandAugment: Cubuk et al. 2019. TrivialAugment: Müller and Hutter 2021.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from PIL import Image, ImageEnhance, ImageOps

PublishedPolicy = Literal["autoaugment", "randaugment", "trivialaugment"]
PUBLISHED: tuple[PublishedPolicy, ...] = ("autoaugment", "randaugment", "trivialaugment")

_RAND_OPERATIONS, _RAND_MAGNITUDE, _BINS = 2, 9, 31
_AUTO_BINS = 10
_PLAIN = ("AutoContrast", "Equalize")
"""Operations without a magnitude."""
_UNSIGNED = ("Posterize", "Solarize", *_PLAIN, "Identity", "Invert")


@dataclass(frozen=True)
class Ranges:
    """The largest magnitude of each operation."""

    shear: float
    translate: float | None
    """Pixels; None: 150/331 of the side."""
    rotate: float
    """Degrees."""
    enhance: float
    posterize: int
    """Largest number of bits that are removed."""


MODERATE = Ranges(shear=0.3, translate=None, rotate=30.0, enhance=0.9, posterize=4)
WIDE = Ranges(shear=0.99, translate=32.0, rotate=135.0, enhance=0.99, posterize=6)
_ENHANCERS: dict[str, Callable[[Image.Image], ImageEnhance._Enhance]] = {
    "Brightness": ImageEnhance.Brightness,
    "Color": ImageEnhance.Color,
    "Contrast": ImageEnhance.Contrast,
    "Sharpness": ImageEnhance.Sharpness,
}
_CHOICES = (
    "Identity",
    "ShearX",
    "ShearY",
    "TranslateX",
    "TranslateY",
    "Rotate",
    *_ENHANCERS,
    "Posterize",
    "Solarize",
    *_PLAIN,
)

_Step = tuple[str, float, int]
"""Operation, probability, magnitude of 10."""
IMAGENET: tuple[tuple[_Step, _Step], ...] = (
    (("Posterize", 0.4, 8), ("Rotate", 0.6, 9)),
    (("Solarize", 0.6, 5), ("AutoContrast", 0.6, 0)),
    (("Equalize", 0.8, 0), ("Equalize", 0.6, 0)),
    (("Posterize", 0.6, 7), ("Posterize", 0.6, 6)),
    (("Equalize", 0.4, 0), ("Solarize", 0.2, 4)),
    (("Equalize", 0.4, 0), ("Rotate", 0.8, 8)),
    (("Solarize", 0.6, 3), ("Equalize", 0.6, 0)),
    (("Posterize", 0.8, 5), ("Equalize", 1.0, 0)),
    (("Rotate", 0.2, 3), ("Solarize", 0.6, 8)),
    (("Equalize", 0.6, 0), ("Posterize", 0.4, 6)),
    (("Rotate", 0.8, 8), ("Color", 0.4, 0)),
    (("Rotate", 0.4, 9), ("Equalize", 0.6, 0)),
    (("Equalize", 0.0, 0), ("Equalize", 0.8, 0)),
    (("Invert", 0.6, 0), ("Equalize", 1.0, 0)),
    (("Color", 0.6, 4), ("Contrast", 1.0, 8)),
    (("Rotate", 0.8, 8), ("Color", 1.0, 2)),
    (("Color", 0.8, 8), ("Solarize", 0.8, 7)),
    (("Sharpness", 0.4, 7), ("Invert", 0.6, 0)),
    (("ShearX", 0.6, 5), ("Equalize", 1.0, 0)),
    (("Color", 0.4, 0), ("Equalize", 0.6, 0)),
    (("Equalize", 0.4, 0), ("Solarize", 0.2, 4)),
    (("Solarize", 0.6, 5), ("AutoContrast", 0.6, 0)),
    (("Invert", 0.6, 0), ("Equalize", 1.0, 0)),
    (("Color", 0.6, 4), ("Contrast", 1.0, 8)),
    (("Equalize", 0.8, 0), ("Equalize", 0.6, 0)),
)


def apply_published(policy: PublishedPolicy, image: Image.Image, generator: random.Random) -> Image.Image:
    """The RGB image after the policy's random operations; all random numbers come from the generator."""
    if policy == "trivialaugment":
        name = generator.choice(_CHOICES)
        return _applied(name, image, generator.randrange(_BINS) / (_BINS - 1), WIDE, generator)
    if policy == "randaugment":
        for _ in range(_RAND_OPERATIONS):
            name = generator.choice(_CHOICES)
            image = _applied(name, image, _RAND_MAGNITUDE / (_BINS - 1), MODERATE, generator)
        return image
    for name, probability, magnitude in generator.choice(IMAGENET):
        if generator.random() < probability:
            image = _applied(name, image, magnitude / (_AUTO_BINS - 1), MODERATE, generator)
    return image


def _applied(name: str, image: Image.Image, strength: float, ranges: Ranges, generator: random.Random) -> Image.Image:
    """The image after the operation at a fraction of its largest magnitude, in a random direction if it has two."""
    sign = 1 if name in _UNSIGNED or generator.random() < 0.5 else -1
    return operate(name, image, sign * magnitude_of(name, strength, ranges, image.size))


def magnitude_of(name: str, strength: float, ranges: Ranges, size: tuple[int, int]) -> float:
    if name.startswith("Shear"):
        return strength * ranges.shear
    if name.startswith("Translate"):
        side = size[0] if name.endswith("X") else size[1]
        # It is truncated to whole pixels: 15/30 of 32 must give 16, whatever the last binary digit.
        return round(strength * (ranges.translate if ranges.translate is not None else 150 / 331 * side), 4)
    if name == "Rotate":
        return strength * ranges.rotate
    if name in _ENHANCERS:
        return strength * ranges.enhance
    if name == "Posterize":
        return 8 - round(strength * ranges.posterize)
    if name == "Solarize":
        return 1 - strength
    return 0.0


def operate(name: str, image: Image.Image, magnitude: float) -> Image.Image:
    """The image after one operation; uncovered borders are black."""
    if name in _ENHANCERS:
        return _ENHANCERS[name](image).enhance(1 + magnitude)
    if name == "ShearX":
        return _transform(image, (1, magnitude, 0, 0, 1, 0))
    if name == "ShearY":
        return _transform(image, (1, 0, 0, magnitude, 1, 0))
    if name == "TranslateX":
        return _transform(image, (1, 0, -int(magnitude), 0, 1, 0))
    if name == "TranslateY":
        return _transform(image, (1, 0, 0, 0, 1, -int(magnitude)))
    if name == "Rotate":
        return image.rotate(magnitude, Image.Resampling.NEAREST)
    if name == "Posterize":
        return ImageOps.posterize(image, int(magnitude))
    if name == "Solarize":
        # Pillow accepts a threshold that is no integer.
        return ImageOps.solarize(image, 255 * magnitude)  # type: ignore[arg-type]
    if name == "AutoContrast":
        return ImageOps.autocontrast(image)
    if name == "Equalize":
        return ImageOps.equalize(image)
    return ImageOps.invert(image) if name == "Invert" else image


def _transform(image: Image.Image, matrix: tuple[float, ...]) -> Image.Image:
    return image.transform(image.size, Image.Transform.AFFINE, matrix, Image.Resampling.NEAREST)
