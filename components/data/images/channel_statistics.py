"""What the pixels of many images are like, channel by channel.

Letters: N images, S side, C channels.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image


class ChannelStatistics:
    """Counted in whole numbers, block by block, so that neither order nor blocks change the result."""

    def __init__(self) -> None:
        self._counts = np.zeros((3, 256), np.int64)

    def add(self, block_NSSC: NDArray[np.uint8]) -> None:
        # Pillow counts several times as fast as NumPy, which widens the bytes first.
        tall = Image.fromarray(block_NSSC.reshape(-1, *block_NSSC.shape[2:]))
        self._counts += np.array(tall.histogram(), np.int64).reshape(3, 256)

    def added(self, block_NSSC: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Counts a block on its way."""
        self.add(block_NSSC)
        return block_NSSC

    def mean_and_std(self) -> tuple[list[float], list[float]]:
        """Of each channel, in [0, 1]; the deviation is at least that of one grey level."""
        levels = np.arange(256)
        total = self._counts.sum(axis=1)
        mean = self._counts @ levels / total
        variance = self._counts @ levels**2 / total - mean**2
        std = np.sqrt(np.maximum(variance, 1.0))
        return (mean / 255).round(6).tolist(), (std / 255).round(6).tolist()

    def histogram(self, bins: int) -> list[list[float]]:
        """Share of the pixels in each of the equal bins of [0, 256), a list a channel; bins divides 256."""
        counts = self._counts.reshape(3, bins, -1).sum(axis=2)
        shares: list[list[float]] = (counts / counts.sum(axis=1, keepdims=True)).round(6).tolist()
        return shares


@dataclass(frozen=True)
class Look:
    """The statistics of some images, as they are written and drawn."""

    images: int
    mean: list[float]
    """Red, green, blue, in [0, 1]."""
    std: list[float]
    histogram: list[list[float]]
    """Share of the pixels in each of 32 bins of brightness, a list a channel."""


def look_of(images_NSSC: NDArray[np.uint8]) -> Look:
    statistics = ChannelStatistics()
    statistics.add(images_NSSC)
    mean, std = statistics.mean_and_std()
    return Look(len(images_NSSC), mean, std, statistics.histogram(32))
