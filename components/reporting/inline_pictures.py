"""An image inside a page that asks for nothing from outside."""

import base64
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Picture:
    source: str
    """A data: URI."""
    alt: str
    caption: str = ""
    small: bool = False
    """Few enough pixels that they should be shown as squares rather than smeared."""


def embedded(content: bytes, kind: Literal["png", "jpeg"]) -> str:
    """The image as a data: URI."""
    return f"data:image/{kind};base64,{base64.b64encode(content).decode('ascii')}"
