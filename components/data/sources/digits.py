"""The data set `digits`, which is installed with scikit-learn."""

import io
from functools import partial
from typing import TYPE_CHECKING

from components.data.sources.source import Source, SourceImage

if TYPE_CHECKING:
    import numpy as np

EMBEDDED_DIGITS = "digits"
_SIDE_PX = 32


def digits() -> Source:
    """scikit-learn's handwritten digits: 1,797 scans of 8×8 px and 17 grey levels, enlarged to 32×32 px."""
    from sklearn.datasets import load_digits

    data = load_digits()
    return Source(
        [
            SourceImage(path=f"{label}/{number:04d}.png", labels=(str(label),), read=partial(_png, scan))
            for number, (scan, label) in enumerate(zip(data.images, data.target, strict=True))
        ]
    )


def _png(scan_HW: "np.ndarray") -> bytes:
    import numpy as np
    from PIL import Image

    grey = Image.fromarray((scan_HW * 255 / 16).round().astype(np.uint8))
    stream = io.BytesIO()
    grey.resize((_SIDE_PX, _SIDE_PX), Image.Resampling.BICUBIC).save(stream, "PNG")
    return stream.getvalue()
