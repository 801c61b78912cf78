"""A model file packed so that MLflow's scoring server answers with it as it is."""

import base64
import io
from importlib.metadata import version
from pathlib import Path
from typing import Any

from components.serving.answers import AnswerOptions, answer_columns
from components.serving.classifier import ModelCard, OnnxClassifier
from components.serving.isolation import serving_packages

_IMAGE = "image"


def packed(model_file: Path) -> dict[str, Any]:
    """What `mlflow.pyfunc.log_model` and `save_model` are to be told: the file, the code that serves it, its form."""
    here = Path(__file__).resolve()
    card = OnnxClassifier(model_file, provider="cpu").card
    return {
        "python_model": str(here.with_name("scoring.py")),
        "artifacts": {"model": str(model_file)},
        "code_paths": [str(here.parents[2] / "components")],
        "signature": _signature(card),
        "input_example": _example(card),
        "pip_requirements": [f"{package}=={version(package)}" for package in (*serving_packages(), "pandas")],
        "metadata": {"classes": card.classes},
    }


def _example(card: ModelCard) -> Any:
    """One grey picture of the model's size, as a request holds it."""
    import pandas as pd
    from PIL import Image

    side, content = card.preprocess.image_size_px, io.BytesIO()
    Image.new("RGB", (side, side), "grey").save(content, format="PNG")
    return pd.DataFrame({_IMAGE: [base64.b64encode(content.getvalue()).decode("ascii")]})


def _signature(card: ModelCard) -> Any:
    """Base64 image files in, the answers of this very model out; top_k and probabilities may be asked for."""
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, DataType, ParamSchema, ParamSpec, Schema

    columns = {**answer_columns(card, AnswerOptions()), "model": str}
    kinds = {str: DataType.string, float: DataType.double, bool: DataType.boolean}
    return ModelSignature(
        inputs=Schema([ColSpec(DataType.string, _IMAGE)]),
        outputs=Schema([ColSpec(kinds[kind], name) for name, kind in columns.items()]),
        params=ParamSchema([ParamSpec("top_k", DataType.long, 0), ParamSpec("probabilities", DataType.boolean, False)]),
    )
