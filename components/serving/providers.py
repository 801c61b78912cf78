"""ONNX Runtime's execution providers: what computes a model, and what is done where one isn't here."""

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
"""Of the environment: what the scoring server, `predict` and `serve` compute with, rather than the model's own."""

_INNARDS = re.compile(r"\[ONNXRuntimeError\] : \d+ : \w+ : |/onnxruntime_src/\S+:\d+ [^(]*\([^)]*\)(?: const)? ")
"""Codes and places of its own source, which ONNX Runtime puts before and between what it says."""
_REASON_LETTERS = 200


class ProviderMissing(ServiceError):
    """The message names the remedy; `reason` is the clause before it."""

    def __init__(self, provider: str, reason: str) -> None:
        self.reason = reason
        build = RUNTIME_BUILDS.get(provider, RUNTIME)
        super().__init__(
            f"{reason}; install {build} and the libraries of {provider}, or name a provider that is here "
            f"(quantize.provider, --provider or {PROVIDER_VARIABLE})"
        )


def check_provider(name: str) -> None:
    """Raises SettingsError for a name that no provider has, ProviderMissing where ONNX Runtime was built without it."""
    if name not in PROVIDERS:
        raise SettingsError(f"there is no provider {name}; give one of {', '.join(PROVIDERS)}")
    available = ort.get_available_providers()
    if PROVIDERS[name] not in available:
        here = ", ".join(short for short, full in PROVIDERS.items() if full in available)
        raise ProviderMissing(name, f"ONNX Runtime has no {name} provider on this machine (it has {here})")


def open_session(content: bytes, file: Path, provider: str, *, threads: int) -> ort.InferenceSession:
    """Of the bytes of a file; raises as check_provider does, ServiceError where they can't be loaded.

    Raises ProviderMissing, too, where the provider's own libraries aren't there.
    """
    check_provider(provider)
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    # What the provider can't run falls to the processor.
    chain = dict.fromkeys([PROVIDERS[provider], PROVIDERS["cpu"]])
    try:
        session = ort.InferenceSession(content, options, providers=list(chain))
    # That is this machine's lack, not the file's.
    except MemoryError:
        raise
    # onnxruntime raises kinds of its own that share no base but Exception.
    except Exception as problem:
        raise ServiceError(
            f"{file} can't be loaded as ONNX: {runtime_reason(problem)}; export it again, or install an {RUNTIME} that "
            f"can run it (here is {ort.__version__})"
        ) from None
    # Where a provider's own libraries are missing ONNX Runtime says so in its log alone, and goes on without it.
    if session.get_providers()[0] != PROVIDERS[provider]:
        reason = f"ONNX Runtime could not start its {provider} provider, though it was built with it"
        raise ProviderMissing(provider, reason)
    return session


def runtime_reason(problem: Exception) -> str:
    """What ONNX Runtime says for a reason, as a clause."""
    return _INNARDS.sub("", first_line(problem)).strip(" .")[:_REASON_LETTERS]
