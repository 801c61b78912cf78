"""Gradual unfreezing: the head is trained first, and every few epochs one more layer group before it.

Howard and Ruder 2018, "Universal Language Model Fine-tuning", section 3.3.
"""

from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.callbacks import Callback
from torch import nn

from components.models.layer_groups import freeze_batch_norms, head_names, layer_groups, unfreeze_last
from components.training.settings import FinetuneSettings


def num_unfrozen_groups(epoch: int, *, every: int, heads: int, most: int) -> int:
    """How many layer groups are trained in an epoch counted from 0, the head's own included."""
    return min(most, heads + epoch // every)


def never_unfrozen_note(net: nn.Module, settings: FinetuneSettings) -> str | None:
    """A sentence where fine-tuning ends before all layer groups that may be trained are unfrozen."""
    every, heads = settings.unfreeze_every_n_epochs, len(head_names(net))
    most = settings.unfreeze_last_n or len(layer_groups(net))
    last = num_unfrozen_groups(settings.epochs - 1, every=every, heads=heads, most=most) if every else most
    if last == most:
        return None
    return (
        f"finetune.unfreeze_every_n_epochs is {every}: {last} of {most} layer groups are trained in {settings.epochs} "
        f"epochs, and all would be in {(most - heads) * every + 1}"
    )


class Unfreezing(Callback):
    """Unfreezes layer groups on a schedule; which ones depends on the epoch alone, so a resumed run agrees.

    All groups that are ever trained are in the optimizer from the start: it skips parameters without a gradient.
    """

    def __init__(self, *, every: int, most: int, freeze_batch_norm: bool) -> None:
        self._every, self._most, self._freeze_batch_norm = every, most, freeze_batch_norm
        self._epoch: int | None = None

    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: Any) -> None:
        # Not at the start of the epoch: a resumed epoch has none.
        if trainer.current_epoch == self._epoch:
            return
        self._epoch = trainer.current_epoch
        net = pl_module.model.net
        unfreeze_last(
            net, num_unfrozen_groups(self._epoch, every=self._every, heads=len(head_names(net)), most=self._most)
        )
        pl_module.model.train()
        freeze_batch_norms(pl_module.model, every=self._freeze_batch_norm)
