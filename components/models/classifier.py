"""The model as it is trained, exported and stored: plain uint8 RGB in, logits out.

Shapes: B images, H height, W width, C channels, T logits.
"""

from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from components.data.images.preprocessing import PreprocessSettings
from components.models.architectures import build, build_on_meta, check_image_size
from components.models.catalogue import COMPOUND, IMAGENET
from components.models.compound_scaling import compound_scale
from components.models.heads import Pooling, attention_pool, configure_head
from components.models.settings import ModelSettings
from components.models.stems import Stem, describe_stem, stem_for
from components.models.weights import backbone_fits, load_weights, pretrained_weights, read_weights
from components.shared.errors import SettingsError
from components.shared.files import atomic_folder, read_json, write_json
from components.shared.settings import Settings
from components.task.task import Task
from components.task.task_types import AnyTask

WEIGHTS = "model.safetensors"
SPEC = "model.json"


class ModelSpec(Settings):
    """All that is needed to build the network again and to feed it."""

    architecture: str
    labels: AnyTask
    preprocess: PreprocessSettings
    mean: list[float]
    """Per channel, in [0, 1]; subtracted inside the network."""
    std: list[float]
    pooling: Pooling = "average"
    dropout: float | None = None
    stem: Stem | None = None
    """None: the one that suits the size of the images."""
    compound: float | None = None
    """Depth and width of the architecture `efficientnet`; None for all others."""

    @property
    def classes(self) -> list[str]:
        return self.labels.classes


class ImageClassifier(nn.Module):
    """Normalization and network in one, so that no consumer can forget the first."""

    mean: Tensor
    std: Tensor

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__()
        self.spec = spec
        self.register_buffer("mean", 255 * torch.tensor(spec.mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", 255 * torch.tensor(spec.std).view(1, 3, 1, 1), persistent=False)
        self.net = build(
            spec.architecture,
            num_classes=spec.labels.num_logits,
            image_size_px=spec.preprocess.image_size_px,
            stem=spec.stem,
            compound=spec.compound,
            dropout=spec.dropout,
        )
        configure_head(self.net, spec.architecture, pooling=spec.pooling, dropout=spec.dropout)

    def forward(self, images_BHWC: Tensor) -> Tensor:
        """uint8 RGB to logits [B, T]; in training, GoogLeNet and Inception add auxiliary logits in a tuple."""
        images_BCHW = self.normalized(images_BHWC)
        if torch.compiler.is_exporting():
            # Else each pooling is exported as a mean and a copy that restores its layout, which ONNX knows nothing of.
            images_BCHW = images_BCHW.contiguous()
        logits_BT: Tensor = self.net(images_BCHW)
        return logits_BT

    def normalized(self, images_BHWC: Tensor) -> Tensor:
        """uint8 RGB to what the network itself takes, [B, C, H, W]."""
        return (images_BHWC.permute(0, 3, 1, 2).float() - self.mean) / self.std

    def attention_map(self, images_BHWC: Tensor) -> Tensor:
        """The weights of the attention pooling, [B, h, w] over the last map; those of an image sum to 1.

        Raises SettingsError where the model pools by average.
        """
        pool = attention_pool(self.net)
        if pool is None:
            raise SettingsError(
                "this model pools by average and has no map of attention; train with model.pooling: attention"
            )
        weights: list[Tensor] = []
        hook = pool.register_forward_pre_hook(lambda _, inputs: weights.append(pool.weights(inputs[0])))
        try:
            self(images_BHWC)
        finally:
            hook.remove()
        return weights[-1]


def new_classifier(
    settings: ModelSettings,
    *,
    labels: Task,
    preprocess: PreprocessSettings,
    mean: list[float],
    std: list[float],
) -> tuple[ImageClassifier, list[str]]:
    """A network for these labels with the weights that the settings name, and notes for the log.

    Normalization and stem are those of the weights.
    """
    side = preprocess.image_size_px
    initial = _initial_weights(settings, side)
    spec = ModelSpec(
        architecture=settings.architecture,
        labels=labels,
        preprocess=preprocess,
        mean=initial.mean or mean,
        std=initial.std or std,
        stem=initial.stem,
        compound=settings.compound,
        pooling=settings.pooling,
        dropout=settings.dropout,
    )
    model = ImageClassifier(spec)
    check_image_size(model.net, settings.architecture, side)
    notes = [describe_stem(settings.architecture, initial.stem, side), _compound_note(settings, side), initial.note]
    if initial.state is not None and settings.weights is not None:
        # Heads of other labels may have the same shape.
        different = initial.labels.difference_from(labels) if initial.labels not in (None, labels) else None
        named = {"source": settings.weights, "architecture": settings.architecture}
        notes.append(str(load_weights(model.net, initial.state, **named, other_labels=different)))
    return model, [note for note in notes if note]


@dataclass(frozen=True)
class _InitialWeights:
    """The weights that a new network starts from, and what goes with them."""

    stem: Stem
    state: dict[str, Tensor] | None = None
    mean: list[float] | None = None
    """Channel means of the images that the weights were trained on; None: those of the current data."""
    std: list[float] | None = None
    labels: Task | None = None
    """The labels that the weights were trained for; None where they aren't known."""
    note: str | None = None


def _initial_weights(settings: ModelSettings, side: int) -> _InitialWeights:
    name = settings.architecture
    if settings.weights is None:
        return _InitialWeights(stem_for(name, side))
    if settings.weights == IMAGENET:
        pretrained = pretrained_weights(name)
        stem = stem_for(name, side, with_weights=True)
        return _InitialWeights(stem, pretrained.state, pretrained.mean, pretrained.std, note=pretrained.note)
    state = read_weights(Path(settings.weights))
    spec = Path(settings.weights).with_name(SPEC)
    if not spec.is_file():
        note = f"{settings.weights} has no record of its normalization: that of the current images is used"
        return _InitialWeights(_fitting_stem(settings, state, side), state, note=note)
    source = ModelSpec.from_section(SPEC, read_json(spec))
    if (source.architecture, source.compound) != (name, settings.compound):
        raise SettingsError(
            f"params.yaml: model.weights: {settings.weights} holds "
            f"{_display_name(source.architecture, source.compound)}, not {_display_name(name, settings.compound)}; "
            "set model.architecture to it or use other weights"
        )
    stem = source.stem or stem_for(name, source.preprocess.image_size_px)
    stem = stem_for(name, side, with_weights=True) if stem == "own" else stem
    return _InitialWeights(stem, state, source.mean, source.std, source.labels)


def _fitting_stem(settings: ModelSettings, state: dict[str, Tensor], side: int) -> Stem:
    """The stem that weights of unknown origin were trained with: the small one has another first convolution."""
    name = settings.architecture
    candidates: list[Stem] = [stem_for(name, side), stem_for(name, side, with_weights=True), "small"]
    for stem in dict.fromkeys(candidates):
        shadow = build_on_meta(name, num_classes=2, image_size_px=side, stem=stem, compound=settings.compound)
        if backbone_fits(shadow, state):
            return stem
    return stem_for(name, side, with_weights=True)


def _compound_note(settings: ModelSettings, side: int) -> str | None:
    if settings.architecture != COMPOUND:
        return None
    scale = compound_scale(settings.compound or 0.0)
    note = f"efficientnet with depth ×{scale.depth:.2f} and width ×{scale.width:.2f}"
    if scale.image_size_px == side:
        return note
    return f"{note}; {scale.image_size_px} px go with it, and preprocess.image_size_px is {side} (auto follows it)"


def _display_name(architecture: str, compound: float | None) -> str:
    return architecture if compound is None else f"{architecture} of compound {compound:g}"


def save_classifier(model: ImageClassifier, folder: Path) -> None:
    """Writes the folder whole or not at all."""
    state = {name: value.detach().cpu().contiguous() for name, value in model.net.state_dict().items()}
    with atomic_folder(folder) as temporary:
        save_file(state, temporary / WEIGHTS)
        write_json(temporary / SPEC, model.spec.model_dump())


def load_classifier(folder: Path) -> ImageClassifier:
    """The stored model in evaluation mode."""
    model = ImageClassifier(ModelSpec.from_section(SPEC, read_json(folder / SPEC)))
    model.net.load_state_dict(load_file(folder / WEIGHTS))
    return model.eval()
