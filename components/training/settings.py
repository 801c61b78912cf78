"""How a model learns: the sections `train` and `finetune` of params.yaml, and the job made of them."""

from typing import Literal

from pydantic import Field

from components.data.augmentation import AugmentSettings
from components.data.preprocessing import PreprocessSettings
from components.models.settings import ModelSettings
from components.settings import Settings


class TrainSettings(Settings):
    """params.yaml: train."""

    epochs: int = Field(ge=1)
    """Passes over the training part; more learns more, until it overfits."""
    batch_size: int = Field(ge=2)
    """Images a step; larger is faster and needs more memory."""
    learning_rate: float = Field(gt=0)
    """At its peak; larger learns faster, until it diverges."""
    optimizer: Literal["adamw", "sgd"]
    weight_decay: float = Field(ge=0)
    """Pull of weights towards zero; larger overfits less. Norms and biases have none."""
    warmup_epochs: float = Field(ge=0)
    """Epochs in which the rate climbs to its peak, before it falls along a cosine to zero."""
    label_smoothing: float = Field(ge=0, lt=1)
    """Share of the target spread over all classes; larger makes less confident models."""
    augment: bool
    """true: originals are augmented anew each epoch; false: only the stage's copies are."""
    monitor: Literal["loss", "accuracy", "macro_f1"]
    """The validation score by which the best checkpoint is kept."""
    patience: int = Field(ge=0)
    """Epochs without a better score before training stops; 0 never stops early."""
    loader_workers: int = Field(ge=0)
    """Processes that augment; 0 does it in the training process, which suits small images."""
    checkpoint_minutes: float = Field(ge=0)
    """Within an epoch a checkpoint is written when so many minutes have passed; larger writes less and repeats more
    after a kill; 0 writes one after each epoch only."""
    seed: int = Field(ge=0, lt=2**32)


class FinetuneSettings(Settings):
    """params.yaml: finetune. Optimizer, batch and loss are those of `train`."""

    epochs: int = Field(ge=0)
    """0 leaves fine-tuning out."""
    learning_rate: float = Field(gt=0)
    """Of the head; lower than in `train`."""
    unfreeze_parts: int | None = Field(ge=1)
    """The last so many parts learn, head included; null: all."""
    part_decay: float = Field(gt=0, le=1)
    """Rate of a part over that of the next one nearer to the head; 1 gives all the same."""


class TrainingJob(Settings):
    """Everything that training depends on, as one file; folders are the job's own."""

    step: Literal["train", "finetune"]
    data: str
    """Folder of the packed parts."""
    output: str
    """Folder for checkpoints, history and the model; an unfinished job goes on from what is there."""
    start_from: str | None
    """Folder of the model to start from; null builds a new one."""
    preprocess: PreprocessSettings
    augment: AugmentSettings
    model: ModelSettings
    train: TrainSettings
    finetune: FinetuneSettings

    @property
    def epochs(self) -> int:
        return self.train.epochs if self.step == "train" else self.finetune.epochs

    @property
    def learning_rate(self) -> float:
        return self.train.learning_rate if self.step == "train" else self.finetune.learning_rate

    @property
    def part_decay(self) -> float:
        return 1.0 if self.step == "train" else self.finetune.part_decay
