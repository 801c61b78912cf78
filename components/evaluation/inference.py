"""Predictions of a torch model over a packed split, and of any squares.

Letters: N images, B images of a batch, H height, W width, C channels, T logits, F features.
"""

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from components.data.packed.image_stores import ImageRows
from components.data.packed.loaders import PackedSplit, evaluation_loader, inference_batch
from components.evaluation.predictions import Predictions
from components.models.classifier import ImageClassifier
from components.models.features import features
from components.shared.progress import Progress


def predict_split(model: ImageClassifier, split: PackedSplit, *, progress: Progress) -> Predictions:
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model = model.to(device).eval()
    logits, done = [], 0
    with torch.inference_mode():
        for batch in evaluation_loader(split, batch_size=inference_batch(model.spec.preprocess.image_size_px)):
            logits.append(model(batch.images_BHWC.to(device)).float().cpu().numpy())
            done += len(batch.target)
            progress("evaluate", done, len(split))
    return Predictions(
        path_N=split.path_N,
        sha256_N=split.sha256_N,
        target=split.target,
        logits_NT=np.concatenate(logits),
        task=model.spec.labels,
    )


def logits_of(model: ImageClassifier, images_NHWC: ImageRows) -> NDArray[np.float32]:
    """Logits [N, T] of squares, a batch at a time."""
    return _in_batches(model, images_NHWC, model)


def features_of(model: ImageClassifier, images_NHWC: ImageRows) -> NDArray[np.float32]:
    """Features [N, F] of squares, a batch at a time: what the head's last layer is given."""
    return _in_batches(model, images_NHWC, lambda images_BHWC: features(model, images_BHWC))


def _in_batches(
    model: ImageClassifier, images_NHWC: ImageRows, answer: Callable[[Tensor], Tensor]
) -> NDArray[np.float32]:
    device = next(model.buffers()).device
    model.eval()
    answers, batch = [], inference_batch(images_NHWC.shape[1])
    with torch.inference_mode():
        for start in range(0, len(images_NHWC), batch):
            images_BHWC = torch.from_numpy(np.array(images_NHWC[start : start + batch])).to(device)
            answers.append(answer(images_BHWC).float().cpu().numpy())
    return np.concatenate(answers)
