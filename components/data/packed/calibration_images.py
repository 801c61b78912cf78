"""Training images that calibrate the ranges of int8: originals, spread evenly over the split.

Shapes: N images.
"""

from collections.abc import Sized
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from components.data.packed.loaders import PackedSplit
from components.shared.files import sha256_of_record


@dataclass(frozen=True)
class CalibrationImages:
    pixels_NHWC: NDArray[np.uint8]
    names: list[dict[str, str]]
    """Path and SHA-256 of each image."""

    @property
    def digest(self) -> str:
        return sha256_of_record({"images": self.names})

    def spread(self, count: int) -> "CalibrationImages":
        """At most `count` of the images, spread evenly."""
        chosen = calibration_sample(self.names, count)
        return CalibrationImages(self.pixels_NHWC[chosen], [self.names[index] for index in chosen])


def calibration_images(train: PackedSplit, count: int) -> CalibrationImages:
    originals = np.flatnonzero(train.copy_N == 0)
    chosen = originals[calibration_sample(originals, count)]
    names = [{"path": train.path_N[index], "sha256": train.sha256_N[index]} for index in chosen]
    return CalibrationImages(np.array(train.pixels_NHWC[chosen]), names)


def calibration_sample(images: Sized, count: int) -> NDArray[np.int64]:
    """Indices of `count` images, spread evenly, so that equal data give equal ranges."""
    return np.unique(np.linspace(0, len(images) - 1, min(count, len(images))).astype(np.int64))
