"""The names of the presets, for callers that must not import pydantic."""

from typing import Literal

Preset = Literal["fast", "balanced", "best"]
