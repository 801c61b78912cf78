"""Names of architectures, for who must not import torch."""

OWN_ARCHITECTURES = ("plain", "lenet5", "se_resnet18", "se_resnet34", "se_resnet50", "efficientnet")
"""Those that torchvision doesn't have; `efficientnet` is any size of it, by model.compound."""
COMPOUND = "efficientnet"
TIMM_PREFIX = "timm/"
IMAGENET = "imagenet"
"""Of model.weights: those that torchvision or timm publish."""
REGISTERED = "models:/"
"""How the address of a registered model begins."""
