"""Progressive unfreezing: the head learns first, and every few epochs one more part before it.

Howard and Ruder 2018, "Universal Language Model Fine-tuning", section 3.3.
"""

from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.callbacks import Callback
from torch import nn

from components.models.layer_groups import head_names, keep_frozen_statistics, learn_last, parts
from components.training.settings import FinetuneSettings


def parts_at(epoch: int, *, every: int, heads: int, most: int) -> int:
    """How many parts learn in an epoch counted from 0, the head's own included."""
    return min(most, heads + epoch // every)


def parts_left_out(net: nn.Module, settings: FinetuneSettings) -> str | None:
    """A sentence where fine-tuning ends before all parts that may learn have their turn."""
    every, most, heads = (
        settings.unfreeze_every_n_epochs,
        settings.unfreeze_last_n or len(parts(net)),
        len(head_names(net)),
    )
    last = parts_at(settings.epochs - 1, every=every, heads=heads, most=most) if every else most
    if last == most:
        return None
    return (
        f"finetune.unfreeze_every_n_epochs is {every}: {last} of {most} parts learn in {settings.epochs} epochs, "
        f"and all would in {(most - heads) * every + 1}"
    )


class Unfreezing(Callback):
    """Lets the last parts learn on a schedule; which ones is a function of the epoch alone, so a resumed run agrees.

    All parts that ever learn are in the optimizer from the start: what has no gradient yet is passed over.
    """

    def __init__(self, *, every: int, most: int, freeze_batch_norm: bool) -> None:
        self._every, self._most, self._freeze_statistics = every, most, freeze_batch_norm
        self._epoch: int | None = None

    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: Any) -> None:
        # Not at the epoch's start: one that is gone on with after a kill has none.
        if trainer.current_epoch == self._epoch:
            return
        self._epoch = trainer.current_epoch
        heads = len(head_names(pl_module.model.net))
        learn_last(
            pl_module.model.net, parts_at(self._epoch, every=self._every, heads=heads, most=self._most), of=self._most
        )
        pl_module.model.train()
        keep_frozen_statistics(pl_module.model, every=self._freeze_statistics)
