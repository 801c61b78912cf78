"""The names of the splits."""

from typing import Literal

SplitName = Literal["train", "val", "test"]
SPLITS: tuple[SplitName, ...] = ("train", "val", "test")
"""What every split has. Further splits, such as a holdout, are carried along; no model step reads them."""
EXCLUDED = "excluded"
"""In no split: an image that would join two splits that stand fixed since earlier data. No step reads it."""
