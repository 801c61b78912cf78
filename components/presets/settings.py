"""The section `auto` of params.yaml."""

from components.presets.preset import Preset
from components.shared.settings import Settings


class AutoSettings(Settings):
    """params.yaml: auto. How the settings whose value is `auto` are chosen."""

    preset: Preset = "balanced"
    """fast (a head on fixed features) | balanced (then the last layers are fine-tuned) | best (larger, all layers)."""
