"""Names of architectures, for callers that must not import torch."""

from typing import Literal

Scenario = Literal["mobile", "edge", "server", "real_time", "max_accuracy", "transfer"]
"""Purpose of a model, which chooses its architecture."""

OWN_ARCHITECTURES = ("plain", "lenet5", "se_resnet18", "se_resnet34", "se_resnet50", "efficientnet")
"""Our own networks; `efficientnet` has any size, by model.compound."""
COMPOUND = "efficientnet"
TIMM_PREFIX = "timm/"
SMALL_IMAGE_PX = 64
"""Smaller inputs get the small-image stem."""
IMAGENET = "imagenet"
"""Value of model.weights for the weights that torchvision or timm publish."""
PACKAGED = ("tf_efficientnet_lite0", "tf_efficientnet_lite1", "tf_efficientnet_lite2")
"""timm's names of the networks whose ImageNet weights are installed with Darkroom."""
REGISTERED = "models:/"
"""Beginning of the URI of a registered model."""
