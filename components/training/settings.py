"""How a model learns: the sections `train` and `finetune` of params.yaml, and the job made of them."""

from typing import Annotated, Any, Literal

from pydantic import Field, PlainValidator

from components.data.augmentation.augmenter import AugmentSettings
from components.data.images.preprocessing import PreprocessSettings
from components.models.settings import ModelSettings
from components.shared.settings import Settings
from components.training.schedules import Schedule


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _rate(value: Any) -> Any:
    if value == "auto" or (_is_number(value) and 0 < value < float("inf")):
        return value
    raise ValueError("auto or a number above 0")


def _class_weights(value: Any) -> Any:
    if value in ("none", "auto"):
        return value
    if isinstance(value, dict) and all(
        isinstance(name, str | int) and _is_number(weight) and 0 <= weight < float("inf")
        for name, weight in value.items()
    ):
        # YAML reads a class such as 3 as a number.
        return {str(name): float(weight) for name, weight in value.items()}
    raise ValueError("none, auto or weights by class, such as {cat: 2.0, dog: 1.0}")


def _devices(value: Any) -> Any:
    if value == "auto" or (isinstance(value, int) and not isinstance(value, bool) and value >= 1):
        return value
    raise ValueError("auto or a number of devices from 1 on")


Rate = Annotated[float | Literal["auto"], PlainValidator(_rate)]
ClassWeights = Annotated[Literal["none", "auto"] | dict[str, float], PlainValidator(_class_weights)]
Devices = Annotated[int | Literal["auto"], PlainValidator(_devices)]
Choice = Literal["auto", "on", "off"]


class TrainSettings(Settings):
    """params.yaml: train."""

    epochs: int = Field(ge=1)
    """Passes over the training split; more learns more, until it overfits."""
    batch_size: int = Field(ge=2)
    """Images a step; larger is faster and needs more memory."""
    learning_rate: Rate
    """At its peak; larger learns faster, until it diverges; auto: a range test finds it before training."""
    scale_learning_rate_with_batch: bool
    """true: learning_rate, that of `finetune` too, is for 256 images a step, and grows in line with them (Goyal et al.
    2017); one that a range test found stays as it is."""
    optimizer: Literal["adamw", "adam", "sgd"]
    weight_decay: float = Field(ge=0)
    """Pull of weights towards zero; larger overfits less. Norms and biases have none."""
    schedule: Schedule
    """What the rate does after its climb: cosine (to zero), step (a tenth after each third), plateau (a tenth when
    validation stalls), one_cycle (up and down), cyclic (cosines begun anew, a snapshot after each), constant."""
    warmup_epochs: float = Field(ge=0)
    """Epochs in which the rate climbs to its peak; half of a training at most; one_cycle climbs by itself."""
    plateau_patience: int = Field(ge=1)
    """With `schedule: plateau`: epochs without a lower validation loss before the rate falls."""
    cycles: int = Field(ge=2)
    """With `schedule: cyclic`: cosines, and so snapshots, over the whole of `train`; `finetune` follows one cosine."""
    loss: Literal["cross_entropy", "focal", "binary_cross_entropy"]
    """cross_entropy; focal: easy images count less; binary_cross_entropy: each class against the rest. Sets of labels
    have the binary form of the first two."""
    focal_gamma: float = Field(ge=0)
    """With `loss: focal`: larger makes easy images count less; 0 is cross-entropy."""
    label_smoothing: float = Field(ge=0, lt=1)
    """Share of the target spread over all classes; larger makes less confident models."""
    teacher: str | None
    """A registered model of the same labels, such as models:/NAME@champion, whose answers are learned too; null: none.
    """
    teacher_temperature: float = Field(gt=0)
    """Softens both answers; larger tells more of the wrong classes."""
    teacher_weight: float = Field(ge=0, le=1)
    """Of the loss that is the teacher's; the rest is the labels'; larger follows the teacher more."""
    class_weights: ClassWeights
    """none; auto: each class weighs as much in the loss, however many images it has; or a weight by class, 1 where a
    class is not named. Of sets of labels it weighs the images that carry the label."""
    sampling: Literal["uniform", "balanced"]
    """uniform: each image once an epoch; balanced: drawn so that classes come equally often."""
    image_size_px: int | None = Field(ge=8)
    """Side of the images that `train` learns from and is validated on; `finetune` sees the full one, for the network is
    tuned at the size that it is used at (Touvron et al. 2019); larger sees more, costs its square; null: the full one.
    """
    augment: bool
    """true: originals are augmented anew each epoch; false: only the stage's copies are."""
    mixup: float = Field(ge=0)
    """Alpha of the blend of image pairs; larger blends more evenly; 0 blends none."""
    cutmix: float = Field(ge=0)
    """Alpha of the windows pasted from one image into another; larger pastes middling windows more often; 0: none."""
    random_erasing: float = Field(ge=0, le=1)
    """Share of the images with a rectangle of noise; larger overfits less."""
    progressive_resizing: float = Field(gt=0, le=1)
    """In `train` alone: side of the first epochs' images over the full one, reached after two thirds of the epochs;
    smaller is faster; 1: the full size from the start."""
    monitor: Literal["loss", "accuracy", "macro_f1"]
    """The validation score by which the best checkpoint is kept."""
    patience: int = Field(ge=0)
    """Epochs without a better score before training stops; 0 never stops early."""
    ema_decay: float = Field(ge=0, lt=1)
    """Of a moving average of the weights, which is validated and kept in their place; larger averages over more steps;
    0: none."""
    model_soup_size: int = Field(ge=0)
    """As many best checkpoints are averaged as long as validation gains; 0: the best one alone."""
    gradient_accumulation_steps: int = Field(ge=1)
    """Batches whose gradients are gathered for one step; larger acts like a larger batch, without its memory."""
    gradient_clip_norm: float = Field(ge=0)
    """Longest gradient; a longer one is shortened to it; smaller is steadier and slower; 0: as they come."""
    cache_features: Choice
    """Where only the head learns: the frozen backbone's features of each image are worked out once and kept; auto:
    where nothing is drawn anew each epoch."""
    activation_checkpointing: bool
    """true: activations are worked out again in the backward pass, for about a third more time and far less memory."""
    precision: Literal["auto", "fp32", "bf16", "fp16"]
    """Of the arithmetic; auto: measured on this machine where training is long enough to pay for it."""
    channels_last: Choice
    """Memory layout of the network; auto: measured likewise."""
    compile: Choice
    """torch.compile; auto: measured likewise, on a GPU."""
    cache_on_gpu: Choice
    """on: the training images stay in the device's memory, and moves by an eighth and flips are drawn there in place of
    what `augment.policy: basic` draws; auto: on a GPU that they fit into, where nothing is drawn anew."""
    devices: Devices
    """GPUs or processes of this machine; auto: one, or what torchrun started."""
    halve_batch_on_oom: bool
    """true: a batch that doesn't fit the memory is halved, and twice as many are gathered a step."""
    time_limit_minutes: float = Field(ge=0)
    """Training stops after so many, with the best model until then; 0: no limit."""
    loader_workers: int = Field(ge=0)
    """Processes that augment; 0 does it in the training process, which suits small images."""
    checkpoint_minutes: float = Field(ge=0)
    """Within an epoch a checkpoint is written when so many minutes have passed; larger writes less and repeats more
    after a kill; 0 writes one after each epoch only."""
    seed: int = Field(ge=0, lt=2**32)


class FinetuneSettings(Settings):
    """params.yaml: finetune. All else is as in `train`, but images have their full size and no cycles are kept."""

    epochs: int = Field(ge=0)
    """0 leaves fine-tuning out."""
    learning_rate: float = Field(gt=0)
    """Of the head; lower than in `train`."""
    unfreeze_last_n: int | None = Field(ge=1)
    """The last so many splits learn, head included; null: all."""
    layer_decay: float = Field(gt=0, le=1)
    """Rate of a split over that of the next one nearer to the head; 1 gives all the same."""
    unfreeze_every_n_epochs: int = Field(ge=0)
    """Epochs after which one more part learns, the head first; larger unfreezes later; 0: all from the start."""
    freeze_batch_norm: bool
    """true: batch norms keep the statistics of `train`, which suits small batches and few images."""


class QatSettings(Settings):
    """params.yaml: quantize.qat. All else is as in `train`."""

    epochs: int = Field(ge=0)
    """0 leaves quantization-aware fine-tuning out."""
    learning_rate: float = Field(gt=0)
    """Falls to zero; lower than in `finetune`."""


class Rounding(Settings):
    """The rounding of an int8 file."""

    activations: Literal["unsigned", "signed", "dynamic"]
    """dynamic: matrix products alone, in ranges that are taken anew from each input."""
    weight_bits: Literal[7, 8]
    calibration_images: int
    """Of the training split, which fix the ranges of the activations."""


class TrainingJob(Settings):
    """Everything that training depends on, as one file; folders are the job's own."""

    step: Literal["train", "finetune", "qat"]
    data: str
    """Folder of the packed splits."""
    output: str
    """Folder for checkpoints, history and the model; an unfinished job goes on from what is there."""
    decoded: str | None = None
    """File that keeps decoded training images for all who hold it; null: one of the job's own."""
    start_from: str | None
    """Folder of the model to start from; null builds a new one."""
    teacher: str | None = None
    """Folder of the model behind train.teacher."""
    preprocess: PreprocessSettings
    augment: AugmentSettings
    model: ModelSettings
    train: TrainSettings
    finetune: FinetuneSettings
    qat: QatSettings | None = None
    rounding: Rounding | None = None
    """What the step `qat` learns to bear."""

    @property
    def own(self) -> TrainSettings | FinetuneSettings | QatSettings:
        """The settings of the step itself."""
        if self.step == "qat":
            assert self.qat is not None
            return self.qat
        return self.train if self.step == "train" else self.finetune

    @property
    def section(self) -> str:
        """Where they stand in params.yaml."""
        return "quantize.qat" if self.step == "qat" else self.step

    @property
    def epochs(self) -> int:
        return self.own.epochs

    @property
    def learning_rate(self) -> Rate:
        return self.own.learning_rate

    @property
    def side_px(self) -> int:
        """Of the images that it learns from and is validated on."""
        full = self.preprocess.image_size_px
        return self.train.image_size_px or full if self.step == "train" else full

    @property
    def progressive_resizing(self) -> float:
        """Side of the first epochs' images over that of the last ones."""
        return self.train.progressive_resizing if self.step == "train" else 1.0

    @property
    def schedule(self) -> Schedule:
        """Snapshots are of a whole training: what goes on with its model follows one cosine."""
        return "cosine" if self.train.schedule == "cyclic" and self.step != "train" else self.train.schedule

    @property
    def freezes_backbone(self) -> bool:
        """Whether the head alone learns."""
        if self.step == "finetune":
            return self.finetune.unfreeze_last_n == 1
        return self.step == "train" and self.model.freeze_backbone

    @property
    def draws(self) -> bool:
        """Whether images are augmented anew each epoch."""
        return self.train.augment and self.augment.policy != "none"

    @property
    def freezes_statistics(self) -> bool:
        return self.step == "finetune" and self.finetune.freeze_batch_norm

    @property
    def layer_decay(self) -> float:
        return self.finetune.layer_decay if self.step == "finetune" else 1.0
