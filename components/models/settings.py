"""The section `model` of params.yaml."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from components.models.catalogue import COMPOUND, Scenario
from components.models.compound_scaling import LEAST_COMPOUND, MOST_COMPOUND
from components.shared.settings import Settings


class ModelSettings(Settings):
    """params.yaml: model."""

    architecture: str
    """plain | lenet5 | se_resnet18 | efficientnet | a classification model of torchvision or timm, such as resnet18.

    `timm/NAME` where both know the name. null in params.yaml lets `scenario` choose it.
    """
    scenario: Scenario | None = None
    """mobile | edge | server | real_time | max_accuracy | transfer: chooses the architecture where that is null."""
    compound: float | None = Field(default=None, ge=LEAST_COMPOUND, le=MOST_COMPOUND)
    """Size of the architecture `efficientnet`: 0 is B0; each further 1 makes it about twice as costly.

    The size of the images follows where preprocess.image_size_px is auto.
    """
    weights: str | None
    """null: from scratch | imagenet: published ones | a .safetensors or .pth file | models:/NAME@champion or /3."""
    freeze_backbone: bool
    """true: only the head is trained in `train`; `finetune` unfreezes."""
    pooling: Literal["average", "attention"] = "average"
    """average | attention (a learned query that also gives an attention map): how the last map becomes one vector."""
    dropout: float | None = Field(default=None, ge=0, lt=1)
    """Fraction of the features dropped before the last layer in training; larger overfits less; null: as published."""
    level_weights: list[Annotated[float, Field(ge=0)]] | None = None
    """Weight of each level of a hierarchy in the loss, the coarsest first, such as [1.0, 0.8, 0.6]; null: all 1."""

    @model_validator(mode="after")
    def _compound_belongs_to_efficientnet(self) -> Self:
        if self.compound is not None and self.architecture != COMPOUND:
            raise ValueError(f"without compound, which the architecture {COMPOUND} alone has; set it to null")
        if self.compound is None and self.architecture == COMPOUND:
            raise ValueError(f"given a compound, which the architecture {COMPOUND} needs; set it to 0 for B0")
        return self
