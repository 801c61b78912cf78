"""The sections `train` and `finetune` of params.yaml, and the training job made of them."""

from typing import Annotated, Any, Final, Literal

from pydantic import Field, PlainValidator

from components.data.augmentation.augmenter import AugmentSettings
from components.data.images.preprocessing import PreprocessSettings
from components.models.settings import ModelSettings
from components.shared.settings import Settings
from components.training.schedules import Schedule

RANGE_TEST: Final = "range_test"
"""Value of train.learning_rate that has a range test find it."""


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _rate(value: Any) -> Any:
    if value == RANGE_TEST or (_is_number(value) and 0 < value < float("inf")):
        return value
    raise ValueError("range_test or a number above 0")


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


Rate = Annotated[float | Literal["range_test"], PlainValidator(_rate)]
ClassWeights = Annotated[Literal["none", "auto"] | dict[str, float], PlainValidator(_class_weights)]
Devices = Annotated[int | Literal["auto"], PlainValidator(_devices)]
Choice = Literal["auto", "on", "off"]


class TrainSettings(Settings):
    """params.yaml: train."""

    epochs: int = Field(ge=1)
    """Passes over the train split; more learns more, until it overfits."""
    batch_size: int = Field(ge=2)
    """Images a step; larger is faster and needs more memory."""
    learning_rate: Rate
    """Peak of the schedule; larger learns faster, until it diverges; range_test: found before training."""
    scale_learning_rate_with_batch: bool
    """true: the learning rates of `train` and `finetune` are for a batch of 256 images and scale with the batch.

    Goyal et al. 2017. A rate that a range test found stays as it is.
    """
    optimizer: Literal["adamw", "adam", "sgd"]
    """adamw | adam | sgd (momentum 0.9)."""
    weight_decay: float = Field(ge=0)
    """Pull of weights, except of norms and biases, towards zero; larger overfits less."""
    schedule: Schedule
    """cosine | step | plateau | one_cycle | cyclic (stores a snapshot a cycle) | constant: rate after the warm-up.

    cosine: to zero; step: a tenth after each third; plateau: a tenth when validation stalls; one_cycle: up and down;
    cyclic: repeated cosines.
    """
    warmup_epochs: float = Field(ge=0)
    """Epochs in which the rate rises to its peak, at most half of a training; one_cycle has its own warm-up."""
    plateau_patience: int = Field(ge=1)
    """With `schedule: plateau`: epochs without a lower validation loss before the rate falls."""
    cycles: int = Field(ge=2)
    """With `schedule: cyclic`: cosines, and so snapshots, over the whole of `train`; `finetune` follows one cosine."""
    loss: Literal["cross_entropy", "focal", "binary_cross_entropy"]
    """cross_entropy | focal (easy images count less) | binary_cross_entropy (each class against the rest).

    Multi-label targets get the binary form of the first two.
    """
    focal_gamma: float = Field(ge=0)
    """With `loss: focal`: larger gives easy images less weight; 0 is cross-entropy."""
    label_smoothing: float = Field(ge=0, lt=1)
    """Fraction of the target spread over all classes; larger makes less confident models."""
    teacher: str | None
    """null | models:/NAME@champion: a registered model of the same labels whose predictions are learned too."""
    teacher_temperature: float = Field(gt=0)
    """Softens both predictions; larger shows more of the wrong classes."""
    teacher_weight: float = Field(ge=0, le=1)
    """Weight of the teacher in the loss, beside the labels; larger follows the teacher more."""
    class_weights: ClassWeights
    """none | auto (classes have equal weight in the loss) | {name: weight}, 1 where a class isn't named.

    auto: however many images a class has. Multi-label: the weight of images that have the label.
    """
    sampling: Literal["uniform", "balanced"]
    """uniform (each image once an epoch) | balanced (sampled so that classes come equally often)."""
    image_size_px: int | None = Field(ge=8)
    """Side of the images in `train` and its validation; larger sees more, costs its square; null: the full size.

    `finetune` uses the full size, at which the network is deployed (Touvron et al. 2019).
    """
    augment: bool
    """true: original images are augmented in each epoch; false: only the copies of the augment stage are."""
    mixup: float = Field(ge=0)
    """Alpha of the blend of image pairs; larger blends more evenly; 0 blends none."""
    cutmix: float = Field(ge=0)
    """Alpha of the windows pasted from one image into another; larger pastes medium windows more often; 0: none."""
    random_erasing: float = Field(ge=0, le=1)
    """Fraction of the images with a rectangle of noise; larger overfits less."""
    progressive_resizing: float = Field(gt=0, le=1)
    """In `train` alone: side of the first epochs' images over the full one; smaller is faster; 1: always full.

    The full size is reached after two thirds of the epochs.
    """
    monitor: Literal["loss", "accuracy", "macro_f1"]
    """loss | accuracy | macro_f1: the validation score that chooses the best checkpoint."""
    patience: int = Field(ge=0)
    """Epochs without a better score before training stops; 0 never stops early."""
    ema_decay: float = Field(ge=0, lt=1)
    """Decay of a moving average of the weights, stored in their place; larger averages over more steps; 0: none.

    The average is exponential, and it is what is validated.
    """
    model_soup_size: int = Field(ge=0)
    """Number of best checkpoints to average as long as validation improves; 0: the best one alone."""
    gradient_accumulation_steps: int = Field(ge=1)
    """Batches whose gradients are accumulated for one step; larger acts like a larger batch, without its memory."""
    gradient_clip_norm: float = Field(ge=0)
    """Largest gradient norm; larger gradients are scaled down to it; smaller is steadier and slower; 0: no clipping."""
    cache_features: Choice
    """auto | on | off: the features of a frozen backbone are computed once for each image and cached.

    auto: where only the head is trained and images don't differ from epoch to epoch.
    """
    activation_checkpointing: bool
    """true: activations are computed again in the backward pass, for about a third more time and far less memory."""
    precision: Literal["auto", "fp32", "bf16", "fp16"]
    """auto (measured where training is long enough for it to pay) | fp32 | bf16 | fp16: floating-point precision."""
    channels_last: Choice
    """auto (measured likewise) | on | off: channels-last memory layout of the network."""
    compile: Choice
    """auto (measured likewise, on a GPU) | on | off: torch.compile."""
    cache_on_gpu: Choice
    """auto (unaugmented, on a GPU with room) | on | off: training images stay in GPU memory, shifted and flipped there.

    Random shifts by up to an eighth and flips replace `augment.policy: basic`. auto: on a GPU with room for the images,
    where they aren't augmented in each epoch.
    """
    devices: Devices
    """auto (one, or what torchrun started) | number of GPUs or processes of this machine."""
    halve_batch_on_oom: bool
    """true: a batch that doesn't fit into memory is halved, and twice as many are accumulated for a step."""
    time_limit_minutes: float = Field(ge=0)
    """Minutes after which training stops, with the best model until then; 0: no limit."""
    loader_workers: int = Field(ge=0)
    """Processes that load and augment; 0 does it in the training process, which suits small images."""
    checkpoint_minutes: float = Field(ge=0)
    """Minutes between checkpoints within an epoch; larger repeats more after a kill; 0: after each epoch only."""
    seed: int = Field(ge=0, lt=2**32)
    """Another seed starts from other weights."""


class FinetuneSettings(Settings):
    """params.yaml: finetune. All else is as in `train`, but images have their full size and no snapshots are stored."""

    epochs: int = Field(ge=0)
    """Number of epochs; 0 skips fine-tuning."""
    learning_rate: float = Field(gt=0)
    """Learning rate of the head; lower than in `train`."""
    unfreeze_last_n: int | None = Field(ge=1)
    """Number of last layer groups to train, head included; null: all."""
    layer_decay: float = Field(gt=0, le=1)
    """Ratio of a layer group's learning rate to that of the next one towards the head; 1: the same for all."""
    unfreeze_every_n_epochs: int = Field(ge=0)
    """Epochs after which one more layer group is unfrozen, the head first; larger is later; 0: all at once."""
    augment: bool | None = None
    """true: original images are augmented in each epoch; false: they aren't; null: as in `train`."""
    freeze_batch_norm: bool
    """true: batch norms keep the statistics of `train`, which suits small batches and few images."""


class QatSettings(Settings):
    """params.yaml: quantize.qat. All else is as in `train`."""

    epochs: int = Field(ge=0)
    """Number of epochs; 0 skips quantization-aware training."""
    learning_rate: float = Field(gt=0)
    """Peak of a cosine to zero; lower than in `finetune`."""


class FakeQuantization(Settings):
    """The rounding of an int8 file that QAT simulates."""

    activations: Literal["unsigned", "signed", "dynamic"]
    """dynamic: matrix products alone, with the range of each input."""
    weight_bits: Literal[7, 8]
    calibration_images: int
    """Number of images of the train split that fix the ranges of the activations."""


class TrainingJob(Settings):
    """All inputs and settings of a training, as one file."""

    step: Literal["train", "finetune", "qat"]
    data: str
    """Folder of the packed splits."""
    output: str
    """Folder for checkpoints, history and the model; an unfinished job resumes from it."""
    decoded: str | None = None
    """File of decoded training images, common to several jobs; null: one of the job's own."""
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
    rounding: FakeQuantization | None = None
    """The rounding that the step `qat` simulates."""

    @property
    def step_settings(self) -> TrainSettings | FinetuneSettings | QatSettings:
        """Settings of the job's own step."""
        if self.step == "qat":
            assert self.qat is not None
            return self.qat
        return self.train if self.step == "train" else self.finetune

    @property
    def section(self) -> str:
        """Section of params.yaml that holds the step's settings."""
        return "quantize.qat" if self.step == "qat" else self.step

    @property
    def epochs(self) -> int:
        return self.step_settings.epochs

    @property
    def learning_rate(self) -> Rate:
        return self.step_settings.learning_rate

    @property
    def side_px(self) -> int:
        """Side of the images in training and validation."""
        full = self.preprocess.image_size_px
        return self.train.image_size_px or full if self.step == "train" else full

    @property
    def progressive_resizing(self) -> float:
        """Ratio of the first epochs' image side to that of the last ones."""
        return self.train.progressive_resizing if self.step == "train" else 1.0

    @property
    def schedule(self) -> Schedule:
        """The learning-rate schedule; steps after `train` follow one cosine in place of cycles."""
        return "cosine" if self.train.schedule == "cyclic" and self.step != "train" else self.train.schedule

    @property
    def freezes_backbone(self) -> bool:
        """Whether only the head is trained."""
        if self.step == "finetune":
            return self.finetune.unfreeze_last_n == 1
        return self.step == "train" and self.model.freeze_backbone

    @property
    def augments(self) -> bool:
        """Whether images are augmented in each epoch."""
        own = self.finetune.augment if self.step == "finetune" else None
        return (self.train.augment if own is None else own) and self.augment.policy != "none"

    @property
    def freezes_statistics(self) -> bool:
        return self.step == "finetune" and self.finetune.freeze_batch_norm

    @property
    def layer_decay(self) -> float:
        return self.finetune.layer_decay if self.step == "finetune" else 1.0
