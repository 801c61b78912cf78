"""Images as vectors of a model that the user names, and the pairs of them that point the same way.

The one way in for such model files: .onnx, uint8 RGB [batch, side, side, 3] in, one row of numbers an image out.
Pairs are found exactly, block against block, so memory stays that of two blocks (Johnson, Douze and Jégou 2017,
"Billion-scale similarity search with GPUs", name this the flat search).
Letters: N images, F numbers of an embedding, P pairs.
"""

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from components.errors import SettingsError
from components.progress import Progress, silent
from components.settings import Settings

Pixels = Callable[[int], NDArray[np.uint8]]
"""The upright RGB image of a row, of any size."""
Embeddings = NDArray[np.float32]
Pairs = NDArray[np.int64]

FILE = "embeddings.npy"
_BATCH = 64
_BLOCK = 4096
_MOST_PAIRS_AN_IMAGE = 100
_FEW_PAIRS = 100_000


class EmbeddingSettings(Settings):
    """params.yaml: split.duplicates.embeddings."""

    model: str
    """An .onnx file in the judgements' folder that takes uint8 RGB [batch, side, side, 3]."""
    min_similarity: float = Field(default=0.95, gt=0, le=1)
    """Least cosine of two embeddings for a pair to count; larger joins fewer."""


def embed(count: int, pixels: Pixels, *, model: Path, setting: str, progress: Progress = silent) -> Embeddings:
    """[N, F]: the first output of the model for each image, stretched to the model's square.

    Raises SettingsError, naming `setting`, where the file is missing, no ONNX model, or takes something else.
    """
    import onnxruntime

    if not model.is_file():
        raise SettingsError(f"{setting}: {model} isn't there; put the file there or set it to null")
    try:
        session = onnxruntime.InferenceSession(str(model), providers=["CPUExecutionProvider"])
    except Exception as problem:
        raise SettingsError(f"{setting}: {model} can't be read as an ONNX model: {problem}") from None
    entry = session.get_inputs()[0]
    if entry.type != "tensor(uint8)" or len(entry.shape) != 4 or not isinstance(entry.shape[1], int):
        raise SettingsError(
            f"{setting}: {model} takes {entry.type} {entry.shape}, not uint8 RGB [batch, side, side, 3]; export it so"
        )
    rows = []
    for start in range(0, count, _BATCH):
        stop = min(count, start + _BATCH)
        batch = np.stack([square(pixels(row), entry.shape[1]) for row in range(start, stop)])
        rows.append(np.asarray(session.run(None, {entry.name: batch})[0], np.float32).reshape(stop - start, -1))
        progress("features", stop, count)
    return np.concatenate(rows) if rows else np.empty((0, 1), np.float32)


def square(pixels_HWC: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    """The image stretched to a square: shrunk, each value is the mean of the area that it stands for."""
    if pixels_HWC.shape[:2] == (side, side):
        return pixels_HWC
    import cv2

    # Enlarged, means of areas would be blocks.
    way = cv2.INTER_AREA if min(pixels_HWC.shape[:2]) >= side else cv2.INTER_LINEAR
    stretched: NDArray[np.uint8] = cv2.resize(pixels_HWC, (side, side), interpolation=way)
    return stretched


def similar_pairs(embedding_NF: Embeddings, *, min_similarity: float, progress: Progress = silent) -> Pairs:
    """Each pair (i, j), i < j, whose embeddings' cosine is at least `min_similarity`, in order.

    An embedding of zeros is like no other. Raises SettingsError where images have more than a hundred such pairs each:
    then the model sees what the pictures have in common, and nearly all would have to stand in one part.
    """
    length_N = np.linalg.norm(embedding_NF, axis=1, keepdims=True)
    unit_NF = embedding_NF / np.maximum(length_N, np.finfo(np.float32).tiny)
    found, most = [np.empty((0, 2), np.int64)], _FEW_PAIRS + _MOST_PAIRS_AN_IMAGE * len(unit_NF)
    for pairs in _blocks(unit_NF, min_similarity, progress):
        found.append(pairs)
        if sum(map(len, found)) > most:
            raise SettingsError(
                f"params.yaml: split.duplicates.embeddings.min_similarity: {min_similarity:g} makes more than "
                f"{_MOST_PAIRS_AN_IMAGE} pairs an image; raise it"
            )
    pairs = np.concatenate(found)
    return pairs[np.lexsort((pairs[:, 1], pairs[:, 0]))]


def _blocks(unit_NF: Embeddings, min_similarity: float, progress: Progress) -> Iterator[Pairs]:
    for top in range(0, len(unit_NF), _BLOCK):
        progress("compare embeddings", top, len(unit_NF))
        for left in range(top, len(unit_NF), _BLOCK):
            cosine = unit_NF[top : top + _BLOCK] @ unit_NF[left : left + _BLOCK].T
            # The last bits of a product depend on the block; a copy has to have a cosine of 1 all the same.
            i, j = np.nonzero(cosine >= min_similarity - 1e-6)
            pairs = np.stack([i + top, j + left], axis=1)
            yield pairs[pairs[:, 0] < pairs[:, 1]]
    progress("compare embeddings", len(unit_NF), len(unit_NF))
