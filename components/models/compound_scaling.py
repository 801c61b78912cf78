"""Depth, width and resolution from one number: Tan and Le 2019, "EfficientNet: Rethinking Model Scaling", section 3.3.

Imports no torch: whoever reads params.yaml needs the resolution alone.
"""

from dataclasses import dataclass

LEAST_COMPOUND, MOST_COMPOUND = -4.0, 8.0
_DEPTH, _WIDTH, _RESOLUTION = 1.2, 1.1, 1.15
"""Factors for each step of 1 in the coefficient; together they about double the computation."""
_BASE_PX = 224
_DROPOUT, _DROPOUT_STEP = 0.2, 0.3 / 7
"""From B0's 0.2 to B7's 0.5, as in section 5.2 of the paper."""


@dataclass(frozen=True)
class CompoundScale:
    """Depth, width and resolution of one coefficient; 0 is EfficientNet-B0."""

    depth: float
    width: float
    image_size_px: int
    """Side of the images; 224 for B0."""
    dropout: float


def compound_scale(coefficient: float) -> CompoundScale:
    return CompoundScale(
        depth=_DEPTH**coefficient,
        width=_WIDTH**coefficient,
        image_size_px=round(_BASE_PX * _RESOLUTION**coefficient),
        dropout=max(0.0, min(0.5, _DROPOUT + _DROPOUT_STEP * coefficient)),
    )
