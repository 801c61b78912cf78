"""The serving check: the package that ships, asked recorded and malformed requests in a process with nothing else."""

import base64
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from components.serving import isolated_process
from components.serving.onnx_classifier import OnnxClassifier
from components.serving.prediction_rows import AnswerOptions, Record, answers_of
from components.shared.errors import DarkroomError
from components.shared.files import read_json, write_json
from flows.tracking import package_probe
from flows.tracking.packaging import Package

SERVING_CHECK = "serving_check.json"
_TOLERANCE = 1e-3
"""How far a number may be from the recorded one."""
_ANSWER_SECONDS = 60.0
"""After so many MLflow's server gives a request up, unless it is told otherwise."""
_PROCESS_SECONDS = 900.0


@dataclass(frozen=True)
class Check:
    name: str
    value: str
    limit: str
    passed: bool


@dataclass(frozen=True)
class ServingCheck:
    package_sha256: str
    checks: list[Check]

    @property
    def passed(self) -> bool:
        return all(check.passed for check in self.checks)

    @property
    def failures(self) -> str:
        """A clause; empty where all passed."""
        return "; ".join(f"{one.name}: {one.value}, should be {one.limit}" for one in self.checks if not one.passed)

    def as_record(self) -> dict[str, Any]:
        return asdict(self) | {"passed": self.passed}


class _DoesNotLoad(DarkroomError):
    """The clean process ended without an answer."""


def check_package(package: Package, contents: Sequence[bytes]) -> ServingCheck:
    """`contents` are image files, whose answers are recorded here, of the ONNX file alone, and asked of the package."""
    model = OnnxClassifier(package.model_file)
    recorded = [_answer(model, content) for content in contents]
    malformed = dict(_malformed(len(model.card.classes)))
    bodies = [*map(_body_of_image, contents), *malformed.values()]
    pinned = _pinned(package)
    try:
        said = _ask(package, bodies)
    except _DoesNotLoad as problem:
        return ServingCheck(package.sha256, [pinned, _loads(str(problem))])
    replies, refusals = said["replies"][: len(recorded)], said["replies"][len(recorded) :]
    checks = [
        pinned,
        _loads(f"with {', '.join(said['foreign'])} from elsewhere" if said["foreign"] else "yes"),
        _as_recorded(recorded, replies),
        _in_time(replies),
        *(_refused(name, reply) for name, reply in zip(malformed, refusals, strict=True)),
    ]
    return ServingCheck(package.sha256, checks)


def _answer(model: OnnxClassifier, content: bytes) -> Record:
    logits_1T = model.logits(model.square(content)[None])
    return answers_of(logits_1T, model.card, AnswerOptions(probabilities=True))[0]


def _body_of_image(content: bytes) -> str:
    return _body([base64.b64encode(content).decode("ascii")], probabilities=True)


def _body(images: list[Any], *, column: str = "image", **params: Any) -> str:
    return json.dumps({"dataframe_split": {"columns": [column], "data": [[one] for one in images]}, "params": params})


def _malformed(num_classes: int) -> Iterator[tuple[str, str]]:
    header = base64.b64encode(b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR").decode("ascii")
    yield "an empty file", _body([""])
    yield "a text", _body([base64.b64encode(b"not a picture").decode("ascii")])
    yield "half a PNG", _body([header])
    yield "what is no base64", _body(["no base64!"])
    yield "a number", _body([7])
    yield "no image", _body([])
    yield "another column", _body([header], column="picture")
    yield "half a request", _body([header])[:40]
    yield "more classes than there are", _body([header], top_k=num_classes + 1)


def _ask(package: Package, bodies: Sequence[str]) -> dict[str, Any]:
    """Raises _DoesNotLoad where the process breaks down, or takes too long."""
    with tempfile.TemporaryDirectory(prefix="darkroom-") as scratch:
        files = [Path(scratch, f"{number}.json") for number in range(len(bodies))]
        for file, body in zip(files, bodies, strict=True):
            file.write_text(body, encoding="utf-8")
        asked, answer = Path(scratch, "request.json"), Path(scratch, "answer.json")
        request = {
            "package": str(package.folder),
            "packages": [line.partition("==")[0] for line in package.requirements],
            "isolation": isolated_process.__file__,
            "bodies": [str(file) for file in files],
            "answer": str(answer),
        }
        write_json(asked, request)
        command = [sys.executable, "-I", "-B", str(package_probe.__file__), str(asked)]
        try:
            ended = subprocess.run(
                command, cwd=scratch, capture_output=True, text=True, check=False, timeout=_PROCESS_SECONDS
            )
        except subprocess.TimeoutExpired:
            raise _DoesNotLoad(f"no, it didn't end within {_PROCESS_SECONDS:g} s") from None
        if ended.returncode != 0 or not answer.exists():
            last = (ended.stderr.strip().splitlines() or ["it said nothing"])[-1]
            raise _DoesNotLoad(f"no, its process ended with exit code {ended.returncode}: {last}")
        found: dict[str, Any] = read_json(answer)
        return found


def _pinned(package: Package) -> Check:
    """Each requirement names the version that it is checked with."""
    loose = [line for line in package.requirements if line.partition("==")[2] != _installed(line.partition("==")[0])]
    value = f"{', '.join(loose)} isn't" if loose else "all of them"
    return Check("requirements pinned to what is installed", value, "all of them", passed=not loose)


def _installed(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _loads(value: str) -> Check:
    return Check("loads with its requirements and its own code alone", value, "yes", passed=value == "yes")


def _as_recorded(recorded: Sequence[Record], replies: Sequence[dict[str, Any]]) -> Check:
    apart = [_apart(known, _said(reply)) for known, reply in zip(recorded, replies, strict=True)]
    other = sum(one is None for one in apart)
    largest = max((one for one in apart if one is not None), default=0.0)
    return Check(
        f"answers to {len(recorded)} recorded images",
        f"{other} are others" if other else f"{largest:.2g} apart",
        f"at most {_TOLERANCE:g} apart",
        passed=not other and largest <= _TOLERANCE,
    )


def _said(reply: dict[str, Any]) -> Record:
    """The answer to a request of one image; empty where there is none."""
    if reply["status"] != 200:
        return {}
    (answer,) = json.loads(reply["text"])["predictions"]
    return dict(answer)


def _apart(known: Record, said: Record) -> float | None:
    """Of the numbers, the largest difference, in parts of those above 1; None where other words are said."""
    words = {name for name, value in known.items() if not isinstance(value, float)}
    if not known.keys() <= said.keys() or any(known[name] != said[name] for name in words):
        return None
    numbers = known.keys() - words
    return max(abs(float(known[name]) - float(said[name])) / max(1.0, abs(float(known[name]))) for name in numbers)


def _in_time(replies: Sequence[dict[str, Any]]) -> Check:
    slowest = max((reply["seconds"] for reply in replies), default=0.0)
    limit = f"at most {_ANSWER_SECONDS:g} s"
    return Check("slowest of these answers", f"{slowest:.3f} s", limit, passed=slowest <= _ANSWER_SECONDS)


def _refused(name: str, reply: dict[str, Any]) -> Check:
    """With a sentence and the status of a mistaken request, not with a traceback."""
    status, text = reply["status"], reply["text"]
    broken = status >= 500 or "stack_trace" in text
    value = "broke down" if broken else "refused" if status >= 400 else "took it"
    return Check(f"refuses {name}", value, "refused", passed=value == "refused")
