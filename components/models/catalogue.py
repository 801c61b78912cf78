"""Names of architectures, for who must not import torch."""

from typing import Literal

Scenario = Literal["mobile", "edge", "server", "real_time", "max_accuracy", "transfer"]
"""What a model is for."""

OWN_ARCHITECTURES = ("plain", "lenet5", "se_resnet18", "se_resnet34", "se_resnet50", "efficientnet")
"""Those that torchvision doesn't have; `efficientnet` is any size of it, by model.compound."""
COMPOUND = "efficientnet"
TIMM_PREFIX = "timm/"
SMALL_IMAGE_PX = 64
"""Inputs below get the small-image stem."""
IMAGENET = "imagenet"
"""Of model.weights: those that torchvision or timm publish."""
REGISTERED = "models:/"
"""How the address of a registered model begins."""
