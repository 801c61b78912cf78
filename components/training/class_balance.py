"""Class weights of the loss.

Shapes: N images, K classes.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from components.shared.errors import SettingsError, nearest
from components.task.task import Task
from components.training.settings import ClassWeights


def class_weights(setting: ClassWeights, target: NDArray[Any], task: Task) -> NDArray[np.float32] | None:
    """Weight of each class in the loss; None where all are 1.

    auto: as the task balances classes (Task.balancing_weights). Raises SettingsError for an unknown class, and where
    all weights are 0.
    """
    if setting == "none":
        return None
    if setting == "auto":
        return task.balancing_weights(target)
    weight_K = np.ones(len(task.classes), np.float32)
    index = {name: number for number, name in enumerate(task.classes)}
    for name, weight in setting.items():
        if name not in index:
            raise SettingsError(
                f"params.yaml: train.class_weights: {name} is no class of these images{nearest(name, index)}"
            )
        weight_K[index[name]] = weight
    if not weight_K.any():
        raise SettingsError(
            "params.yaml: train.class_weights: all are 0, so nothing is learned; give one a larger weight"
        )
    return weight_K
