"""The names of the splits."""

from typing import Literal

SplitName = Literal["train", "val", "test"]
SPLITS: tuple[SplitName, ...] = ("train", "val", "test")
"""The splits that always exist. Further ones, such as a holdout, are written too; no model step reads them."""
EXCLUDED = "excluded"
"""Value of an image in no split, because it would join clusters of two splits. No step reads it."""
