"""The network that a training starts from, new or stored, with the checks that need it."""

import logging
from pathlib import Path

import torch

from components.data.packed.packing import read_dataset
from components.models.architectures import check_image_size
from components.models.classifier import ImageClassifier, load_classifier, new_classifier
from components.models.layer_groups import freeze_backbone, layer_groups, unfreeze_last
from components.shared.errors import SettingsError
from components.task.task import Task
from components.training.progressive_resizing import side_at
from components.training.settings import TrainingJob
from components.training.unfreezing import never_unfrozen_note

logger = logging.getLogger(__name__)


def initial_model(job: TrainingJob) -> ImageClassifier:
    """The network of a job before its first step, with the frozen layer groups of the settings.

    Raises SettingsError where the settings don't fit this network.
    """
    dataset = read_dataset(Path(job.data))
    if job.start_from is not None:
        model = load_classifier(Path(job.start_from))
        _refuse_other_labels(model, dataset.labels, job.section)
    else:
        model, notes = new_classifier(
            job.model, labels=dataset.labels, preprocess=job.preprocess, mean=dataset.mean, std=dataset.std
        )
        for note in notes:
            logger.info(note)
    _refuse_broken_weights(model, job.start_from or job.model.weights)
    _refuse_small_sides(model, job)
    # Reported before `train` starts rather than after it.
    _refuse_missing_groups(model, job)
    if job.step == "train" and job.model.freeze_backbone:
        freeze_backbone(model.net)
    if job.step == "finetune":
        unfreeze_last(model.net, job.finetune.unfreeze_last_n or len(layer_groups(model.net)))
        if left_out := never_unfrozen_note(model.net, job.finetune):
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
        setting = f"train.progressive_resizing: {start:g} starts at" if start < 1 else "train.image_size_px: is"
        remedy = "set it to 1.0, or nearer to it" if start < 1 else "set it to null, or larger"
        raise SettingsError(
            f"params.yaml: {setting} {side} px, which {model.spec.architecture} doesn't take; {remedy}"
        ) from None


def _refuse_missing_groups(model: ImageClassifier, job: TrainingJob) -> None:
    count, existing = job.finetune.unfreeze_last_n or 0, len(layer_groups(model.net))
    if job.finetune.epochs and count > existing:
        raise SettingsError(
            f"params.yaml: finetune.unfreeze_last_n: is {count}, but {model.spec.architecture} has {existing} layer "
            f"groups; give at most {existing}, or null for all"
        )
