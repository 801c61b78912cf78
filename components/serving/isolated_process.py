"""Restricts a process to the packages that serving needs: importing any other installed package fails."""

import re
import sys
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, distribution
from types import ModuleType

RUNTIME = "onnxruntime"
RUNTIME_BUILDS = {"tensorrt": "onnxruntime-gpu", "cuda": "onnxruntime-gpu", "openvino": "onnxruntime-openvino"}
"""By provider: the package with the build of ONNX Runtime that contains it."""
_IMAGE_STACK = ("numpy", "opencv-python-headless", "pillow", "pydantic", "simplejpeg")
_PACKAGE_NAME = re.compile(r"[A-Za-z0-9._-]+")
_SYSCONFIG_PREFIX = "_sysconfigdata_"
"""Prefix of a standard module that sys.stdlib_module_names lacks, for its name ends with the platform's."""


def serving_packages() -> tuple[str, ...]:
    """Packages that serving needs; what they require themselves is not listed."""
    return (*_IMAGE_STACK, runtime_package())


def runtime_package() -> str:
    """Name of the package with the installed build of ONNX Runtime."""
    return next((name for name in RUNTIME_BUILDS.values() if _is_installed(name)), RUNTIME)


def block_other_imports(packages: Sequence[str]) -> None:
    """From now on only the standard library, Darkroom's components, these packages and their requirements import."""
    sys.meta_path.insert(0, _ImportBlocker(_modules_of(packages)))


class _ImportBlocker:
    def __init__(self, allowed: set[str]) -> None:
        self._allowed = allowed | set(sys.stdlib_module_names) | {"components"}

    def find_spec(self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None) -> None:
        top = name.partition(".")[0]
        if top not in self._allowed and not top.startswith(_SYSCONFIG_PREFIX):
            raise ModuleNotFoundError(f"serving may not import {name}", name=name)


def _is_installed(package: str) -> bool:
    try:
        distribution(package)
    except PackageNotFoundError:
        return False
    return True


def _modules_of(packages: Sequence[str]) -> set[str]:
    """Top-level modules of the packages and of all that they require."""
    modules: set[str] = set()
    visited: set[str] = set()
    waiting = list(packages)
    while waiting:
        package = waiting.pop()
        if package in visited:
            continue
        visited.add(package)
        try:
            installed = distribution(package)
        except PackageNotFoundError:
            # The requirement is optional or of another platform.
            continue
        modules |= {file.parts[0].partition(".")[0] for file in installed.files or []}
        waiting += [
            name.group()
            for line in installed.requires or []
            if "extra ==" not in line
            if (name := _PACKAGE_NAME.match(line))
        ]
    return modules
