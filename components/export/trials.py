"""Trying a model file in a clean process, from outside it."""

import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from components.errors import DarkroomError
from components.files import read_json, write_json
from components.serving.trial import Check, RecordedRequest, TrialReport, TrialRequest


class FileDoesNotServe(DarkroomError):
    """The clean process could not load or run the file."""


@dataclass(frozen=True)
class Recorded:
    """Bytes of image files and the probabilities [N, K] that the model is known to answer."""

    contents: Sequence[bytes]
    probabilities_NK: NDArray[np.float32]


def time_file(file: Path, *, provider: str, latency_runs: int) -> TrialReport:
    """Latency, throughput and memory of a file; raises FileDoesNotServe where it doesn't run."""
    with tempfile.TemporaryDirectory(prefix="darkroom-") as scratch:
        return _try(file, Path(scratch), provider=provider, latency_runs=latency_runs, recorded=[])


def check_serving(file: Path, recorded: Recorded, *, provider: str) -> list[Check]:
    """Whether a process with nothing but the serving packages loads the file, answers as recorded, refuses the rest."""
    with tempfile.TemporaryDirectory(prefix="darkroom-") as scratch:
        requests = []
        for number, content in enumerate(recorded.contents):
            image = Path(scratch) / f"{number}.image"
            image.write_bytes(content)
            requests.append(
                RecordedRequest(
                    image=str(image), probabilities=recorded.probabilities_NK[number].astype(float).tolist()
                )
            )
        loads = "loads with the serving packages alone"
        try:
            report = _try(file, Path(scratch), provider=provider, latency_runs=0, recorded=requests)
        except FileDoesNotServe as problem:
            return [Check(name=loads, value=str(problem), limit="yes", passed=False)]
    return [Check(name=loads, value="yes", limit="yes", passed=True), *report.checks]


def _try(
    file: Path, scratch: Path, *, provider: str, latency_runs: int, recorded: list[RecordedRequest]
) -> TrialReport:
    answer = scratch / "report.json"
    request = TrialRequest(
        model=str(file), answer=str(answer), provider=provider, latency_runs=latency_runs, recorded=recorded
    )
    write_json(scratch / "request.json", request.model_dump())
    finished = subprocess.run(
        [sys.executable, "-m", "components.serving.trial", str(scratch / "request.json")],
        capture_output=True,
        text=True,
        check=False,
    )
    if finished.returncode != 0 or not answer.exists():
        last = (finished.stderr.strip().splitlines() or ["it said nothing"])[-1]
        raise FileDoesNotServe(f"{file.name} ended its process with exit code {finished.returncode}: {last}")
    return TrialReport.from_section("report", read_json(answer))
