"""Several classifiers as one: its probabilities are the mean of its members', in one network and so in one file.

Letters: B images, H height, W width, C channels, T logits, M members.
"""

import math
import shutil
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from components.models.classifier import WEIGHTS, ImageClassifier, load_classifier
from components.shared.errors import SettingsError
from components.shared.files import atomic_folder
from components.task.task import Task


class Ensemble(ImageClassifier):
    """Takes the images that each member takes, normalizes them as each member does, and answers with one set of logits.

    Of its `spec` the labels and the preprocessing count, which are the same in all; what else stands there is the
    first member's.
    """

    def __init__(self, members: Sequence[ImageClassifier]) -> None:
        nn.Module.__init__(self)
        _refuse_ood(members)
        names = ", ".join(member.spec.architecture for member in members)
        self.spec = members[0].spec.model_copy(update={"architecture": f"ensemble of {names}"})
        self.net = nn.ModuleList(members)

    @property
    def members(self) -> list[ImageClassifier]:
        return [member for member in self.net.children() if isinstance(member, ImageClassifier)]

    def forward(self, images_BHWC: Tensor) -> Tensor:
        """Logits [B, T] whose softmax, or sigmoid for sets of labels, is the mean of the members' probabilities."""
        logits_MBT = torch.stack([member(images_BHWC) for member in self.members])
        return mean_logits(logits_MBT, self.spec.labels)


def mean_logits(logits_MBT: Tensor, task: Task) -> Tensor:
    """Of a hierarchy the probabilities of each level are averaged.

    The energy of the logits, by which images unlike the training data are told, is the mean of the members'.
    """
    heads = task.over_heads(
        softmax=lambda head: _mean_of_classes(logits_MBT[..., head]),
        sigmoid=lambda head: _mean_of_labels(logits_MBT[..., head]),
    )
    return torch.cat(heads, dim=-1)


def _mean_of_classes(logits_MBK: Tensor) -> Tensor:
    log_mean_BK = torch.logsumexp(logits_MBK.log_softmax(dim=-1), dim=0) - math.log(len(logits_MBK))
    # A constant that a softmax doesn't see: without it each image would have an energy of 0.
    return log_mean_BK + torch.logsumexp(logits_MBK, dim=-1, keepdim=True).mean(dim=0)


def _mean_of_labels(logits_MBK: Tensor) -> Tensor:
    """The logit of the mean probability, without ever forming a probability of exactly 0 or 1."""
    log_yes_BK = torch.logsumexp(nn.functional.logsigmoid(logits_MBK), dim=0)
    log_no_BK = torch.logsumexp(nn.functional.logsigmoid(-logits_MBK), dim=0)
    return log_yes_BK - log_no_BK


def save_ensemble(folders: Sequence[Path], folder: Path) -> None:
    """Copies of stored models as one folder, in the order given, which appears whole or not at all."""
    with atomic_folder(folder) as draft:
        for number, member in enumerate(folders, start=1):
            shutil.copytree(member, draft / f"{number:02d}")


def open_model(folder: Path) -> ImageClassifier:
    """What is stored there, in evaluation mode: a single model, or an ensemble where the folder holds members."""
    if (folder / WEIGHTS).is_file():
        return load_classifier(folder)
    return open_ensemble(sorted(path for path in folder.iterdir() if path.is_dir()))


def open_ensemble(folders: Sequence[Path]) -> Ensemble:
    """Of stored models, such as the snapshots of a cyclic training, in evaluation mode."""
    return Ensemble([load_classifier(folder) for folder in folders]).eval()


def _refuse_ood(members: Sequence[ImageClassifier]) -> None:
    if len(members) < 2:
        raise SettingsError(f"an ensemble has two members at least, not {len(members)}; name more models")
    first = members[0].spec
    for member in members[1:]:
        for what, own, other in (
            ("labels", member.spec.labels, first.labels),
            ("preprocessing", member.spec.preprocess, first.preprocess),
        ):
            if own != other:
                raise SettingsError(
                    f"the members of an ensemble have the same {what}, and {member.spec.architecture} has others than "
                    f"{first.architecture}; name models of the same data and preprocess settings"
                )
