"""The registered model for MLflow's scoring server: base64 image files in, predictions out.

MLflow loads this file from a model's package, so of Darkroom it imports only the modules that the package holds.
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

from components.serving.batch_prediction import Row, batch_size, predict_batch
from components.serving.onnx_classifier import OnnxClassifier
from components.serving.prediction_records import PredictionOptions, Record
from components.serving.providers import PROVIDER_VARIABLE
from components.serving.scoring_requests import COLUMN, images_of
from components.shared.errors import DarkroomError, DataError

_SHA256_SHOWN = 12


class RequestRefused(MlflowException):
    """A message that the server returns with status 400."""

    def __init__(self, message: str) -> None:
        self._message = message
        super().__init__(message, error_code=BAD_REQUEST)

    @property
    def message(self) -> str:
        return self._message

    @message.setter
    def message(self, text: str) -> None:
        """Ignores the server's attempt to put the whole request before the message."""

    def serialize_as_json(self) -> str:
        """Body of the response, without the fields that MLflow's databases need."""
        return json.dumps({"error_code": self.error_code, "message": self.message})


class ImageScorer(PythonModel):
    def load_context(self, context: Any) -> None:
        """Raises ServiceError if the provider that the environment requests is not available."""
        provider = os.environ.get(PROVIDER_VARIABLE) or None
        self.use(OnnxClassifier(Path(context.artifacts["model"]), provider=provider))

    def use(self, model: OnnxClassifier) -> None:
        """Predicts with a model that is open already."""
        self._model = model
        if self._model.fallback_reason is not None:
            logging.getLogger("darkroom").warning(self._model.fallback_reason)

    def predict(
        self, context: Any, model_input: pd.DataFrame, params: dict[str, Any] | None = None
    ) -> list[dict[str, Any]]:
        """A record per image; raises RequestRefused if one can't be read."""
        try:
            options = PredictionOptions.from_request(params)
            options.check(self._model.card)
            if COLUMN not in model_input:
                raise DataError(f"the request has no column {COLUMN}; send image files in it as base64")
            images = images_of(list(model_input[COLUMN]))
        except DarkroomError as problem:
            raise RequestRefused(str(problem)) from None
        name, size = f"sha256:{self._model.sha256[:_SHA256_SHOWN]}", batch_size(self._model)
        batches = (images[start : start + size] for start in range(0, len(images), size))
        return [_to_record(row) for batch in batches for row in predict_batch(batch, self._model, name, options)]


def _to_record(row: Row) -> Record:
    if row.error is not None:
        raise RequestRefused(f"{row.path}: {row.error}")
    return {**row.prediction, **({"note": row.note} if row.note else {}), "model": row.model}


mlflow.models.set_model(ImageScorer())
