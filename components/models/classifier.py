"""The model as it is trained, exported and stored: plain uint8 RGB in, logits out.

Letters: B images, H height, W width, C channels, T logits.
"""

from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from components.data.preprocessing import PreprocessSettings
from components.errors import SettingsError
from components.files import read_json, whole_folder, write_json
from components.labels import LabelSpace
from components.models.architectures import build, check_image_size
from components.models.heads import Pooling, attention_pool, fit_head
from components.models.settings import ModelSettings
from components.models.weights import IMAGENET, LoadedWeights, load_weights
from components.settings import Settings

WEIGHTS = "model.safetensors"
SPEC = "model.json"
IMAGENET_MEAN, IMAGENET_STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]


class ModelSpec(Settings):
    """All that is needed to build the network again and to feed it."""

    architecture: str
    labels: LabelSpace
    preprocess: PreprocessSettings
    mean: list[float]
    """Per channel, in [0, 1]; subtracted inside the network."""
    std: list[float]
    pooling: Pooling = "average"
    dropout: float | None = None

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
            spec.architecture, num_classes=spec.labels.num_logits, image_size_px=spec.preprocess.image_size_px
        )
        fit_head(self.net, spec.architecture, pooling=spec.pooling, dropout=spec.dropout)

    def forward(self, images_BHWC: Tensor) -> Tensor:
        """uint8 RGB to logits [B, T]; in training, GoogLeNet and Inception add auxiliary logits in a tuple."""
        images_BCHW = (images_BHWC.permute(0, 3, 1, 2).float() - self.mean) / self.std
        logits_BT: Tensor = self.net(images_BCHW)
        return logits_BT

    def attention_map(self, images_BHWC: Tensor) -> Tensor:
        """Where the pooling looks, [B, h, w] of the last map; an image's weights sum to 1.

        Raises SettingsError where the model pools by average.
        """
        pool = attention_pool(self.net)
        if pool is None:
            raise SettingsError(
                "this model pools by average and has no map of attention; train with model.pooling: attention"
            )
        seen: list[Tensor] = []
        hook = pool.register_forward_pre_hook(lambda _, inputs: seen.append(pool.weights(inputs[0])))
        try:
            self(images_BHWC)
        finally:
            hook.remove()
        return seen[-1]


def new_classifier(
    settings: ModelSettings,
    *,
    labels: LabelSpace,
    preprocess: PreprocessSettings,
    mean: list[float],
    std: list[float],
) -> tuple[ImageClassifier, LoadedWeights | None]:
    """A network for these labels with the weights that the settings ask for; normalization follows the weights."""
    if settings.weights == IMAGENET:
        mean, std = IMAGENET_MEAN, IMAGENET_STD
    spec = ModelSpec(
        architecture=settings.architecture,
        labels=labels,
        preprocess=preprocess,
        mean=mean,
        std=std,
        pooling=settings.pooling,
        dropout=settings.dropout,
    )
    model = ImageClassifier(spec)
    check_image_size(model.net, settings.architecture, preprocess.image_size_px)
    if settings.weights is None:
        return model, None
    return model, load_weights(model.net, settings.weights, architecture=settings.architecture)


def save_classifier(model: ImageClassifier, folder: Path) -> None:
    """The folder appears whole or not at all."""
    state = {name: value.detach().cpu().contiguous() for name, value in model.net.state_dict().items()}
    with whole_folder(folder) as draft:
        save_file(state, draft / WEIGHTS)
        write_json(draft / SPEC, model.spec.model_dump())


def load_classifier(folder: Path) -> ImageClassifier:
    """The stored model in evaluation mode."""
    model = ImageClassifier(ModelSpec.from_section(SPEC, read_json(folder / SPEC)))
    model.net.load_state_dict(load_file(folder / WEIGHTS))
    return model.eval()
