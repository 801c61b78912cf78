"""What a training starts from: a new or a stored network, with the checks that need it."""

import logging
from pathlib import Path

import torch

from components.data.packed.packing import read_dataset
from components.models.architectures import check_image_size
from components.models.classifier import ImageClassifier, load_classifier, new_classifier
from components.models.layer_groups import freeze_backbone, parts, unfreeze_last
from components.shared.errors import SettingsError
from components.task.task import Task
from components.training.progressive_resizing import side_at
from components.training.settings import TrainingJob
from components.training.unfreezing import parts_left_out

logger = logging.getLogger(__name__)


def initial_model(job: TrainingJob) -> ImageClassifier:
    """The network of a job before its first step, with what is not to learn frozen.

    Raises SettingsError where the settings ask for what this network doesn't have or take.
    """
    dataset = read_dataset(Path(job.data))
    if job.start_from is not None:
        model = load_classifier(Path(job.start_from))
        _refuse_other_labels(model, dataset.labels, job.section)
    else:
        model, said = new_classifier(
            job.model, labels=dataset.labels, preprocess=job.preprocess, mean=dataset.mean, std=dataset.std
        )
        for sentence in said:
            logger.info(sentence)
    _refuse_broken_weights(model, job.start_from or job.model.weights)
    _refuse_small_sides(model, job)
    # Told before `train` begins, rather than after it.
    _refuse_missing_parts(model, job)
    if job.step == "train" and job.model.freeze_backbone:
        freeze_backbone(model.net)
    if job.step == "finetune":
        _unfreeze(model, job)
        left_out = parts_left_out(model.net, job.finetune)
        if left_out is not None:
            logger.info(left_out)
    return model


def _refuse_other_labels(model: ImageClassifier, labels: Task, section: str) -> None:
    if model.spec.labels != labels:
        raise SettingsError(
            f"{section} continues a model that {model.spec.labels.difference_from(labels)}; train on these images first"
        )


def _refuse_broken_weights(model: ImageClassifier, source: str | None) -> None:
    broken = [name for name, value in model.net.state_dict().items() if not torch.isfinite(value).all()]
    if broken:
        raise SettingsError(
            f"params.yaml: model.weights: {source} holds numbers that aren't finite in {', '.join(broken[:4])}; "
            "use weights from before the training diverged"
        )


def _refuse_small_sides(model: ImageClassifier, job: TrainingJob) -> None:
    start, full_px = job.progressive_resizing, job.preprocess.image_size_px
    if job.side_px > full_px:
        raise SettingsError(
            f"params.yaml: train.image_size_px: is {job.side_px}, should be at most "
            f"preprocess.image_size_px ({full_px})"
        )
    side = side_at(0, epochs=job.epochs, full_px=job.side_px, start=start)
    if side == full_px:
        return
    try:
        check_image_size(model.net, model.spec.architecture, side)
    except SettingsError:
        found = f"train.progressive_resizing: {start:g} begins with" if start < 1 else "train.image_size_px: is"
        remedy = "set it to 1.0, or nearer to it" if start < 1 else "set it to null, or larger"
        raise SettingsError(
            f"params.yaml: {found} {side} px, which {model.spec.architecture} doesn't take; {remedy}"
        ) from None


def _refuse_missing_parts(model: ImageClassifier, job: TrainingJob) -> None:
    count, existing = job.finetune.unfreeze_last_n or 0, len(parts(model.net))
    if job.finetune.epochs and count > existing:
        raise SettingsError(
            f"params.yaml: finetune.unfreeze_last_n: is {count}, but {model.spec.architecture} has {existing} parts; "
            f"give at most {existing}, or null for all"
        )


def _unfreeze(model: ImageClassifier, job: TrainingJob) -> None:
    existing = len(parts(model.net))
    count = job.finetune.unfreeze_last_n or existing
    unfreeze_last(model.net, count)
    if count == existing:
        model.net.requires_grad_(True)
