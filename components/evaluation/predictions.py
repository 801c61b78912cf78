"""What a model says of each image, kept as a table that every score is computed from.

Letters: N images, K classes.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from components.data.tables import write_table
from components.serving.classifier import softmax


@dataclass(frozen=True)
class Predictions:
    path_N: list[str]
    sha256_N: list[str]
    target_N: NDArray[np.int64]
    """Class indices."""
    logits_NK: NDArray[np.float32]
    classes: list[str]

    @property
    def predicted_N(self) -> NDArray[np.int64]:
        winners: NDArray[np.int64] = self.logits_NK.argmax(axis=1)
        return winners

    @property
    def probabilities_NK(self) -> NDArray[np.float32]:
        return softmax(self.logits_NK)

    @property
    def correct_N(self) -> NDArray[np.bool_]:
        correct: NDArray[np.bool_] = self.predicted_N == self.target_N
        return correct


def write_predictions(target: Path, predictions: Predictions) -> None:
    table = pa.table(
        {
            "path": predictions.path_N,
            "sha256": predictions.sha256_N,
            "label": [predictions.classes[index] for index in predictions.target_N],
            "predicted": [predictions.classes[index] for index in predictions.predicted_N],
            "target": predictions.target_N,
            "logits": pa.FixedSizeListArray.from_arrays(predictions.logits_NK.ravel(), len(predictions.classes)),
        }
    ).replace_schema_metadata({"classes": "\n".join(predictions.classes)})
    write_table(target, table)


def read_predictions(source: Path) -> Predictions:
    table = pq.read_table(source)
    classes = table.schema.metadata[b"classes"].decode().split("\n")
    logits = table["logits"].combine_chunks().flatten().to_numpy()
    return Predictions(
        path_N=table["path"].to_pylist(),
        sha256_N=table["sha256"].to_pylist(),
        target_N=table["target"].to_numpy(),
        logits_NK=logits.reshape(-1, len(classes)),
        classes=classes,
    )
