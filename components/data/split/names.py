"""The parts of a split."""

from typing import Literal

Part = Literal["train", "val", "test"]
PARTS: tuple[Part, ...] = ("train", "val", "test")
"""What every split has. Further parts, such as a holdout, are carried along; no model step reads them."""
EXCLUDED = "excluded"
"""In no part: an image that would join two parts that stand fixed since earlier data. No step reads it."""
