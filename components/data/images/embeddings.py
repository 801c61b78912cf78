"""Embeddings of images by an ONNX model file of the user.

The model takes uint8 RGB [batch, side, side, 3] and returns one row of numbers for each image.
Shapes: N images, F numbers of an embedding.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from components.shared.errors import SettingsError, first_line
from components.shared.files import atomic_file
from components.shared.progress import Progress, silent
from components.shared.settings import Settings

Pixels = Callable[[int], NDArray[np.uint8]]
"""The upright RGB image of a row, of any size."""
Embeddings = NDArray[np.float32]

FILE = "embeddings.npy"
_BATCH = 64


class EmbeddingSettings(Settings):
    """params.yaml: split.duplicates.embeddings."""

    model: str
    """An .onnx file in data/reference that takes uint8 RGB [batch, side, side, 3]."""
    min_similarity: float = Field(default=0.95, gt=0, le=1)
    """Least cosine of two embeddings for a pair to count; larger joins fewer."""


def embed(count: int, pixels: Pixels, *, model: Path, setting: str, progress: Progress = silent) -> Embeddings:
    """Embeddings [N, F]: the model's first output for each image, stretched to the model's square.

    Raises SettingsError, naming `setting`, where the file is missing, no ONNX model, or has other inputs or outputs.
    """
    import onnxruntime

    if not model.is_file():
        raise SettingsError(f"{setting}: {model} isn't there; put the file there or set it to null")
    try:
        session = onnxruntime.InferenceSession(str(model), providers=["CPUExecutionProvider"])
    # The machine is out of memory; the file may be fine.
    except MemoryError:
        raise
    # onnxruntime's exceptions have no base class but Exception.
    except Exception as problem:
        raise SettingsError(f"{setting}: {model} can't be read as an ONNX model: {first_line(problem)}") from None
    entry = session.get_inputs()[0]
    if not _takes_squares(entry):
        raise SettingsError(
            f"{setting}: {model} takes {entry.type} {entry.shape}, not uint8 RGB [batch, side, side, 3] of any batch; "
            "export it so"
        )
    rows = []
    for start in range(0, count, _BATCH):
        stop = min(count, start + _BATCH)
        batch = np.stack([square(pixels(row), entry.shape[1]) for row in range(start, stop)])
        try:
            output = np.asarray(session.run(None, {entry.name: batch})[0], np.float32)
        # The machine is out of memory; the file may be fine.
        except MemoryError:
            raise
        # onnxruntime's exceptions have no base class but Exception.
        except Exception as problem:
            raise SettingsError(
                f"{setting}: {model} fails on {len(batch)} images: {first_line(problem)}; export it again"
            ) from None
        if output.shape[:1] != (len(batch),):
            raise SettingsError(
                f"{setting}: {model} gives {list(output.shape)} for {len(batch)} images, not a row each; export it so"
            )
        rows.append(output.reshape(len(batch), -1))
        progress("features", stop, count)
    return np.concatenate(rows) if rows else np.empty((0, 1), np.float32)


def _takes_squares(entry: Any) -> bool:
    if entry.type != "tensor(uint8)" or len(entry.shape) != 4:
        return False
    batch, height, width, channels = entry.shape
    return not isinstance(batch, int) and isinstance(height, int) and height == width and channels == 3


def write_embeddings(target: Path, embedding_NF: Embeddings) -> None:
    """Writes a .npy file; unlike np.save it reports why a full disk takes no more."""
    with atomic_file(target) as temporary, temporary.open("wb") as stream:
        np.lib.format.write_array_header_1_0(stream, np.lib.format.header_data_from_array_1_0(embedding_NF))
        stream.write(np.ascontiguousarray(embedding_NF).data)


def square(pixels_HWC: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    """The image stretched to a square; where it shrinks, each value is the mean of its area."""
    if pixels_HWC.shape[:2] == (side, side):
        return pixels_HWC
    import cv2

    # To enlarge by area would give blocks.
    method = cv2.INTER_AREA if min(pixels_HWC.shape[:2]) >= side else cv2.INTER_LINEAR
    stretched: NDArray[np.uint8] = cv2.resize(pixels_HWC, (side, side), interpolation=method)
    return stretched
