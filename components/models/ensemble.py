"""Several classifiers as one: its probabilities are the mean of its members', in one network and so in one file.

Letters: B images, H height, W width, C channels, T logits, M members.
"""

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from components.errors import SettingsError
from components.labels import LabelSpace
from components.models.classifier import ImageClassifier, load_classifier


class Ensemble(ImageClassifier):
    """Takes the images that each member takes, normalizes them as each member does, and answers with one set of logits.

    `spec` is the first member's: labels and preprocessing are the same in all.
    """

    def __init__(self, members: Sequence[ImageClassifier]) -> None:
        nn.Module.__init__(self)
        _refuse_unlike(members)
        self.spec = members[0].spec
        self.net = nn.ModuleList(members)

    def forward(self, images_BHWC: Tensor) -> Tensor:
        """Logits [B, T] whose softmax, or sigmoid for sets of labels, is the mean of the members' probabilities."""
        logits_MBT = torch.stack([member(images_BHWC) for member in self.net.children()])
        return mean_logits(logits_MBT, self.spec.labels)


def mean_logits(logits_MBT: Tensor, space: LabelSpace) -> Tensor:
    """Of a hierarchy the probabilities of each level are averaged."""
    if space.kind == "multi":
        # The logit of the mean probability, without ever forming a probability of exactly 0 or 1.
        log_yes_BT = torch.logsumexp(nn.functional.logsigmoid(logits_MBT), dim=0)
        log_no_BT = torch.logsumexp(nn.functional.logsigmoid(-logits_MBT), dim=0)
        return log_yes_BT - log_no_BT
    places = space.level_slices() if space.kind == "hierarchy" else [slice(None)]
    averaged = [torch.logsumexp(logits_MBT[..., place].log_softmax(dim=-1), dim=0) for place in places]
    # The members' number is a constant that a softmax doesn't see; without it the logits are log-probabilities.
    return torch.cat(averaged, dim=-1) - torch.log(torch.tensor(float(len(logits_MBT))))


def open_ensemble(folders: Sequence[Path]) -> Ensemble:
    """Of stored models, such as the snapshots of a cyclic training, in evaluation mode."""
    return Ensemble([load_classifier(folder) for folder in folders]).eval()


def _refuse_unlike(members: Sequence[ImageClassifier]) -> None:
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
