"""ONNX Runtime's execution providers: which are available, and how a model is opened on one."""

import re
from pathlib import Path

import onnxruntime as ort

from components.serving.isolated_process import RUNTIME, RUNTIME_BUILDS
from components.shared.errors import ServiceError, SettingsError, first_line

PROVIDERS = {
    "cpu": "CPUExecutionProvider",
    "cuda": "CUDAExecutionProvider",
    "tensorrt": "TensorrtExecutionProvider",
    "openvino": "OpenVINOExecutionProvider",
}
PROVIDER_VARIABLE = "DARKROOM_PROVIDER"
"""Environment variable with the provider for the scoring server, `predict` and `serve`, instead of the model's own."""

_SOURCE_LOCATIONS = re.compile(
    r"\[ONNXRuntimeError\] : \d+ : \w+ : |/onnxruntime_src/\S+:\d+ [^(]*\([^)]*\)(?: const)? "
)
"""Error codes and source locations that ONNX Runtime mixes into its messages."""
_MAX_REASON_LENGTH = 200


class ProviderMissing(ServiceError):
    """A provider is not available; `reason` is the message without the remedy."""

    def __init__(self, provider: str, reason: str) -> None:
        self.reason = reason
        build = RUNTIME_BUILDS.get(provider, RUNTIME)
        super().__init__(
            f"{reason}; install {build} and the libraries of {provider}, or choose an available provider "
            f"(quantize.provider, --provider or {PROVIDER_VARIABLE})"
        )


def check_provider(name: str) -> None:
    """Raises SettingsError for an unknown name, ProviderMissing if ONNX Runtime was built without the provider."""
    if name not in PROVIDERS:
        raise SettingsError(f"there is no provider {name}; give one of {', '.join(PROVIDERS)}")
    available = ort.get_available_providers()
    if PROVIDERS[name] not in available:
        names = ", ".join(short for short, full in PROVIDERS.items() if full in available)
        raise ProviderMissing(name, f"ONNX Runtime has no {name} provider on this machine (it has {names})")


def open_session(content: bytes, file: Path, provider: str, *, threads: int) -> ort.InferenceSession:
    """A session of the file's content; raises ServiceError if it can't be loaded.

    Raises like check_provider, and ProviderMissing also if the provider's own libraries are missing.
    """
    check_provider(provider)
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    # The CPU runs the operators that the provider can't.
    chain = dict.fromkeys([PROVIDERS[provider], PROVIDERS["cpu"]])
    try:
        session = ort.InferenceSession(content, options, providers=list(chain))
    # This machine has too little memory; the file may be good.
    except MemoryError:
        raise
    # onnxruntime's own exceptions share no base but Exception.
    except Exception as problem:
        raise ServiceError(
            f"{file} can't be loaded as ONNX: {runtime_reason(problem)}; export it again, or install an {RUNTIME} that "
            f"can run it (installed is {ort.__version__})"
        ) from None
    # If a provider's own libraries are missing, ONNX Runtime only logs that and continues without it.
    if session.get_providers()[0] != PROVIDERS[provider]:
        reason = f"ONNX Runtime can't start its {provider} provider, though it was built with it"
        raise ProviderMissing(provider, reason)
    return session


def runtime_reason(problem: Exception) -> str:
    """ONNX Runtime's reason, as a clause for a message."""
    return _SOURCE_LOCATIONS.sub("", first_line(problem)).strip(" .")[:_MAX_REASON_LENGTH]
