"""Names of architectures, for who must not import torch."""

OWN_ARCHITECTURES = ("plain", "lenet5")
