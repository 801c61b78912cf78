"""A model's execution provider is stored with it: used if it is available, otherwise replaced with a message."""

import logging
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from colour_models import SIDE, colour_model
from PIL import Image

from components.serving import isolated_process, providers
from components.serving.isolated_process import serving_packages
from components.serving.onnx_classifier import OnnxClassifier
from components.serving.prediction_records import PredictionOptions
from components.serving.providers import PROVIDER_VARIABLE, PROVIDERS
from components.shared.errors import ServiceError, SettingsError, record_of
from flows.project.fingerprint import package_version
from flows.serving.predict import predict_files
from flows.tracking.image_scorer import ImageScorer
from flows.tracking.scoring_server import describe

FALLBACK = (
    "the model was measured on tensorrt, but ONNX Runtime has no tensorrt provider on this machine (it has cpu); "
    "it runs on cpu instead, where speed and numbers differ"
)


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file that was measured on a provider that is not available here."""
    return colour_model(tmp_path_factory.mktemp("elsewhere") / "model.onnx", provider="tensorrt")


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    Image.new("RGB", (SIDE, SIDE), "green").save(tmp_path / "photo.png")
    return tmp_path / "photo.png"


def test_a_model_from_elsewhere_runs_on_the_cpu_and_says_so(elsewhere: Path) -> None:
    model = OnnxClassifier(elsewhere)
    assert (model.provider, model.fallback_reason) == ("cpu", FALLBACK)
    logits = model.logits(np.full((1, SIDE, SIDE, 3), (0, 200, 0), np.uint8))
    assert model.card.classes[int(logits.argmax())] == "green"


def test_a_requested_provider_is_used_or_refused(elsewhere: Path, tmp_path: Path) -> None:
    requested = OnnxClassifier(elsewhere, provider="cpu")
    assert (requested.provider, requested.fallback_reason) == ("cpu", None)
    for file in (elsewhere, colour_model(tmp_path / "own.onnx")):
        with pytest.raises(ServiceError, match=r"no tensorrt provider .* install onnxruntime-gpu and the") as refused:
            OnnxClassifier(file, provider="tensorrt")
        # As it comes from another process.
        assert record_of(refused.value)["type"] == "ServiceError"
    with pytest.raises(SettingsError, match="there is no provider gpu; give one of cpu, cuda"):
        OnnxClassifier(elsewhere, provider="gpu")


def test_the_models_own_provider_is_used_where_it_is_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # The one other provider that the build for processors has: it leaves the operators of ONNX to the processor.
    monkeypatch.setitem(PROVIDERS, "openvino", "AzureExecutionProvider")
    requested = []
    session = providers.ort.InferenceSession

    def spied(*arguments: object, **options: object) -> object:
        requested.append(options["providers"])
        return session(*arguments, **options)

    monkeypatch.setattr(providers.ort, "InferenceSession", spied)
    model = OnnxClassifier(colour_model(tmp_path / "model.onnx", provider="openvino"))
    assert (model.provider, model.fallback_reason) == ("openvino", None)
    assert requested == [["AzureExecutionProvider", "CPUExecutionProvider"]]


def test_predict_reports_the_fallback(elsewhere: Path, photo: Path, caplog: pytest.LogCaptureFixture) -> None:
    def predicted(provider: str | None) -> str:
        out, model = photo.with_name("out.csv"), str(elsewhere)
        caplog.clear()
        predict_files([str(photo)], out=out, model=model, options=PredictionOptions(), provider=provider)
        assert ",green," in out.read_text()
        return caplog.text

    assert predicted(None).count(FALLBACK) == 1
    assert "tensorrt" not in predicted("cpu")
    with pytest.raises(ServiceError, match="no tensorrt provider"):
        predicted("tensorrt")


def test_the_scoring_server_reports_the_fallback_and_obeys_its_environment(
    elsewhere: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As with `darkroom serve` without --provider.
    monkeypatch.setenv(PROVIDER_VARIABLE, "")
    context = SimpleNamespace(artifacts={"model": str(elsewhere)})
    with caplog.at_level(logging.WARNING):
        ImageScorer().load_context(context)
    assert [record.message for record in caplog.records] == [FALLBACK]
    description = describe("m", [], OnnxClassifier(elsewhere))
    assert (description.provider, description.warning) == ("cpu", FALLBACK)
    caplog.clear()
    monkeypatch.setenv(PROVIDER_VARIABLE, "cpu")
    ImageScorer().load_context(context)
    assert caplog.records == []
    monkeypatch.setenv(PROVIDER_VARIABLE, "tensorrt")
    with pytest.raises(ServiceError, match="no tensorrt provider"):
        ImageScorer().load_context(context)


@pytest.mark.parametrize(
    ("problem", "message"),
    [
        (RuntimeError(), "as ONNX: RuntimeError; export it again, or install"),
        (ValueError("\nno graph\nat 3"), "as ONNX: no graph; export it again, or install"),
    ],
)
def test_any_error_of_the_runtime_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, problem: Exception, message: str
) -> None:
    refuse_with(problem, monkeypatch)
    with pytest.raises(ServiceError, match=message):
        OnnxClassifier(colour_model(tmp_path / "model.onnx"))


def test_a_lack_of_memory_is_no_fault_of_the_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    refuse_with(MemoryError(), monkeypatch)
    with pytest.raises(MemoryError):
        OnnxClassifier(colour_model(tmp_path / "model.onnx"))


def refuse_with(problem: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise problem

    monkeypatch.setattr(providers.ort, "InferenceSession", refuse)


def test_serving_requires_the_installed_build_for_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "onnxruntime" in serving_packages()
    plain = package_version("onnxruntime")
    monkeypatch.setattr(isolated_process, "_is_installed", lambda name: name == "onnxruntime-gpu")
    assert "onnxruntime-gpu" in serving_packages()
    assert "onnxruntime" not in serving_packages()
    monkeypatch.setattr("flows.project.fingerprint.version", lambda name: {"onnxruntime-gpu": "1.31.1"}[name])
    assert package_version("onnxruntime") == "onnxruntime-gpu 1.31.1" != plain
