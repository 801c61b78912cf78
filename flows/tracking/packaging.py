"""Packs a model file into the folder that is registered, and that MLflow's scoring server can run."""

import base64
import io
import shutil
import tempfile
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from components.serving.isolated_process import serving_packages
from components.serving.onnx_classifier import ModelCard, OnnxClassifier
from components.serving.prediction_records import PredictionOptions, prediction_columns
from components.serving.scoring_requests import COLUMN
from components.shared.files import sha256_of_folder
from flows.project.fingerprint import CODE_ROOT, imported_modules
from flows.tracking.connection import quiet_mlflow

_SCORING = "flows.tracking.image_scorer"
_COMPONENTS = "components"
_NOT_PACKAGED = ("__pycache__", "registered_model_meta")
"""Created by Python and MLflow when a package is loaded or fetched; not part of it."""


@dataclass(frozen=True)
class Package:
    """An MLflow model folder: the ONNX file, the code that serves it, and the packages that it requires."""

    folder: Path
    model_file: Path
    sha256: str
    """Digest of all files in the folder."""

    @property
    def requirements(self) -> list[str]:
        """Lines such as numpy==2.4.6."""
        return (self.folder / "requirements.txt").read_text(encoding="utf-8").split()


def write_package(model_file: Path, folder: Path, *, run_id: str | None = None) -> Package:
    """Writes a new folder; `run_id` is the run that trained the model."""
    quiet_mlflow()
    import mlflow
    from mlflow.models import Model

    card = OnnxClassifier(model_file, provider="cpu").card
    with tempfile.TemporaryDirectory(prefix="darkroom-") as scratch:
        mlflow.pyfunc.save_model(
            folder,
            mlflow_model=Model(run_id=run_id),
            python_model=str(CODE_ROOT.joinpath(*_SCORING.split(".")).with_suffix(".py")),
            artifacts={"model": str(model_file)},
            code_paths=[str(_serving_code(Path(scratch)))],
            signature=signature_of(card),
            input_example=_example(card),
            pip_requirements=[f"{package}=={version(package)}" for package in (*serving_packages(), "pandas")],
            metadata={"classes": card.classes},
        )
    for cache in list(folder.rglob("__pycache__")):
        shutil.rmtree(cache)
    return Package(folder, folder / "artifacts" / model_file.name, package_sha256(folder))


def package_sha256(folder: Path) -> str:
    return sha256_of_folder(folder, excluded=_NOT_PACKAGED)


def _serving_code(scratch: Path) -> Path:
    """A copy of the components that the scorer imports, and no others."""
    for name, source in imported_modules((_SCORING,)).items():
        if name.partition(".")[0] == _COMPONENTS:
            target = scratch / source.relative_to(CODE_ROOT)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, target)
    return scratch / _COMPONENTS


def _example(card: ModelCard) -> Any:
    """A request with one grey image of the model's size."""
    import pandas as pd
    from PIL import Image

    side, content = card.preprocess.image_size_px, io.BytesIO()
    Image.new("RGB", (side, side), "grey").save(content, format="PNG")
    return pd.DataFrame({COLUMN: [base64.b64encode(content.getvalue()).decode("ascii")]})


def signature_of(card: ModelCard) -> Any:
    """Base64 image files in, this model's predictions out; optional parameters top_k and probabilities."""
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, DataType, ParamSchema, ParamSpec, Schema

    columns = {**prediction_columns(card, PredictionOptions()), "model": str}
    types = {str: DataType.string, float: DataType.double, bool: DataType.boolean}
    return ModelSignature(
        inputs=Schema([ColSpec(DataType.string, COLUMN)]),
        outputs=Schema([ColSpec(types[type_], name) for name, type_ in columns.items()]),
        params=ParamSchema([ParamSpec("top_k", DataType.long, 0), ParamSpec("probabilities", DataType.boolean, False)]),
    )
