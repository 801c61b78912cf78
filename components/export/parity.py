"""Whether the exported file says the same as the model that was trained, starting from the raw image files."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from components.evaluation.predictions import same_predictions
from components.models.classifier import ImageClassifier
from components.records.export import Parity
from components.serving.onnx_classifier import OnnxClassifier

_BATCHES = (1, 2, 7)


def torch_parity(model: ImageClassifier, onnx_model: OnnxClassifier, contents: Sequence[bytes]) -> Parity:
    """torch against ONNX on the bytes of image files."""
    squares = np.stack([onnx_model.square(content) for content in contents])
    with torch.inference_mode():
        reference = model.cpu().eval()(torch.from_numpy(squares)).numpy()
    answers = [_in_batches(onnx_model, squares, size) for size in _BATCHES]
    difference = max(float(np.abs(answer - reference).max()) for answer in answers)
    card = onnx_model.card
    said = [card.labels.predictions(logits_NT, card.decision_rule) for logits_NT in (answers[0], reference)]
    return Parity(len(contents), difference, agreement(*said))


def agreement(left: NDArray[Any], right: NDArray[Any]) -> float:
    """Fraction of the images with the same answer; of a set all labels must be the same."""
    return float(same_predictions(left, right).mean())


def _in_batches(model: OnnxClassifier, squares_NHWC: NDArray[np.uint8], size: int) -> NDArray[np.float32]:
    chunks = [squares_NHWC[start : start + size] for start in range(0, len(squares_NHWC), size)]
    return np.concatenate([model.logits(chunk) for chunk in chunks])
