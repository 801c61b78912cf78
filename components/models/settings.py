"""Which network: the section `model` of params.yaml."""

from typing import Annotated, Literal

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
    pooling: Literal["average", "attention"] = "average"
    """How the last map becomes one vector; attention: by a learned query, which also gives a map of where it looks."""
    dropout: float | None = Field(default=None, ge=0, lt=1)
    """Share of the features that the last layer forgets in training; larger overfits less; null: the network's own."""
    level_weights: list[Annotated[float, Field(ge=0)]] | None = None
    """Of each level of a hierarchy in the loss, the coarsest first, such as [1.0, 0.8, 0.6]; null: all 1."""
