"""The serving check: a model's package answers recorded and malformed requests in an isolated process."""

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
from components.serving.prediction_records import PredictionOptions, Record, prediction_records
from components.shared.errors import DarkroomError
from components.shared.files import read_json, write_json
from flows.tracking import package_probe
from flows.tracking.packaging import Package

SERVING_CHECK = "serving_check.json"
_TOLERANCE = 1e-3
"""Largest difference of a number from the recorded one."""
_MAX_RESPONSE_SECONDS = 60.0
"""MLflow's default timeout of a request."""
_PROCESS_TIMEOUT_SECONDS = 900.0


@dataclass(frozen=True)
class CheckResult:
    name: str
    value: str
    limit: str
    passed: bool


@dataclass(frozen=True)
class ServingCheck:
    package_sha256: str
    checks: list[CheckResult]

    @property
    def passed(self) -> bool:
        return all(check.passed for check in self.checks)

    @property
    def failures(self) -> str:
        """The failed checks as a clause; empty if all passed."""
        return "; ".join(f"{one.name}: {one.value}, should be {one.limit}" for one in self.checks if not one.passed)

    def as_record(self) -> dict[str, Any]:
        return asdict(self) | {"passed": self.passed}


@dataclass(frozen=True)
class Reply:
    """The response to one request."""

    status: int
    text: str
    seconds: float


@dataclass(frozen=True)
class _ProbeReport:
    """What the isolated process found."""

    replies: list[Reply]
    foreign: list[str]
    """Modules of Darkroom that were loaded from outside the package."""


class _DoesNotLoad(DarkroomError):
    """The isolated process ended without a report."""


def check_package(package: Package, contents: Sequence[bytes]) -> ServingCheck:
    """Compares the package's predictions for the image files `contents` with those of the ONNX file alone."""
    model = OnnxClassifier(package.model_file)
    recorded = [_predict(model, content) for content in contents]
    malformed = dict(_malformed(len(model.card.classes)))
    bodies = [*map(_body_of_image, contents), *malformed.values()]
    pinned = _pinned(package)
    try:
        report = _probe(package, bodies)
    except _DoesNotLoad as problem:
        return ServingCheck(package.sha256, [pinned, _loads(str(problem))])
    replies, refusals = report.replies[: len(recorded)], report.replies[len(recorded) :]
    checks = [
        pinned,
        _loads(f"with {', '.join(report.foreign)} from outside the package" if report.foreign else "yes"),
        _compare(recorded, replies),
        _in_time(replies),
        *(_refused(name, reply) for name, reply in zip(malformed, refusals, strict=True)),
    ]
    return ServingCheck(package.sha256, checks)


def _predict(model: OnnxClassifier, content: bytes) -> Record:
    logits_1T = model.logits(model.square(content)[None])
    return prediction_records(logits_1T, model.card, PredictionOptions(probabilities=True))[0]


def _body_of_image(content: bytes) -> str:
    return _body([base64.b64encode(content).decode("ascii")], probabilities=True)


def _body(images: list[Any], *, column: str = "image", **params: Any) -> str:
    return json.dumps({"dataframe_split": {"columns": [column], "data": [[one] for one in images]}, "params": params})


def _malformed(num_classes: int) -> Iterator[tuple[str, str]]:
    header = base64.b64encode(b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR").decode("ascii")
    yield "an empty file", _body([""])
    yield "a text", _body([base64.b64encode(b"not a picture").decode("ascii")])
    yield "half a PNG", _body([header])
    yield "text that is no base64", _body(["no base64!"])
    yield "a number", _body([7])
    yield "no image", _body([])
    yield "another column", _body([header], column="picture")
    yield "half a request", _body([header])[:40]
    yield "more classes than there are", _body([header], top_k=num_classes + 1)


def _probe(package: Package, bodies: Sequence[str]) -> _ProbeReport:
    """Report of the isolated process; raises _DoesNotLoad if it fails or takes too long."""
    with tempfile.TemporaryDirectory(prefix="darkroom-") as scratch:
        files = [Path(scratch, f"{number}.json") for number in range(len(bodies))]
        for file, body in zip(files, bodies, strict=True):
            file.write_text(body, encoding="utf-8")
        request_file, report_file = Path(scratch, "request.json"), Path(scratch, "report.json")
        request = {
            "package": str(package.folder),
            "packages": [line.partition("==")[0] for line in package.requirements],
            "isolation": isolated_process.__file__,
            "bodies": [str(file) for file in files],
            "report": str(report_file),
        }
        write_json(request_file, request)
        command = [sys.executable, "-I", "-B", str(package_probe.__file__), str(request_file)]
        try:
            ended = subprocess.run(
                command, cwd=scratch, capture_output=True, text=True, check=False, timeout=_PROCESS_TIMEOUT_SECONDS
            )
        except subprocess.TimeoutExpired:
            raise _DoesNotLoad(f"no, it did not end within {_PROCESS_TIMEOUT_SECONDS:g} s") from None
        if ended.returncode != 0 or not report_file.exists():
            last = (ended.stderr.strip().splitlines() or ["it printed nothing"])[-1]
            raise _DoesNotLoad(f"no, its process ended with exit code {ended.returncode}: {last}")
        report = read_json(report_file)
        return _ProbeReport([Reply(**reply) for reply in report["replies"]], report["foreign"])


def _pinned(package: Package) -> CheckResult:
    """Each requirement must pin the installed version, with which the package is checked."""
    loose = [line for line in package.requirements if line.partition("==")[2] != _installed(line.partition("==")[0])]
    value = f"all but {', '.join(loose)}" if loose else "all"
    return CheckResult("requirements pinned to the installed versions", value, "all", passed=not loose)


def _installed(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _loads(value: str) -> CheckResult:
    return CheckResult("loads with only its requirements and its own code", value, "yes", passed=value == "yes")


def _compare(recorded: Sequence[Record], replies: Sequence[Reply]) -> CheckResult:
    pairs = zip(recorded, map(_prediction_in, replies), strict=True)
    differences = [_difference(expected, predicted) for expected, predicted in pairs]
    num_other = differences.count(None)
    largest = max((one for one in differences if one is not None), default=0.0)
    return CheckResult(
        f"predictions for {len(recorded)} recorded images",
        f"{num_other} differ" if num_other else f"differ by {largest:.2g}",
        f"differ by at most {_TOLERANCE:g}",
        passed=not num_other and largest <= _TOLERANCE,
    )


def _prediction_in(reply: Reply) -> Record:
    """The prediction for a request of one image; empty if the request failed."""
    if reply.status != 200:
        return {}
    (prediction,) = json.loads(reply.text)["predictions"]
    return dict(prediction)


def _difference(expected: Record, predicted: Record) -> float | None:
    """Largest difference of a number, relative if the number exceeds 1; None if a text or truth value differs."""
    others = {name for name, value in expected.items() if not isinstance(value, float)}
    if not expected.keys() <= predicted.keys() or any(expected[name] != predicted[name] for name in others):
        return None
    pairs = [(float(expected[name]), float(predicted[name])) for name in expected.keys() - others]
    return max(abs(one - other) / max(1.0, abs(one)) for one, other in pairs)


def _in_time(replies: Sequence[Reply]) -> CheckResult:
    slowest = max((reply.seconds for reply in replies), default=0.0)
    limit = f"at most {_MAX_RESPONSE_SECONDS:g} s"
    return CheckResult("slowest of these responses", f"{slowest:.3f} s", limit, passed=slowest <= _MAX_RESPONSE_SECONDS)


def _refused(name: str, reply: Reply) -> CheckResult:
    """The server must return a message and a status of 4xx, no traceback."""
    status, text = reply.status, reply.text
    failed = status >= 500 or "stack_trace" in text
    value = "failed" if failed else "refused" if status >= 400 else "accepted"
    return CheckResult(f"refuses {name}", value, "refused", passed=value == "refused")
