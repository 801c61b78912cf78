"""Prediction needs onnxruntime and the image packages, and none of the packages that training needs."""

import json
import pkgutil
import subprocess
import sys
from pathlib import Path

from projects import REPOSITORY

import components.data.files
import components.serving

HEAVY = (
    "torch",
    "torchvision",
    "lightning",
    "torchmetrics",
    "mlflow",
    "prefect",
    "dvc",
    "sklearn",
    "scipy",
    "great_expectations",
    "albumentations",
    "onnx",
)

WITHOUT = """
import importlib, json, sys
class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in HEAVY:
            raise ModuleNotFoundError(name)
HEAVY = sys.argv[1].split(",")
sys.meta_path.insert(0, Missing())
for name in sys.argv[2].split(","):
    importlib.import_module(name)
from pathlib import Path
from functools import partial
from components.serving.prediction_records import PredictionOptions, prediction_columns
from components.serving.onnx_classifier import OnnxClassifier
from components.data.files.find_images import find_images
from components.serving.prediction_tables import PredictionJob, table_columns, write_predictions
from components.serving.batch_prediction import batch_size, predict
model = OnnxClassifier(Path(sys.argv[3]), threads=1)
options = PredictionOptions(top_k=2)
job = PredictionJob(Path(sys.argv[5]), table_columns(prediction_columns(model.card, options)), {}, batch_size(model))
predict_all = partial(predict, model=model, model_name="m", options=options)
done = write_predictions(job, partial(find_images, [sys.argv[4]]), predict_all, on_progress=lambda rows: None)
print(json.dumps({"rows": done.rows, "loaded": sorted(set(HEAVY) & set(sys.modules))}))
"""


def test_prediction_works_where_nothing_of_training_is_installed(onnx_file: Path, images: Path, tmp_path: Path) -> None:
    modules = [f"components.serving.{found.name}" for found in pkgutil.iter_modules(components.serving.__path__)]
    modules += [f"components.data.files.{found.name}" for found in pkgutil.iter_modules(components.data.files.__path__)]
    arguments = [",".join(HEAVY), ",".join(modules), str(onnx_file), str(images), str(tmp_path / "out.parquet")]
    answer = subprocess.run(
        [sys.executable, "-c", WITHOUT, *arguments], cwd=REPOSITORY, capture_output=True, text=True, timeout=60
    )
    assert answer.returncode == 0, answer.stderr
    assert json.loads(answer.stdout) == {"rows": 75, "loaded": []}
    assert (tmp_path / "out.parquet").exists()
