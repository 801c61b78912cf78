"""Which network: the section `model` of params.yaml."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from components.models.catalogue import COMPOUND, Scenario
from components.models.compound_scaling import LEAST_COMPOUND, MOST_COMPOUND
from components.shared.settings import Settings


class ModelSettings(Settings):
    """params.yaml: model."""

    architecture: str
    """plain, lenet5, se_resnet18, efficientnet, any of torchvision's classification models, or timm/NAME.

    null in params.yaml lets scenario choose it.
    """
    scenario: Scenario | None = None
    """What the model is for, by which architecture was chosen; null: architecture was given."""
    compound: float | None = Field(default=None, ge=LEAST_COMPOUND, le=MOST_COMPOUND)
    """Of the architecture `efficientnet`: 0 is B0; each further 1 makes it about twice as costly.

    The size of the images follows where preprocess.image_size_px is auto.
    """
    weights: str | None
    """null: from scratch; imagenet: the published ones; a .safetensors or .pth file; or a registered model, such as
    models:/NAME@champion or models:/NAME/3."""
    freeze_backbone: bool
    """true: only the head learns in `train`; `finetune` unfreezes."""
    pooling: Literal["average", "attention"] = "average"
    """How the last map becomes one vector; attention: by a learned query, which also gives a map of where it looks."""
    dropout: float | None = Field(default=None, ge=0, lt=1)
    """Share of the features that the last layer forgets in training; larger overfits less; null: the network's own."""
    level_weights: list[Annotated[float, Field(ge=0)]] | None = None
    """Of each level of a hierarchy in the loss, the coarsest first, such as [1.0, 0.8, 0.6]; null: all 1."""

    @model_validator(mode="after")
    def _compound_belongs_to_efficientnet(self) -> Self:
        if self.compound is not None and self.architecture != COMPOUND:
            raise ValueError(f"without compound, which the architecture {COMPOUND} alone has; set it to null")
        if self.compound is None and self.architecture == COMPOUND:
            raise ValueError(f"given a compound, which the architecture {COMPOUND} needs; set it to 0 for B0")
        return self
