"""MixUp, CutMix and random erasing of training batches.

Every loss here is linear in the target, so a mixed image has the mixture of both images' losses: no soft targets are
needed, and every type of labels can be mixed.

Shapes: B images, H height, W width, C channels.
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
    """Index of the image that each was mixed with; None where nothing was mixed."""
    own_weight: float
    """Weight of each image's own target; the rest is its partner's."""


def mix(images_BHWC: Tensor, *, mixup: float, cutmix: float, random_erasing: float, random: Generator) -> Mixed:
    """MixUp (Zhang et al. 2018) or CutMix (Yun et al. 2019), one of them for a batch where both are set, each by its
    alpha, 0 for none; then random erasing in a fraction of the images (Zhong et al. 2020).

    MixUp and CutMix draw from torch's generator, random erasing from `random`.
    """
    mixed = _mixed(images_BHWC, mixup, cutmix) if mixup or cutmix else Mixed(images_BHWC, None, 1.0)
    if not random_erasing:
        return mixed
    return Mixed(_erased(mixed.images_BHWC, random_erasing, random), mixed.partner_B, mixed.own_weight)


def _mixed(images_BHWC: Tensor, mixup: float, cutmix: float) -> Mixed:
    from torchvision.transforms.v2 import CutMix, MixUp

    count = len(images_BHWC)
    chosen = "mixup" if mixup and (not cutmix or torch.rand(()) < 0.5) else "cutmix"
    transform = MixUp(alpha=mixup, num_classes=count) if chosen == "mixup" else CutMix(alpha=cutmix, num_classes=count)
    images_BCHW = images_BHWC.permute(0, 3, 1, 2)
    # With its index as its class, an image's target is the weight of every image in it.
    images_BCHW, weight_BB = transform(images_BCHW.float() if chosen == "mixup" else images_BCHW, torch.arange(count))
    partner_B = torch.arange(count, device=images_BHWC.device).roll(1)
    return Mixed(images_BCHW.permute(0, 2, 3, 1), partner_B, float(weight_BB[0, 0]))


def _erased(images_BHWC: Tensor, fraction: float, random: Generator) -> Tensor:
    """A rectangle of noise in a `fraction` of the images: 2 to 33% of the area, aspects from 0.3 to 3.3.

    torchvision's would erase the same rectangle of all images, with noise that is for normalized ones.
    """
    images = images_BHWC.clone()
    _, height, width, channels = images.shape
    for index in np.flatnonzero(random.random(len(images)) < fraction):
        area = random.uniform(0.02, 1 / 3) * height * width
        aspect = math.exp(random.uniform(math.log(0.3), math.log(3.3)))
        hole = (min(height, round(math.sqrt(area * aspect)) or 1), min(width, round(math.sqrt(area / aspect)) or 1))
        top, left = (int(random.integers(whole - side + 1)) for whole, side in zip((height, width), hole, strict=True))
        noise = torch.from_numpy(random.integers(0, 256, (*hole, channels), dtype=np.uint8))
        images[index, top : top + hole[0], left : left + hole[1]] = noise.to(images.device, images.dtype)
    return images
