"""Cached features: a frozen backbone computes each image's features once, and the head trains on them.

Shapes: N images of a split, B images of a batch, F features, T logits.
"""

import contextlib
import hashlib
import itertools
import logging
import math
import os
from collections import OrderedDict
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file
from torch import Tensor, nn

from components.data.packed.loaders import PackedSplit, evaluation_loader, inference_batch
from components.data.packed.packing import DATASET, INDEX
from components.models.classifier import ImageClassifier
from components.models.features import evaluation_mode, layer_input
from components.models.heads import attention_pool
from components.models.layer_groups import main_head
from components.shared.errors import SettingsError
from components.shared.files import atomic_file, sha256_of_file, sha256_of_record
from components.shared.plural import counted
from components.training.settings import TrainingJob

logger = logging.getLogger(__name__)

FOLDER = "features"
_FEATURES = "features"
_MAX_BYTES = 4 * 2**30
"""Limit for the features of a split: they stay in memory, and some heads take tens of thousands for each image."""
_MAX_CACHE_BYTES = 2 * _MAX_BYTES
"""Limit for the cache on disk; the two splits of one training always fit."""
_TOLERANCE = 1e-4


class HeadOnFeatures(ImageClassifier):
    """The head of a classifier as a model over features; it shares its weights with the classifier."""

    def __init__(self, classifier: ImageClassifier) -> None:
        nn.Module.__init__(self)
        self.spec = classifier.spec
        self.net = nn.Sequential(OrderedDict(head=main_head(classifier.net)))

    def forward(self, features_BF: Tensor) -> Tensor:
        """Features to logits [B, T]."""
        logits_BT: Tensor = self.net(features_BF)
        return logits_BT


@dataclass(frozen=True)
class CachedTraining:
    """A head with the cached features of both splits in place of their images."""

    head: HeadOnFeatures
    train: PackedSplit
    val: PackedSplit


def reason_against(job: TrainingJob, classifier: ImageClassifier, images_BHWC: Tensor) -> str | None:
    """Why these settings and this network rule out cached features; None where they don't."""
    settings = job.train
    head = main_head(classifier.net)
    in_head = {id(value) for value in head.parameters()}
    learning = [name for name, value in classifier.net.named_parameters() if value.requires_grad]
    outside = [
        name
        for name, value in classifier.net.named_parameters()
        if value.requires_grad and id(value) not in in_head and not name.startswith(("aux", "AuxLogits"))
    ]
    pool = attention_pool(classifier.net)
    if pool is not None and outside and all(classifier.net.get_parameter(name) is pool.query for name in outside):
        return "the attention pooling of the backbone's maps is trained too; set model.pooling to average"
    if outside or not learning:
        return "the backbone is trained; set model.freeze_backbone to true"
    if job.augments:
        return "images are augmented in each epoch; set train.augment to false"
    mixing = [name for name in ("mixup", "cutmix", "random_erasing") if getattr(settings, name)]
    if mixing:
        return f"images differ in each epoch; set train.{mixing[0]} to 0"
    if job.teacher is not None:
        return "the teacher needs the images; set train.teacher to null"
    if job.side_px != job.preprocess.image_size_px:
        return "images are smaller in training; set train.image_size_px to null"
    if job.progressive_resizing != 1.0:
        return "the size of the images changes; set train.progressive_resizing to 1.0"
    if job.schedule == "cyclic":
        return "snapshots are whole networks; choose another train.schedule"
    if not _head_gives_logits(classifier, images_BHWC):
        return f"{classifier.spec.architecture} computes more after its head; train with the frozen backbone as it is"
    return None


def use_cached(
    job: TrainingJob,
    classifier: ImageClassifier,
    train: PackedSplit,
    val: PackedSplit,
    *,
    batch_size: int,
    device: torch.device,
) -> CachedTraining | None:
    """Head and features, if `train.cache_features` and the other settings allow it; None otherwise.

    Raises SettingsError where it is on and something rules it out, except that `finetune` unfreezes the backbone.
    """
    if job.train.cache_features == "off" or (job.train.cache_features == "auto" and not job.freezes_backbone):
        return None
    if job.step == "finetune" and not job.freezes_backbone:
        logger.info("finetune caches no features: the backbone is trained there")
        return None
    reason = reason_against(job, classifier, torch.from_numpy(np.array(train.pixels_NHWC[np.arange(2)])))
    if reason is not None:
        if job.train.cache_features == "on":
            raise SettingsError(f"params.yaml: train.cache_features: is on, but {reason}")
        logger.info(f"the frozen backbone computes features in every epoch: {reason}")
        return None
    batch_size = min(batch_size, inference_batch(job.side_px))
    splits = [
        _with_features(split, job, classifier, name, device=device, batch_size=batch_size)
        for name, split in (("train", train), ("val", val))
    ]
    logger.info(f"the head trains on cached features of {counted(len(train) + len(val), 'image')}")
    return CachedTraining(HeadOnFeatures(classifier), *splits)


def _head_gives_logits(classifier: ImageClassifier, images_BHWC: Tensor) -> bool:
    """Whether the head's output are the logits, with no computation after it."""
    head = HeadOnFeatures(classifier)
    features_BF = layer_input(main_head(classifier.net), classifier, images_BHWC)
    with torch.no_grad(), evaluation_mode(classifier):
        alone, whole = head(features_BF), classifier(images_BHWC)
    return alone.shape == whole.shape and bool(torch.allclose(alone, whole, rtol=_TOLERANCE, atol=_TOLERANCE))


def _with_features(
    split: PackedSplit,
    job: TrainingJob,
    classifier: ImageClassifier,
    name: str,
    *,
    device: torch.device,
    batch_size: int,
) -> PackedSplit:
    """The split with features in place of pixels, read from the cache where the same data and weights have them."""
    file = Path(job.output).parent / FOLDER / f"{_key(job, classifier, name)}.safetensors"
    # They take the place of the pixels, in float32.
    features_NF: Any = _read_cache(file)
    if features_NF is None:
        features_NF = _computed(split, classifier, device, batch_size)
        with atomic_file(file) as temporary:
            save_file({_FEATURES: features_NF}, temporary)
        _evict_oldest(file.parent)
    return replace(split, pixels_NHWC=features_NF)


def _read_cache(file: Path) -> NDArray[np.float32] | None:
    try:
        features_NF: NDArray[np.float32] = load_file(file)[_FEATURES]
        os.utime(file)
    except FileNotFoundError:  # not cached, or evicted by another training just now
        return None
    return features_NF


def _evict_oldest(folder: Path) -> None:
    """Removes the least recently used files until the folder is no larger than its limit."""
    # Another training may do the same at the same time.
    with contextlib.suppress(FileNotFoundError):
        files = sorted(folder.glob("*.safetensors"), key=lambda file: file.stat().st_mtime_ns, reverse=True)
        sizes = itertools.accumulate([file.stat().st_size for file in files])
        for file, size in zip(files, sizes, strict=True):
            if size > _MAX_CACHE_BYTES:
                file.unlink()


def _computed(
    split: PackedSplit, classifier: ImageClassifier, device: torch.device, batch_size: int
) -> NDArray[np.float32]:
    head = main_head(classifier.net)
    classifier.to(device)
    blocks = []
    for batch in evaluation_loader(split, batch_size=batch_size):
        block = layer_input(head, classifier, batch.images_BHWC.to(device)).float().cpu().numpy()
        needed = math.prod(block.shape[1:]) * block.itemsize * len(split)
        if needed > _MAX_BYTES:
            raise SettingsError(
                f"params.yaml: train.cache_features: the features of {len(split)} images take {needed / 1e9:.1f} GB "
                f"for the head of {classifier.spec.architecture}; set it to off"
            )
        blocks.append(block)
    classifier.cpu()
    return np.concatenate(blocks)


def _key(job: TrainingJob, classifier: ImageClassifier, split: str) -> str:
    """Fingerprint of all that the features depend on: the images, their augmented copies, and the backbone."""
    data = Path(job.data)
    head = {id(value) for value in main_head(classifier.net).parameters()}
    digest = hashlib.sha256()
    for name, value in (*classifier.net.named_parameters(), *classifier.net.named_buffers()):
        if id(value) not in head:
            digest.update(name.encode() + value.detach().cpu().contiguous().numpy().tobytes())
    return sha256_of_record(
        {
            "split": split,
            "data": [sha256_of_file(data / name) for name in (DATASET, INDEX)],
            "augment": job.augment.model_dump(),
            "preprocess": job.preprocess.model_dump(),
            "network": classifier.spec.model_dump(exclude={"labels"}),
            "weights": digest.hexdigest(),
        }
    )
