"""Which network: the section `model` of params.yaml."""

from typing import Annotated

from pydantic import Field

from components.settings import Settings


class ModelSettings(Settings):
    """params.yaml: model."""

    architecture: str
    """plain, lenet5, or any of torchvision's classification models, such as resnet18."""
    weights: str | None
    """null: from scratch; imagenet: torchvision's published ones; else a .safetensors or .pth file."""
    freeze_backbone: bool
    """true: only the head learns in `train`; `finetune` unfreezes."""
    level_weights: list[Annotated[float, Field(ge=0)]] | None = None
    """Of each level of a hierarchy in the loss, the coarsest first, such as [1.0, 0.8, 0.6]; null: all 1."""
