"""Mean, deviation and histogram of each colour channel over many images.

Shapes: N images, S side, C channels.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image


class ChannelStatistics:
    """Integer counts, added block by block: the result depends neither on their order nor on their size."""

    def __init__(self) -> None:
        self._counts = np.zeros((3, 256), np.int64)

    def add(self, block_NSSC: NDArray[np.uint8]) -> None:
        # Pillow counts several times as fast as NumPy, which converts the bytes first.
        tall = Image.fromarray(block_NSSC.reshape(-1, *block_NSSC.shape[2:]))
        self._counts += np.array(tall.histogram(), np.int64).reshape(3, 256)

    def added(self, block_NSSC: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Adds a block and returns it."""
        self.add(block_NSSC)
        return block_NSSC

    def mean_and_std(self) -> tuple[list[float], list[float]]:
        """Mean and standard deviation of each channel, in [0, 1]; the deviation is at least one grey level."""
        levels = np.arange(256)
        total = self._counts.sum(axis=1)
        mean = self._counts @ levels / total
        variance = self._counts @ levels**2 / total - mean**2
        std = np.sqrt(np.maximum(variance, 1.0))
        return (mean / 255).round(6).tolist(), (std / 255).round(6).tolist()

    def histogram(self, bins: int) -> list[list[float]]:
        """Fraction of the pixels in each of the equal bins of [0, 256), one list for each channel; bins divides 256."""
        counts = self._counts.reshape(3, bins, -1).sum(axis=2)
        fractions: list[list[float]] = (counts / counts.sum(axis=1, keepdims=True)).round(6).tolist()
        return fractions


@dataclass(frozen=True)
class Look:
    """The statistics of some images, as they are recorded and plotted."""

    images: int
    mean: list[float]
    """Red, green, blue, in [0, 1]."""
    std: list[float]
    histogram: list[list[float]]
    """Fraction of the pixels in each of 32 bins of brightness, one list for each channel."""


def look_of(images_NSSC: NDArray[np.uint8]) -> Look:
    statistics = ChannelStatistics()
    statistics.add(images_NSSC)
    mean, std = statistics.mean_and_std()
    return Look(len(images_NSSC), mean, std, statistics.histogram(32))
