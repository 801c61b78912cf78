"""Classes that weigh alike, however many images each has.

Letters: N images, K classes.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from components.shared.errors import SettingsError, nearest
from components.task.task import Task
from components.training.settings import ClassWeights


def class_weights(setting: ClassWeights, target: NDArray[Any], task: Task) -> NDArray[np.float32] | None:
    """Of each class in the loss; None where all weigh 1.

    auto: as the label type balances classes (Task.balancing_weights). Raises SettingsError for a class that doesn't
    exist, and where all weigh 0.
    """
    if setting == "none":
        return None
    if setting == "auto":
        return task.balancing_weights(target)
    weight_K = np.ones(len(task.classes), np.float32)
    place = {name: number for number, name in enumerate(task.classes)}
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
