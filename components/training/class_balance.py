"""Classes that weigh alike, however many images each has.

Letters: N images, K classes.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from components.shared.errors import SettingsError, nearest
from components.task.label_space import LabelSpace
from components.training.settings import ClassWeights


def class_weights(setting: ClassWeights, target: NDArray[Any], space: LabelSpace) -> NDArray[np.float32] | None:
    """Of each class in the loss; None where all weigh 1.

    auto: N / (K n) for a class of n images, so that the mean over the images is 1; of sets of labels, images without
    a label over those with it. A class of no images weighs 1. Raises SettingsError for a class that isn't there, and
    where all weigh 0.
    """
    if setting == "none":
        return None
    if setting == "auto":
        return _balancing(target, space)
    weight_K = np.ones(len(space.classes), np.float32)
    place = {name: number for number, name in enumerate(space.classes)}
    for name, weight in setting.items():
        if name not in place:
            raise SettingsError(
                f"params.yaml: train.class_weights: {name} is no class of these images{nearest(name, place)}"
            )
        weight_K[place[name]] = weight
    if not weight_K.any():
        raise SettingsError(
            "params.yaml: train.class_weights: all are 0, so nothing is learned; give one a larger weight"
        )
    return weight_K


def _balancing(target: NDArray[Any], space: LabelSpace) -> NDArray[np.float32]:
    if space.kind == "multi":
        having_K = target.sum(axis=0)
        return np.where(having_K > 0, (len(target) - having_K) / np.maximum(having_K, 1), 1).astype(np.float32)
    count_K = np.bincount(target, minlength=len(space.classes))
    return np.where(count_K > 0, len(target) / (len(space.classes) * np.maximum(count_K, 1)), 1).astype(np.float32)


def image_shares(target: NDArray[Any]) -> NDArray[np.float64]:
    """The chance [N] of each image under balanced sampling, where classes come equally often; they sum to 1.

    An image with a set of labels has the mean of what its labels ask for, one without any that of a class of its own.
    """
    if target.ndim == 1:
        share_N = 1.0 / np.bincount(target)[target]
    else:
        with_none = ~target.any(axis=1)
        labels_NK = np.column_stack([target, with_none])
        share_N = (labels_NK / np.maximum(labels_NK.sum(axis=0), 1)).sum(axis=1) / labels_NK.sum(axis=1)
    share: NDArray[np.float64] = share_N / share_N.sum()
    return share
