"""A file is tried in a process that has nothing but what serving needs."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from exported_model import Exported
from projects import REPOSITORY

from components.export.model_timing import FileDoesNotServe, time_file
from components.serving.onnx_classifier import OnnxClassifier
from components.serving.providers import PROVIDERS
from components.shared.errors import DataError, ServiceError

pytestmark = pytest.mark.parametrize("exported", ["plain"], indirect=True)


def test_a_file_is_timed_with_its_memory(exported: Exported) -> None:
    report = time_file(exported.file, provider="cpu", latency_runs=20)
    assert 0 < report.speed.latency.p50_ms <= report.speed.latency.p95_ms <= report.speed.latency.p99_ms
    assert report.speed.images_per_second >= 0.5 * 1000 / report.speed.latency.p50_ms
    assert report.peak_mib is None or 20 < report.peak_mib < 2000


def test_a_file_that_cannot_be_loaded_stops_no_one_else(exported: Exported, tmp_path: Path) -> None:
    half = tmp_path / "half.onnx"
    half.write_bytes(exported.file.read_bytes()[:500])
    with pytest.raises(FileDoesNotServe, match=r"half\.onnx ended its process with exit code 1"):
        time_file(half, provider="cpu", latency_runs=5)


def test_packages_that_serving_does_not_need_are_out_of_reach(exported: Exported) -> None:
    code = (
        "from components.serving.isolated_process import block_other_imports, serving_packages\n"
        "block_other_imports(serving_packages())\n"
        "import onnxruntime, numpy, PIL, pydantic\n"
        "for name in ('torch', 'mlflow', 'sklearn', 'onnx', 'pandas'):\n"
        "    try:\n        __import__(name)\n    except ModuleNotFoundError:\n        print(name)\n"
    )
    said = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    assert said.stdout.split() == ["torch", "mlflow", "sklearn", "onnx", "pandas"]


@pytest.mark.parametrize("images", [np.zeros((1, 17, 16, 3), np.uint8), np.zeros((1, 16, 16, 3), np.float32)])
def test_arrays_of_another_shape_or_type_are_refused(exported: Exported, images: np.ndarray) -> None:
    with pytest.raises(DataError, match=r"the model takes uint8 images of \[B, 16, 16, 3\]"):
        OnnxClassifier(exported.file).logits(images)


def test_a_provider_that_is_not_here_is_refused_with_those_that_are(exported: Exported) -> None:
    with pytest.raises(ServiceError, match="has no tensorrt provider on this machine"):
        OnnxClassifier(exported.file, provider="tensorrt")


@pytest.mark.filterwarnings("ignore:Specified provider")
def test_a_provider_whose_libraries_are_missing_is_no_silent_processor(
    exported: Exported, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As a build for GPUs says it on a machine without TensorRT's own libraries.
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: list(PROVIDERS.values()))
    with pytest.raises(ServiceError, match="can't start its tensorrt provider, though it was built with it"):
        OnnxClassifier(exported.file, provider="tensorrt")
