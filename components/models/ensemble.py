"""Several classifiers as one: its probabilities are the mean of its members', in one network and so in one file.

Shapes: B images, H height, W width, C channels, T logits, M members.
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
    """Members that each normalize the same images in their own way, with one tensor of logits for all.

    Labels and preprocessing in `spec` hold for every member; the rest of it is the first member's.
    """

    def __init__(self, members: Sequence[ImageClassifier]) -> None:
        nn.Module.__init__(self)
        _refuse_incompatible(members)
        names = ", ".join(member.spec.architecture for member in members)
        self.spec = members[0].spec.model_copy(update={"architecture": f"ensemble of {names}"})
        self.net = nn.ModuleList(members)

    @property
    def members(self) -> list[ImageClassifier]:
        return [member for member in self.net.children() if isinstance(member, ImageClassifier)]

    def forward(self, images_BHWC: Tensor) -> Tensor:
        """Logits [B, T] whose softmax, or sigmoid for multi-label, is the mean of the members' probabilities."""
        logits_MBT = torch.stack([member(images_BHWC) for member in self.members])
        return mean_logits(logits_MBT, self.spec.labels)


def mean_logits(logits_MBT: Tensor, task: Task) -> Tensor:
    """Logits [B, T] of the mean probabilities; in a hierarchy, of each level's.

    Their energy, from which the OOD score is computed, is the mean of the members' energies.
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
    """Copies stored models into one folder, in the order given; the folder appears whole or not at all."""
    with atomic_folder(folder) as temporary:
        for number, member in enumerate(folders, start=1):
            shutil.copytree(member, temporary / f"{number:02d}")


def open_model(folder: Path) -> ImageClassifier:
    """The stored model in evaluation mode: an ensemble where the folder holds members."""
    if (folder / WEIGHTS).is_file():
        return load_classifier(folder)
    return open_ensemble(sorted(path for path in folder.iterdir() if path.is_dir()))


def open_ensemble(folders: Sequence[Path]) -> Ensemble:
    """An ensemble of stored models, such as the snapshots of a cyclic training, in evaluation mode."""
    return Ensemble([load_classifier(folder) for folder in folders]).eval()


def _refuse_incompatible(members: Sequence[ImageClassifier]) -> None:
    if len(members) < 2:
        raise SettingsError(f"an ensemble has at least two members, not {len(members)}; name more models")
    first = members[0].spec
    for member in members[1:]:
        for name, own, other in (
            ("labels", member.spec.labels, first.labels),
            ("preprocessing", member.spec.preprocess, first.preprocess),
        ):
            if own != other:
                raise SettingsError(
                    f"the members of an ensemble must have the same {name}, but {member.spec.architecture} has "
                    f"others than {first.architecture}; name models of the same data and preprocess settings"
                )
