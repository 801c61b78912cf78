"""The published searches on Pillow's operations: AutoAugment, RandAugment and TrivialAugment.

Operations, ranges and the ImageNet policy are those of torchvision.transforms.v2 for PIL images, which draws from
torch's global generator; here a generator is handed in, and no torch is needed. The tests compare the two.
AutoAugment: Cubuk et al. 2018. RandAugment: Cubuk et al. 2019. TrivialAugment: Müller and Hutter 2021.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from PIL import Image, ImageEnhance, ImageOps

Search = Literal["autoaugment", "randaugment", "trivialaugment"]
SEARCHES: tuple[Search, ...] = ("autoaugment", "randaugment", "trivialaugment")

_RAND_OPERATIONS, _RAND_MAGNITUDE, _BINS = 2, 9, 31
_AUTO_BINS = 10
_PLAIN = ("AutoContrast", "Equalize")
"""Operations without a magnitude."""
_UNSIGNED = ("Posterize", "Solarize", *_PLAIN, "Identity", "Invert")


@dataclass(frozen=True)
class Ranges:
    """The strongest magnitude of each operation."""

    shear: float
    translate: float | None
    """In pixels; None: 150/331 of the side."""
    rotate: float
    """In degrees."""
    enhance: float
    posterize: int
    """Bits that go at most."""


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


def draw_search(search: Search, image: Image.Image, generator: random.Random) -> Image.Image:
    """An RGB image of the same size, drawn with the generator alone."""
    if search == "trivialaugment":
        name = generator.choice(_CHOICES)
        return _applied(name, image, generator.randrange(_BINS) / (_BINS - 1), WIDE, generator)
    if search == "randaugment":
        for _ in range(_RAND_OPERATIONS):
            name = generator.choice(_CHOICES)
            image = _applied(name, image, _RAND_MAGNITUDE / (_BINS - 1), MODERATE, generator)
        return image
    for name, probability, magnitude in generator.choice(IMAGENET):
        if generator.random() < probability:
            image = _applied(name, image, magnitude / (_AUTO_BINS - 1), MODERATE, generator)
    return image


def _applied(name: str, image: Image.Image, share: float, ranges: Ranges, generator: random.Random) -> Image.Image:
    """The operation at a share of its strongest magnitude, with a sign where it has two directions."""
    sign = 1 if name in _UNSIGNED or generator.random() < 0.5 else -1
    return operate(name, image, sign * magnitude_of(name, share, ranges, image.size))


def magnitude_of(name: str, share: float, ranges: Ranges, size: tuple[int, int]) -> float:
    if name.startswith("Shear"):
        return share * ranges.shear
    if name.startswith("Translate"):
        side = size[0] if name.endswith("X") else size[1]
        # Whole pixels are taken of it: 15/30 of 32 are 16, whatever the last binary digit says.
        return round(share * (ranges.translate if ranges.translate is not None else 150 / 331 * side), 4)
    if name == "Rotate":
        return share * ranges.rotate
    if name in _ENHANCERS:
        return share * ranges.enhance
    if name == "Posterize":
        return 8 - round(share * ranges.posterize)
    if name == "Solarize":
        return 1 - share
    return 0.0


def operate(name: str, image: Image.Image, magnitude: float) -> Image.Image:
    """One operation; what comes in from outside is black."""
    if name in _ENHANCERS:
        return _ENHANCERS[name](image).enhance(1 + magnitude)
    if name == "ShearX":
        return _sheared(image, (1, magnitude, 0, 0, 1, 0))
    if name == "ShearY":
        return _sheared(image, (1, 0, 0, magnitude, 1, 0))
    if name == "TranslateX":
        return _sheared(image, (1, 0, -int(magnitude), 0, 1, 0))
    if name == "TranslateY":
        return _sheared(image, (1, 0, 0, 0, 1, -int(magnitude)))
    if name == "Rotate":
        return image.rotate(magnitude, Image.Resampling.NEAREST)
    if name == "Posterize":
        return ImageOps.posterize(image, int(magnitude))
    if name == "Solarize":
        # The bound is no whole number, and Pillow compares whole levels with it all the same.
        return ImageOps.solarize(image, 255 * magnitude)  # type: ignore[arg-type]
    if name == "AutoContrast":
        return ImageOps.autocontrast(image)
    if name == "Equalize":
        return ImageOps.equalize(image)
    return ImageOps.invert(image) if name == "Invert" else image


def _sheared(image: Image.Image, matrix: tuple[float, ...]) -> Image.Image:
    return image.transform(image.size, Image.Transform.AFFINE, matrix, Image.Resampling.NEAREST)
