"""The registered model as MLflow's scoring server runs it: base64 image files in, labels out.

MLflow loads this file by itself; it imports nothing of Darkroom but the serving components.
"""

import json
import logging
import os
from pathlib import Path
from typing import Any

import mlflow
import pandas as pd
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import BAD_REQUEST
from mlflow.pyfunc import PythonModel

from components.serving.batch_prediction import Row, answer_batch, batch_size
from components.serving.onnx_classifier import OnnxClassifier
from components.serving.prediction_rows import AnswerOptions, Record
from components.serving.providers import PROVIDER_VARIABLE
from components.serving.scoring_requests import COLUMN, images_of
from components.shared.errors import DarkroomError, DataError

_DIGEST_SHOWN = 12


class RequestRefused(MlflowException):
    """One sentence, which the server answers with status 400."""

    def __init__(self, sentence: str) -> None:
        self._sentence = sentence
        super().__init__(sentence, error_code=BAD_REQUEST)

    @property
    def message(self) -> str:
        return self._sentence

    @message.setter
    def message(self, text: str) -> None:
        """The server would put the whole request in front, which nobody wants to read."""

    def serialize_as_json(self) -> str:
        """What the server answers: as documented, without what says the same again to databases."""
        return json.dumps({"error_code": self.error_code, "message": self.message})


class ImageScorer(PythonModel):
    def load_context(self, context: Any) -> None:
        """Raises ServiceError where the environment asks for a provider that isn't here."""
        asked = os.environ.get(PROVIDER_VARIABLE) or None
        self._model = OnnxClassifier(Path(context.artifacts["model"]), provider=asked)
        if self._model.fell_back is not None:
            logging.getLogger("darkroom").warning(self._model.fell_back)

    def predict(
        self, context: Any, model_input: pd.DataFrame, params: dict[str, Any] | None = None
    ) -> list[dict[str, Any]]:
        """A record an image; raises RequestRefused where one is no base64 of an image file."""
        try:
            options = AnswerOptions.of(params)
            options.check(self._model.card)
            if COLUMN not in model_input:
                raise DataError(f"the request has no column {COLUMN}; it should hold image files as base64")
            inputs = images_of(list(model_input[COLUMN]))
        except DarkroomError as problem:
            raise RequestRefused(str(problem)) from None
        name, size = f"sha256:{self._model.sha256[:_DIGEST_SHOWN]}", batch_size(self._model)
        batches = (inputs[start : start + size] for start in range(0, len(inputs), size))
        return [_answer(row) for batch in batches for row in answer_batch(batch, self._model, name, options)]


def _answer(row: Row) -> Record:
    if row.error is not None:
        raise RequestRefused(f"{row.path}: {row.error}")
    return {**row.answer, **({"note": row.note} if row.note else {}), "model": row.model}


mlflow.models.set_model(ImageScorer())
