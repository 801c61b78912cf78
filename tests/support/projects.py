"""What tests are made of: project folders like a fresh clone, drawn images, free ports."""

import contextlib
import json
import os
import resource
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from components.data.raw.ingest import write_raw
from components.data.sources import IngestSettings, find
from components.shared.files import read_json
from components.shared.progress import silent
from flows.project.dvc import data_paths
from flows.project.params import override
from flows.project.project import Project
from flows.project.sections import read_section
from flows.report.data_pages import render_data_pages
from flows.session.session import Prepared, Session
from flows.stages.augment import augment
from flows.stages.split import split
from flows.stages.validate import ValidatePaths, validate
from flows.tracking.registry import Version
from flows.tracking.runs import Tracking

REPOSITORY = Path(__file__).resolve().parents[2]
QUICK = (
    "augment.copies=0",
    "evaluate.bootstrap_resamples=20",
    "evaluate.robustness_images=4",
    "evaluate.inspected_images=4",
    "evaluate.embedding_map_images=20",
    "quantize.calibration_images=16",
    "quantize.latency_runs=10",
    "quantize.parity_images=8",
    # Of nets this small int8 loses too much on a whim, and each further way to it is a process of its own.
    "quantize.search_trials=1",
    "quantize.qat={epochs: 0, learning_rate: 0.0001}",
)
"""Every step does what it does, on little."""
OUTSIDE = (
    *("MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI", "PREFECT_API_URL", "PREFECT_HOME"),
    *("DARKROOM_HOME", "DARKROOM_PROJECT", "DARKROOM_PROVIDER"),
)


def validate_in(folder: Path, params: Path) -> str:
    """The validate stage over folder/raw, into the same folder."""
    (folder / "reference").mkdir(exist_ok=True)
    paths = ValidatePaths(
        params=params,
        raw=folder / "raw",
        reference=folder / "reference",
        validated=folder / "validated",
        report=folder / "validation.json",
    )
    return validate(paths, silent)


def data_pages_in(folder: Path) -> list[Path]:
    """Draws validation.html and leaks.html from what `validate_in` and the split stage wrote into the folder."""
    pipeline = (REPOSITORY / "dvc.yaml").read_text().replace("data/reports/", "").replace("data/", "")
    (folder / "dvc.yaml").write_text(pipeline)
    return render_data_pages(Project(folder, folder / ".darkroom"))


def prepared_from(session: Session, table: Path) -> Prepared:
    """What DVC would do, without its two seconds a stage."""
    paths, params = data_paths(session.project), session.project.params
    write_raw(find(str(table), read_section(params, "ingest", IngestSettings)), paths.raw, progress=silent)
    paths.reference.mkdir()
    validate(ValidatePaths(params, paths.raw, paths.reference, paths.validated, paths.report), silent)
    split(params, paths.validated, paths.split, silent)
    augment(params, paths.raw, paths.split, paths.augmented, silent)
    digest = read_json(paths.split / "leakage.json")["split_digest"]
    return Prepared(data_version="d" * 32, split_digest=digest, augmented_digest="a" * 64)


def stored_folder(tracking: Tracking, version: Version) -> Path:
    """Where the artefact store, which is a folder here, has the package of a version."""
    source = tracking.client.get_model_version(version.name, version.number).source
    model = tracking.client.get_logged_model(source.rpartition("/")[2])
    return Path(model.artifact_location.removeprefix("file://"))


def new_project(folder: Path) -> Path:
    folder.mkdir(parents=True)
    for name in ("params.yaml", "dvc.yaml", ".dvcignore"):
        shutil.copy(REPOSITORY / name, folder / name)
    shutil.copytree(REPOSITORY / "infra", folder / "infra", ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "data").mkdir()
    shutil.copy(REPOSITORY / "data" / ".gitignore", folder / "data" / ".gitignore")
    subprocess.run(["git", "init", "-q", "-b", "main"], cwd=folder, check=True)
    subprocess.run([sys.executable, "-m", "dvc", "init", "-q"], cwd=folder, check=True)
    return folder


def project_of_shapes(folder: Path, api: str, settings: Iterable[str], *, each: int) -> Path:
    """A project with these settings and ingested shapes."""
    images = write_shapes(folder / "shapes", each=each)
    project = new_project(folder / "project")
    override(project / "params.yaml", list(settings), check=lambda _: None)
    done = run_darkroom(project, api, "ingest", "--data", str(images))
    assert done.returncode == 0, done.stderr
    return project


def run_darkroom(folder: Path, api: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "flows.cli.main", *arguments],
        cwd=folder,
        env=clean_environment(PREFECT_API_URL=api),
        capture_output=True,
        text=True,
        timeout=800,
    )


def result_of(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    """What a command answered with --json."""
    assert done.returncode == 0, done.stderr
    record: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return record


def isolate(monkeypatch: pytest.MonkeyPatch) -> None:
    """Servers, databases and homes of the developer don't reach into a test."""
    for name in OUTSIDE:
        monkeypatch.delenv(name, raising=False)


def clean_environment(**variables: str) -> dict[str, str]:
    """What a command in a project of its own is given: nothing of the developer's, nor of an earlier test's servers.

    MLflow writes the address that a process connects to into that process's environment.
    """
    return {name: value for name, value in os.environ.items() if name not in OUTSIDE} | variables


def draw_shape(label: str, number: int, side: int = 32) -> Image.Image:
    """A bright shape on a noisy ground: simple to learn, no two alike."""
    random = np.random.default_rng([sum(label.encode()), number])
    pixels = random.integers(0, 90, (side, side, 3), dtype=np.uint8)
    size = int(random.integers(side // 3, side // 2))
    top, left = (int(random.integers(1, side - size - 1)) for _ in range(2))
    colour = random.integers(150, 256, 3, dtype=np.uint8)
    rows, columns = np.mgrid[0:size, 0:size]
    shape = {
        "square": np.ones((size, size), bool),
        "circle": (rows - size / 2) ** 2 + (columns - size / 2) ** 2 < (size / 2) ** 2,
        "stripes": rows % 4 < 2,
    }[label]
    pixels[top : top + size, left : left + size][shape] = colour
    return Image.fromarray(pixels)


def draw_colours(labels: list[str], number: int) -> Image.Image:
    """Coarse noise in the colours that the labels name, dark or light; no two alike."""
    noise = np.random.default_rng(number).integers(0, 70, (6, 6, 3), dtype=np.uint8)
    pixels = np.array(Image.fromarray(noise).resize((24, 24), Image.Resampling.BICUBIC))
    for channel, colour in enumerate(("red", "green", "blue")):
        if colour in labels:
            pixels[..., channel] += 60 if "dark" in labels else 150
    return Image.fromarray(pixels)


def write_shapes(folder: Path, *, each: int = 40, labels: tuple[str, ...] = ("circle", "square", "stripes")) -> Path:
    for label in labels:
        (folder / label).mkdir(parents=True)
        for number in range(each):
            draw_shape(label, number).save(folder / label / f"{number:03d}.png")
    return folder


@contextlib.contextmanager
def full_disk(file_bytes: int) -> Iterator[None]:
    """A limit on the size of a file stands for the full disk, for children too: the same system call fails."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (file_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
