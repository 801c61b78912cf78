"""A process that has only what serving needs: every other installed package is out of its reach."""

import re
import sys
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, distribution
from types import ModuleType

RUNTIME = "onnxruntime"
RUNTIME_BUILDS = {"tensorrt": "onnxruntime-gpu", "cuda": "onnxruntime-gpu", "openvino": "onnxruntime-openvino"}
"""By provider: builds of ONNX Runtime that have it come as packages of other names."""
_IMAGE_STACK = ("numpy", "opencv-python-headless", "pillow", "pydantic", "simplejpeg")
_NAME = re.compile(r"[A-Za-z0-9._-]+")
_OF_THIS_PLATFORM = "_sysconfigdata_"
"""Begins the name of a module of the standard library that isn't among its names, for it ends in the platform's."""


def serving_packages() -> tuple[str, ...]:
    """Whoever serves installs these, and what they themselves require."""
    return (*_IMAGE_STACK, runtime_package())


def runtime_package() -> str:
    """The build of ONNX Runtime that is installed."""
    return next((name for name in RUNTIME_BUILDS.values() if _is_installed(name)), RUNTIME)


def forget_other_packages(packages: Sequence[str]) -> None:
    """From now on importing anything but the standard library, Darkroom's components and these packages fails.

    What the packages require themselves is within reach too.
    """
    sys.meta_path.insert(0, _OutOfReach(_modules_of(packages)))


class _OutOfReach:
    def __init__(self, reachable: set[str]) -> None:
        self._reachable = reachable | set(sys.stdlib_module_names) | {"components"}

    def find_spec(self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None) -> None:
        top = name.partition(".")[0]
        if top not in self._reachable and not top.startswith(_OF_THIS_PLATFORM):
            raise ModuleNotFoundError(f"{name} is not among what serving needs", name=name)


def _is_installed(package: str) -> bool:
    try:
        distribution(package)
    except PackageNotFoundError:
        return False
    return True


def _modules_of(packages: Sequence[str]) -> set[str]:
    """Top-level modules of the packages and of everything that they require."""
    modules: set[str] = set()
    seen: set[str] = set()
    waiting = list(packages)
    while waiting:
        package = waiting.pop()
        if package in seen:
            continue
        seen.add(package)
        try:
            found = distribution(package)
        except PackageNotFoundError:
            # An optional or another platform's requirement.
            continue
        modules |= {file.parts[0].partition(".")[0] for file in found.files or []}
        waiting += [
            name.group() for line in found.requires or [] if "extra ==" not in line if (name := _NAME.match(line))
        ]
    return modules
