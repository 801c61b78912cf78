"""What the machine offers a run: disk, GPU, ONNX Runtime's provider."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Literal

from components.serving.isolated_process import runtime_package
from components.shared.errors import DarkroomError
from flows.project.gpu import num_gpus

State = Literal["ok", "warn", "bad"]

_ANSWER_SECONDS = 2.0
_SCARCE_BYTES, _TIGHT_BYTES = 500 * 10**6, 5 * 10**9


@dataclass(frozen=True)
class Check:
    name: str
    state: State
    found: str
    remedy: str = ""


def machine_checks(place: Path, *, provider: str | None) -> Iterator[Check]:
    """Of the disk that holds the place, the GPU, and the provider of ONNX Runtime if one is named."""
    yield _disk(place)
    yield _gpu()
    if provider is not None:
        yield _provider(provider)


def _disk(place: Path) -> Check:
    free = shutil.disk_usage(_nearest_existing(place)).free
    found = f"{free / 10**9:.1f} GB free"
    if free < _SCARCE_BYTES:
        return Check("disk", "bad", found, "make room: a run writes data, models and databases")
    if free < _TIGHT_BYTES:
        return Check("disk", "warn", found, "make room before a large data set is brought in")
    return Check("disk", "ok", found)


def _gpu() -> Check:
    if num_gpus() == 0:
        return Check("gpu", "ok", "none that a driver offers: training uses the CPU")
    if release("torch").endswith("+cpu"):
        return Check("gpu", "warn", "a GPU is here, but torch is built for the CPU", "install torch for CUDA")
    return Check("gpu", "ok", _gpu_names() or f"{num_gpus()} that the driver offers")


def _provider(name: str) -> Check:
    from components.serving.providers import check_provider

    try:
        check_provider(name)
    except DarkroomError as problem:
        sentence, _, remedy = str(problem).partition("; ")
        return Check("provider", "bad", sentence, remedy)
    return Check("provider", "ok", f"ONNX Runtime {release(runtime_package())} has {name}")


def _gpu_names() -> str:
    """An empty text where nvidia-smi isn't there or doesn't answer."""
    command = ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=_ANSWER_SECONDS)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return ", ".join(line.strip() for line in answer.stdout.splitlines()) if answer.returncode == 0 else ""


def writable(folder: Path) -> bool:
    """Whether files can be made in the folder, or the folder itself can."""
    place = _nearest_existing(folder)
    return place.is_dir() and os.access(place, os.W_OK | os.X_OK)


def _nearest_existing(path: Path) -> Path:
    return next(folder for folder in (path, *path.parents) if folder.exists())


def release(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "unknown"
