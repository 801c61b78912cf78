"""The values of settings that are `auto`: chosen from the data and the preset, each with its reason.

A choice depends on nothing of the machine, so that the same data and settings mean the same model everywhere.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from components.models.catalogue import IMAGENET
from components.presets.settings import AutoSettings
from components.records.data_facts import DataFacts
from components.shared.plural import counted

AUTO = "auto"
_TINY_PX = 40
"""Images up to this side are drawings, digits and icons more often than photos: a small network learns them alone."""
_TINY_SIDE_PX = 32
_LITE0_PX, _LITE2_PX = 224, 260
"""Sides that the networks were trained with."""
_LEAST_PRETRAINED_PX = 96
_GRID_PX = 32
_CHEAP_PX = 64
"""Images of this side are scored by the hundred in a second."""


@dataclass(frozen=True)
class Choice:
    """What `auto` became."""

    name: str
    """Name of the setting, such as train.epochs."""
    value: Any
    reason: str


def choose(names: Collection[str], fixed: Mapping[str, Any], settings: AutoSettings, facts: DataFacts) -> list[Choice]:
    """A choice for each of the named settings; `fixed` are the values of the others, by name.

    Raises KeyError for a setting that can't be `auto`.
    """
    rules = _Rules(fixed, settings, facts)
    return [rules.choice(name) for name in CHOSEN if name in names]


class _Rules:
    """The rules, each of which may ask for the values of other settings."""

    def __init__(self, fixed: Mapping[str, Any], settings: AutoSettings, facts: DataFacts) -> None:
        self._fixed, self._preset, self._facts = fixed, settings.preset, facts

    def choice(self, name: str) -> Choice:
        return Choice(name, *CHOSEN[name](self))

    def value(self, name: str) -> Any:
        """The value that the setting has or will have."""
        given = self._fixed.get(name, AUTO)
        return self.choice(name).value if given == AUTO else given

    @property
    def pretrained(self) -> bool:
        return self.value("model.weights") is not None

    @property
    def tiny(self) -> bool:
        return self._facts.side_px <= _TINY_PX

    def architecture(self) -> tuple[str, str]:
        if self.tiny:
            return "plain", f"images of {self._facts.side_px} px: a small network learns them from scratch"
        if self._preset == "best":
            return "tf_efficientnet_lite2", "preset best: the larger of the networks with installed ImageNet weights"
        return "tf_efficientnet_lite0", "its ImageNet weights are installed, and it was made for int8"

    def weights(self) -> tuple[str | None, str]:
        if self.tiny:
            return None, "features of photos don't help with images this small"
        return IMAGENET, "features learned from a million photos need few images of yours"

    def freeze_backbone(self) -> tuple[bool, str]:
        if not self.pretrained:
            return False, "from scratch every layer learns"
        return True, "the new head is trained first, on features that are computed once"

    def image_size(self) -> tuple[int, str]:
        if self.tiny:
            return _TINY_SIDE_PX, f"images of {self._facts.side_px} px"
        own = _LITE2_PX if self._preset == "best" else _LITE0_PX
        if self._facts.side_px >= own:
            return own, "the size that the network learned with"
        side = max(_LEAST_PRETRAINED_PX, -(-self._facts.side_px // _GRID_PX) * _GRID_PX)
        return min(side, own), f"images of {self._facts.side_px} px have no more detail"

    def resize(self) -> tuple[str, str]:
        return "pad", "nothing of an image is cut off"

    def copies(self) -> tuple[int, str]:
        return 0, "each epoch of fine-tuning augments the images again"

    def policy(self) -> tuple[str, str]:
        return "basic", "small turns, shifts and changes of brightness and contrast suit most photos"

    def flips(self) -> tuple[str, str]:
        if self.tiny or not self._facts.coloured:
            return "none", "small or grey images may be text, digits or X-rays, which a mirror changes"
        return "horizontal", "mirrored photos show the same; set it to none where left and right matter"

    def dropout(self) -> tuple[float | None, str]:
        if self.pretrained:
            return 0.2, "as the networks were trained"
        return None, "as published"

    def epochs(self) -> tuple[int, str]:
        if self.pretrained and self.value("model.freeze_backbone"):
            return 30, "an epoch on stored features takes a fraction of a second"
        return 8 if self._facts.train_images >= 1000 else 30, f"{counted(self._facts.train_images, 'training image')}"

    def batch_size(self) -> tuple[int, str]:
        few = self._facts.train_images < 500
        return 32 if few else 64, f"{counted(self._facts.train_images, 'training image')}"

    def learning_rate(self) -> tuple[float, str]:
        if self.pretrained:
            return 0.001, "for a new head on fixed features"
        return 0.003, "for a small network from scratch"

    def weight_decay(self) -> tuple[float, str]:
        return (0.05, "a head on many features overfits easily") if self.pretrained else (0.01, "the usual one")

    def augments(self) -> tuple[bool, str]:
        if self.pretrained and self.value("model.freeze_backbone"):
            return False, "the features of each image are computed once"
        return True, "each epoch sees other variants"

    def finetune_epochs(self) -> tuple[int, str]:
        if not self.pretrained:
            return 0, "from scratch, `train` does all"
        if self._preset == "fast":
            return 0, "preset fast: the head alone is trained"
        return (6, "preset best") if self._preset == "best" else (3, "preset balanced")

    def finetune_rate(self) -> tuple[float, str]:
        return 0.001, "for the head; layers nearer to the image learn more slowly (finetune.layer_decay)"

    def unfrozen(self) -> tuple[int | None, str]:
        if self._preset == "best" or not self.pretrained:
            return None, "all layers"
        return 4, "the last layers know most about objects and cost least"

    def freeze_batch_norm(self) -> tuple[bool, str]:
        return self.pretrained, "the statistics of a million photos are steadier than those of your batches"

    def robustness_images(self) -> tuple[int, str]:
        side = self.value("preprocess.image_size_px")
        count = max(20, min(200, 200 * _CHEAP_PX**2 // side**2))
        return count, f"each is scored under dozens of corruptions, at {side} px"

    def top_k(self) -> tuple[int, str]:
        k = max(2, min(5, self._facts.classes // 3))
        return k, counted(self._facts.classes, "class", "classes")


CHOSEN = {
    "preprocess.image_size_px": _Rules.image_size,
    "preprocess.resize": _Rules.resize,
    "augment.policy": _Rules.policy,
    "augment.copies": _Rules.copies,
    "augment.flips": _Rules.flips,
    "model.architecture": _Rules.architecture,
    "model.weights": _Rules.weights,
    "model.freeze_backbone": _Rules.freeze_backbone,
    "model.dropout": _Rules.dropout,
    "train.epochs": _Rules.epochs,
    "train.batch_size": _Rules.batch_size,
    "train.learning_rate": _Rules.learning_rate,
    "train.weight_decay": _Rules.weight_decay,
    "train.augment": _Rules.augments,
    "finetune.epochs": _Rules.finetune_epochs,
    "finetune.learning_rate": _Rules.finetune_rate,
    "finetune.unfreeze_last_n": _Rules.unfrozen,
    "finetune.freeze_batch_norm": _Rules.freeze_batch_norm,
    "evaluate.robustness_images": _Rules.robustness_images,
    "evaluate.top_k": _Rules.top_k,
}
"""The settings that may be `auto`, in the order in which they are shown."""
