"""What a step depends on, as one digest: its inputs, the settings that it reads, and the code that computes.

Of the code counts what computes and nothing else: a changed comment, docstring, message, log line or page leaves every
fingerprint as it is, so that nothing is trained or validated again for a better sentence. What doesn't count:

- comments, formatting, docstrings, annotations of functions, and imports for type checkers alone;
- statements that log, warn or print, and the text of what is raised;
- functions that return text for people: those annotated to return `Sentence` (components.shared.plural);
- the modules of PRESENTATION, which only say or draw what was computed.

Everything else counts, in each module that a step's code imports, however far away.
"""

import ast
import contextlib
import hashlib
import json
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import TypeAlias

from components.serving.isolated_process import RUNTIME, runtime_package
from components.shared.files import read_json, sha256_of_file, sha256_of_record, write_json

_OURS = ("components", "flows")
CODE_ROOT = Path(__file__).resolve().parents[2]
"""The folder that holds the code that runs: components/ and flows/."""
PRESENTATION = (
    "components.reporting",
    "components.shared.errors",
    "components.shared.progress",
    "components.shared.plural",
    "flows.console",
    "flows.report",
)
"""Modules and packages that say or draw results and compute none."""
_LOGGING = {"debug", "info", "warning", "error", "exception", "critical", "log"}
_PRINTING = {"print", "say", "warn"}
_SENTENCE = "Sentence"
_MOST_PARSED = 5000
_unsaved: set[str] = set()
"""The sources that this process has parsed and not stored yet."""


Json: TypeAlias = "bool | int | float | str | Sequence[Json] | Mapping[str, Json] | None"
Facts: TypeAlias = Mapping[str, Json]
"""What a fingerprint is made of, by name; settings and inputs of every type of step can stand in it."""


def fingerprint(step: str, *, inputs: Facts, settings: Facts, code: tuple[str, ...], packages: tuple[str, ...]) -> str:
    """Equal fingerprints mean that the step would compute the same result again."""
    return sha256_of_record(
        {
            "step": step,
            "inputs": inputs,
            "settings": settings,
            "code": code_fingerprint(code),
            "packages": {name: package_version(name) for name in packages},
        }
    )


def code_fingerprint(roots: tuple[str, ...]) -> str:
    """A digest of what computes in the modules of these names and in all modules of ours that they import."""
    modules = imported_modules(roots, without=PRESENTATION)
    digests = {name: _module(path).computing_sha256 for name, path in sorted(modules.items())}
    _store_parsed()
    return sha256_of_record(digests)


def package_version(name: str) -> str:
    """The version of an installed package; of ONNX Runtime that of whichever build is installed."""
    installed = runtime_package() if name == RUNTIME else name
    return version(name) if installed == name else f"{installed} {version(installed)}"


def code_digest(root: Path) -> str:
    """A digest of all of our modules below the folder, by their paths and bytes."""
    files = sorted(file for package in _OURS for file in (root / package).rglob("*.py"))
    return sha256_of_record({file.relative_to(root).as_posix(): sha256_of_file(file) for file in files})


def imported_modules(roots: tuple[str, ...], *, without: tuple[str, ...] = ()) -> dict[str, Path]:
    """The file of each module of ours that the roots import, themselves included, `without` modules or packages."""
    found: dict[str, Path] = {}
    waiting = list(roots)
    while waiting:
        name = waiting.pop()
        path = _source(name)
        if path is None or name in found or any(name == one or name.startswith(f"{one}.") for one in without):
            continue
        found[name] = path
        waiting += _module(path).imports
        waiting += [name.rpartition(".")[0]] if "." in name else []
    return found


@cache
def _source(name: str) -> Path | None:
    """The file of one of our modules, found without importing anything; None for a name inside a module."""
    path = CODE_ROOT.joinpath(*name.split("."))
    candidates = (path / "__init__.py", path.with_suffix(".py"))
    return next((path for path in candidates if path.exists()), None)


@dataclass(frozen=True)
class _Module:
    """What counts of one source file."""

    computing_sha256: str
    """The digest of its code without anything that doesn't compute."""
    imports: tuple[str, ...]
    """Names of ours that it imports as it runs, wherever in its code the import stands."""


@cache
def _module(path: Path) -> _Module:
    source = path.read_bytes()
    sha256 = hashlib.sha256(source).hexdigest()
    parsed = _parsed()
    if sha256 not in parsed:
        imports = _imports(ast.parse(source))
        computing = ast.unparse(_WithoutProse().visit(ast.parse(source)))
        _unsaved.add(sha256)
        parsed[sha256] = [hashlib.sha256(computing.encode()).hexdigest(), *imports]
    return _Module(parsed[sha256][0], tuple(parsed[sha256][1:]))


def _imports(tree: ast.Module) -> list[str]:
    names = []
    for node in ast.walk(_WithoutTypeChecking().visit(tree)):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            # `from package import module` names a module too; a name that is none has no source and is skipped.
            names += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
    return [name for name in names if name.split(".")[0] in _OURS]


@cache
def _parsed() -> dict[str, list[str]]:
    """What counts of source files by their SHA-256, from this user's earlier processes: parsing takes a second."""
    try:
        stored: dict[str, list[str]] = read_json(_cache_file())
    except (OSError, json.JSONDecodeError, UnicodeDecodeError):
        return {}
    return stored


def _store_parsed() -> None:
    """Adds what this process has parsed to the cache, which starts again once it holds many old sources."""
    parsed = _parsed()
    if not _unsaved:
        return
    # Without a cache the next process parses again.
    with contextlib.suppress(OSError):
        write_json(_cache_file(), parsed if len(parsed) <= _MOST_PARSED else {one: parsed[one] for one in _unsaved})
    _unsaved.clear()


def _cache_file() -> Path:
    """Of this code and Python: both decide what is found."""
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path("~/.cache").expanduser())
    own = sha256_of_file(Path(__file__))[:12]
    return base / "darkroom" / f"code-{own}-{sys.version_info.major}.{sys.version_info.minor}.json"


class _WithoutTypeChecking(ast.NodeTransformer):
    """Removes what only type checkers read."""

    def visit_If(self, node: ast.If) -> ast.AST | None:
        if isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING" and not node.orelse:
            return None
        return self.generic_visit(node)


class _WithoutProse(_WithoutTypeChecking):
    """Removes what the module's docstring says doesn't count."""

    def visit_Expr(self, node: ast.Expr) -> ast.AST | None:
        prose = isinstance(node.value, ast.Constant) or _is_said(node.value)
        return None if prose else self.generic_visit(node)

    def visit_Raise(self, node: ast.Raise) -> ast.AST:
        if isinstance(node.exc, ast.Call):
            node.exc = node.exc.func
        node.cause = None
        return self.generic_visit(node)

    def visit_Assert(self, node: ast.Assert) -> ast.AST:
        node.msg = None
        return self.generic_visit(node)

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        says = node.returns is not None and _SENTENCE in {
            name.id for name in ast.walk(node.returns) if isinstance(name, ast.Name)
        }
        node.returns = None
        for argument in [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]:
            argument.annotation = None
        for variadic in filter(None, (node.args.vararg, node.args.kwarg)):
            variadic.annotation = None
        if says:
            node.body = [ast.Pass()]
        return self._with_body(node)

    def generic_visit(self, node: ast.AST) -> ast.AST:
        return self._with_body(node)

    def _with_body(self, node: ast.AST) -> ast.AST:
        """The node with its children visited; a block that has nothing left is `pass`."""
        super().generic_visit(node)
        if isinstance(getattr(node, "body", None), list) and not isinstance(node, ast.Module) and not node.body:  # type: ignore[attr-defined]
            node.body = [ast.Pass()]  # type: ignore[attr-defined]
        return node


def _is_said(value: ast.expr) -> bool:
    """Whether an expression is a call that logs, warns or prints."""
    if not isinstance(value, ast.Call):
        return False
    function = value.func
    if isinstance(function, ast.Name):
        return function.id in _PRINTING
    if not isinstance(function, ast.Attribute):
        return False
    owner = function.value.id.lower() if isinstance(function.value, ast.Name) else ""
    return (function.attr in _LOGGING and "log" in owner) or (owner == "warnings" and function.attr == "warn")
