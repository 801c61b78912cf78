"""What a model step depends on, as one digest: its inputs, the settings that it reads, the code that it imports."""

import ast
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

from components.serving.isolated_process import RUNTIME, runtime_package
from components.shared.files import sha256_of_file, sha256_of_record

_OURS = ("components", "flows")
CODE_ROOT = Path(__file__).resolve().parents[2]
"""The folder that holds the code that runs: components/ and flows/."""


def fingerprint(
    step: str, *, inputs: dict[str, Any], settings: dict[str, Any], code: tuple[str, ...], packages: tuple[str, ...]
) -> str:
    """Equal fingerprints mean that the step would do the same again."""
    return sha256_of_record(
        {
            "step": step,
            "inputs": inputs,
            "settings": settings,
            "code": {name: sha256_of_file(path) for name, path in sorted(imported_modules(code).items())},
            "packages": {name: package_version(name) for name in packages},
        }
    )


def package_version(name: str) -> str:
    """Of ONNX Runtime that of the build which is installed, whatever it is called."""
    installed = runtime_package() if name == RUNTIME else name
    return version(name) if installed == name else f"{installed} {version(installed)}"


def code_digest(root: Path) -> str:
    """Of all of our modules below the folder, by their places and contents."""
    files = sorted(file for package in _OURS for file in (root / package).rglob("*.py"))
    return sha256_of_record({file.relative_to(root).as_posix(): sha256_of_file(file) for file in files})


def imported_modules(roots: tuple[str, ...]) -> dict[str, Path]:
    """Our own modules that the roots import, themselves included, wherever in their code the import stands."""
    found: dict[str, Path] = {}
    waiting = list(roots)
    while waiting:
        name = waiting.pop()
        path = _source(name)
        if path is None or name in found:
            continue
        found[name] = path
        waiting += _imports(path)
        waiting += [name.rpartition(".")[0]] if "." in name else []
    return found


@cache
def _imports(path: Path) -> tuple[str, ...]:
    names = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            # `from package import module` names a module too; one that isn't is passed over.
            names += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
    return tuple(name for name in names if name.split(".")[0] in _OURS)


@cache
def _source(name: str) -> Path | None:
    """The file of one of our modules, found without importing anything; None for a name inside a module."""
    place = CODE_ROOT.joinpath(*name.split("."))
    candidates = (place / "__init__.py", place.with_suffix(".py"))
    return next((path for path in candidates if path.exists()), None)
