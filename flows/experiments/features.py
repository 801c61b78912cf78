"""A network without its last layer as a file: for `labels.features` and `split.duplicates.embeddings.model`."""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from components.models.catalogue import IMAGENET
from components.shared.errors import SettingsError
from flows.project.model_names import is_version, parse_version
from flows.project.outputs import Output
from flows.project.params import read_params
from flows.project.project import Project, open_project
from flows.registry.initial_weights import fetch_version
from flows.registry.versions import model_name
from flows.session.session import open_session

if TYPE_CHECKING:
    from components.models.classifier import ImageClassifier

logger = logging.getLogger(__name__)

_MEAN, _STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
"""Of ImageNet, which nearly all published weights come from."""


@dataclass(frozen=True)
class FeaturesFile:
    file: str
    image_size_px: int
    """Side of the images that the network reads."""
    features: int
    """Numbers per image."""


def write_features(
    model: str, *, weights: str | None, image_size_px: int | None, out: Path, overwrite: bool = False
) -> FeaturesFile:
    """`model` is an architecture, with its weights, or a version.

    Raises SettingsError for a name, weights or a size that don't fit.
    """
    from components.data.images.embeddings import embed
    from components.export.onnx_export import export_features

    if out.suffix != ".onnx":
        raise SettingsError(f"--out {out.name}: should end in .onnx")
    output = Output(out, (model, *([weights] if weights is not None else [])), overwrite)
    output.check()
    project = open_project()
    network = _registered(project, model) if is_version(model) else _built(project, model, weights, image_size_px)
    output.check()
    export_features(network, out)
    output.record()
    side = network.spec.preprocess.image_size_px
    width = embed(1, lambda _: _grey(side), model=out, setting="--out").shape[1]
    return FeaturesFile(str(out), image_size_px=side, features=width)


def _registered(project: Project, address: str) -> "ImageClassifier":
    from components.models.classifier import load_classifier

    name, wanted = parse_version(address, own=model_name(project))
    return load_classifier(fetch_version(open_session(), name, wanted).folder)


def _built(project: Project, architecture: str, weights: str | None, image_size_px: int | None) -> "ImageClassifier":
    from components.models.architectures import check_architecture
    from components.models.classifier import new_classifier
    from components.task.single_label import SingleLabel

    if weights is None:
        raise SettingsError(
            f"{architecture}: untrained features say nothing; add --weights imagenet or --weights FILE, or give "
            "models:/NAME@ALIAS"
        )
    params = read_params(project.params)
    check_architecture(architecture)
    settings = {"architecture": architecture, "scenario": None, "compound": None, "weights": weights}
    preprocess = params.preprocess.model_copy(
        update={"image_size_px": image_size_px or params.preprocess.image_size_px}
    )
    network, said = new_classifier(
        params.model.model_copy(update=settings),
        labels=SingleLabel.of([["a"], ["b"]]),
        preprocess=preprocess,
        mean=_MEAN,
        std=_STD,
    )
    for sentence in said if weights == IMAGENET else [f"{weights}: normalized as ImageNet is, unless it names its own"]:
        logger.info(sentence)
    return network


def _grey(side: int) -> Any:
    import numpy as np

    return np.full((side, side, 3), 128, np.uint8)
