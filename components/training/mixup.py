"""Images of a batch mixed with one another, or with holes: for training alone.

Every loss here is linear in the target, so an image that is mixed of two has the mixture of both losses: no soft
targets are needed, and all kinds of labels can be mixed.

Letters: B images, H height, W width, C channels.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.random import Generator
from torch import Tensor


@dataclass(frozen=True)
class Mixed:
    images_BHWC: Tensor
    """uint8, or float of the same range where two were blended."""
    partner_B: Tensor | None
    """The image of the batch that each was mixed with; None where nothing was mixed."""
    share: float
    """Of each image's own target; the rest is its partner's."""


def mix(images_BHWC: Tensor, *, mixup: float, cutmix: float, random_erasing: float, random: Generator) -> Mixed:
    """Mixup (Zhang et al. 2018) or CutMix (Yun et al. 2019), one of them a batch where both are set, each by its
    alpha, 0 for none; then holes in a share `random_erasing` of the images (Zhong et al. 2020)."""
    mixed = Mixed(images_BHWC, None, 1.0)
    chosen = [name for name, alpha in (("mixup", mixup), ("cutmix", cutmix)) if alpha]
    if chosen and len(images_BHWC) > 1:
        name = chosen[int(random.integers(len(chosen)))]
        partner_B = torch.from_numpy(random.permutation(len(images_BHWC))).to(images_BHWC.device)
        mixed = (
            _blend(images_BHWC, partner_B, random.beta(mixup, mixup))
            if name == "mixup"
            else _paste(images_BHWC, partner_B, random.beta(cutmix, cutmix), random)
        )
    return (
        Mixed(_erased(mixed.images_BHWC, random_erasing, random), mixed.partner_B, mixed.share)
        if random_erasing
        else mixed
    )


def _blend(images_BHWC: Tensor, partner_B: Tensor, share: float) -> Mixed:
    own = images_BHWC.float()
    return Mixed(torch.lerp(own[partner_B], own, share), partner_B, share)


def _paste(images_BHWC: Tensor, partner_B: Tensor, share: float, random: Generator) -> Mixed:
    _, height, width, _ = images_BHWC.shape
    side = math.sqrt(1 - share)
    rows, columns = (_window(length, side * length, random) for length in (height, width))
    images = images_BHWC.clone()
    images[:, rows, columns] = images_BHWC[partner_B][:, rows, columns]
    covered = (rows.stop - rows.start) * (columns.stop - columns.start) / (height * width)
    return Mixed(images, partner_B, 1 - covered)


def _window(length: int, side: float, random: Generator) -> slice:
    """Around a centre anywhere; what lies outside is cut off."""
    centre = random.integers(length)
    return slice(max(0, round(centre - side / 2)), min(length, round(centre + side / 2)))


def _erased(images_BHWC: Tensor, share: float, random: Generator) -> Tensor:
    """A rectangle of noise in a `share` of the images: 2 to 33% of the area, aspects from 0.3 to 3.3."""
    images = images_BHWC.clone()
    _, height, width, channels = images.shape
    for place in np.flatnonzero(random.random(len(images)) < share):
        area = random.uniform(0.02, 1 / 3) * height * width
        aspect = math.exp(random.uniform(math.log(0.3), math.log(3.3)))
        hole = (min(height, round(math.sqrt(area * aspect)) or 1), min(width, round(math.sqrt(area / aspect)) or 1))
        top, left = (int(random.integers(whole - side + 1)) for whole, side in zip((height, width), hole, strict=True))
        noise = torch.from_numpy(random.integers(0, 256, (*hole, channels), dtype=np.uint8))
        images[place, top : top + hole[0], left : left + hole[1]] = noise.to(images.device, images.dtype)
    return images
