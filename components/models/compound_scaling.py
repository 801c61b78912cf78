"""Depth, width and resolution from one number: Tan and Le 2019, "EfficientNet: Rethinking Model Scaling", section 3.3.

Imports no torch, for who reads params.yaml needs the resolution alone.
"""

from dataclasses import dataclass

LEAST_COMPOUND, MOST_COMPOUND = -4.0, 8.0
_DEPTH, _WIDTH, _RESOLUTION = 1.2, 1.1, 1.15
"""By which each grows where the coefficient grows by one; computation then grows about twofold."""
_BASE_PX = 224
_LARGEST = 7
_DROPOUT, _MORE_DROPOUT = 0.2, 0.3 / _LARGEST
"""From B0's to B7's, as the paper sets it (section 5.2)."""


@dataclass(frozen=True)
class CompoundScale:
    """What one coefficient makes of depth, width and resolution; 0 is EfficientNet-B0."""

    depth: float
    width: float
    image_size_px: int
    """The side of the images that goes with the depth and width, where B0 has 224."""
    dropout: float


def compound_scale(coefficient: float) -> CompoundScale:
    return CompoundScale(
        depth=_DEPTH**coefficient,
        width=_WIDTH**coefficient,
        image_size_px=round(_BASE_PX * _RESOLUTION**coefficient),
        dropout=max(0.0, min(0.5, _DROPOUT + _MORE_DROPOUT * coefficient)),
    )
