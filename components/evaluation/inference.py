"""Predictions of a torch model over a packed part."""

import numpy as np
import torch

from components.data.loading import PackedPart, evaluation_loader
from components.evaluation.predictions import Predictions
from components.models.classifier import ImageClassifier
from components.progress import Progress

_BATCH = 128


def predict_part(model: ImageClassifier, part: PackedPart, *, progress: Progress) -> Predictions:
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model = model.to(device).eval()
    logits = []
    with torch.inference_mode():
        for number, batch in enumerate(evaluation_loader(part, batch_size=_BATCH), start=1):
            logits.append(model(batch.images_BHWC.to(device)).float().cpu().numpy())
            progress("evaluate", min(number * _BATCH, len(part)), len(part))
    return Predictions(
        path_N=part.path_N,
        sha256_N=part.sha256_N,
        target=part.target,
        logits_NT=np.concatenate(logits),
        space=model.spec.labels,
    )
