"""The registered model as MLflow's scoring server runs it: base64 image files in, labels out.

MLflow loads this file by itself; it imports nothing of Darkroom but the serving components.
"""

import base64
import binascii
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
from mlflow.pyfunc import PythonModel

from components.errors import DataError
from components.serving.classifier import OnnxClassifier


class ImageScorer(PythonModel):
    def load_context(self, context: Any) -> None:
        self._model = OnnxClassifier(Path(context.artifacts["model"]))

    def predict(self, context: Any, model_input: pd.DataFrame) -> pd.DataFrame:
        """A row an image; raises DataError where one is no base64 of an image file."""
        squares = np.stack([self._model.square(_content(text)) for text in model_input["image"]])
        space, rule = self._model.card.labels, self._model.card.answers
        logits_BT = self._model.logits(squares)
        said = space.answers(logits_BT, rule)
        sure_B = space.confidence(space.probabilities(logits_BT, temperature=rule.temperature), said)
        return pd.DataFrame({"label": space.names(said), "probability": sure_B.astype(float)})


def _content(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise DataError("the field image should hold an image file as base64") from None


mlflow.models.set_model(ImageScorer())
