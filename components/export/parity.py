"""Whether the exported file says the same as the model that was trained, starting from the raw image files."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from components.models.classifier import ImageClassifier
from components.serving.classifier import OnnxClassifier

_BATCHES = (1, 2, 7)


@dataclass(frozen=True)
class Parity:
    images: int
    max_logit_difference: float
    """Over all images and batches of 1, 2 and 7."""
    agreement: float
    """Share of the images with the same label."""


def torch_parity(model: ImageClassifier, onnx_model: OnnxClassifier, contents: Sequence[bytes]) -> Parity:
    """torch against ONNX on the bytes of image files."""
    squares = np.stack([onnx_model.square(content) for content in contents])
    with torch.inference_mode():
        reference = model.cpu().eval()(torch.from_numpy(squares)).numpy()
    answers = [_in_batches(onnx_model, squares, size) for size in _BATCHES]
    difference = max(float(np.abs(answer - reference).max()) for answer in answers)
    return Parity(len(contents), difference, agreement(answers[0], reference))


def agreement(left_NK: NDArray[np.float32], right_NK: NDArray[np.float32]) -> float:
    return float((left_NK.argmax(axis=1) == right_NK.argmax(axis=1)).mean())


def _in_batches(model: OnnxClassifier, squares_NHWC: NDArray[np.uint8], size: int) -> NDArray[np.float32]:
    chunks = [squares_NHWC[start : start + size] for start in range(0, len(squares_NHWC), size)]
    return np.concatenate([model.logits(chunk) for chunk in chunks])
