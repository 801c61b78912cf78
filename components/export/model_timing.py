"""Trying a model file in a clean process, from outside it."""

import subprocess
import sys
import tempfile
from pathlib import Path

from components.serving.timing_probe import ProbeReport, ProbeRequest
from components.shared.errors import DarkroomError
from components.shared.files import read_json, write_json


class FileDoesNotServe(DarkroomError):
    """The clean process could not load or run the file."""


def time_file(file: Path, *, provider: str, latency_runs: int) -> ProbeReport:
    """Latency, throughput and memory of a file; raises FileDoesNotServe where it doesn't run."""
    with tempfile.TemporaryDirectory(prefix="darkroom-") as scratch:
        asked, answer = Path(scratch, "request.json"), Path(scratch, "report.json")
        request = ProbeRequest(model=str(file), report=str(answer), provider=provider, latency_runs=latency_runs)
        write_json(asked, request.model_dump())
        finished = subprocess.run(
            [sys.executable, "-m", "components.serving.timing_probe", str(asked)],
            capture_output=True,
            text=True,
            check=False,
        )
        if finished.returncode != 0 or not answer.exists():
            last = (finished.stderr.strip().splitlines() or ["it said nothing"])[-1]
            raise FileDoesNotServe(f"{file.name} ended its process with exit code {finished.returncode}: {last}")
        return ProbeReport.from_section("report", read_json(answer))
