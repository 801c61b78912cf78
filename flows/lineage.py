"""One record from pixel to served file, and the small files that reproduce a model."""

import platform
import shutil
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

from components.data.raw import MANIFEST
from components.files import sha256_of_file, write_json
from flows.fingerprint import CODE_ROOT, code_digest
from flows.prepare import Prepared
from flows.project import Project
from flows.repro import data_paths, version_files
from flows.session import Session

PACKAGES = ("torch", "torchvision", "lightning", "albumentations", "onnx", "onnxruntime", "dvc", "mlflow", "prefect")


JUDGED = "judged"
"""Below a run's lineage: what people had judged of the data."""
_KEPT_BYTES = 1 << 20


def write_lineage(session: Session, prepared: Prepared, folder: Path) -> None:
    """The files that pin the data and the settings, the split and its leak proof, judgements, and the record itself."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    paths = data_paths(session.project)
    for source in (
        *version_files(session.project),
        paths.split / "split.parquet",
        paths.split / "leakage.json",
        paths.report,
    ):
        shutil.copyfile(source, folder / source.name)
    _keep_judgements(paths.judged, folder / JUDGED)
    write_json(folder / "lineage.json", lineage_record(session, prepared))


def _keep_judgements(judged: Path, target: Path) -> None:
    """Corrections and accepted profiles are small; a model of features is not, and stays where it is."""
    for file in sorted(judged.glob("*")):
        if file.is_file() and file.stat().st_size <= _KEPT_BYTES:
            target.mkdir(exist_ok=True)
            shutil.copyfile(file, target / file.name)


def lineage_record(session: Session, prepared: Prepared) -> dict[str, Any]:
    return {
        "git": git_state(session.project),
        "code": code_digest(CODE_ROOT),
        "data_version": prepared.data_version,
        "raw_manifest": sha256_of_file(data_paths(session.project).raw / MANIFEST),
        "split_digest": prepared.split_digest,
        "params": session.params.as_record(),
        "packages": {name: version(name) for name in PACKAGES},
        "python": platform.python_version(),
        "machine": {"system": platform.system(), "processor": processor()},
    }


def git_state(project: Project) -> str:
    """The revision, with +changes where the working tree differs from it; unknown outside of git."""
    try:
        revision = _git(project, "rev-parse", "HEAD")
        return revision + ("+changes" if _git(project, "status", "--porcelain") else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def processor() -> str:
    """The processor and those of its abilities on which int8 speed and accuracy depend."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or sys.platform
    fields = dict(line.split(":", 1) for line in lines if ":" in line)
    fields = {name.strip(): value.strip() for name, value in fields.items()}
    flags = set(fields.get("flags", "").split())
    known = [flag for flag in ("avx2", "avx512f", "avx512_vnni", "avx_vnni", "amx_int8") if flag in flags]
    return f"{fields.get('model name', 'unknown')} ({', '.join(known) or 'no vector extensions known'})"


def _git(project: Project, *arguments: str) -> str:
    answer = subprocess.run(["git", *arguments], cwd=project.root, capture_output=True, text=True, check=True)
    return answer.stdout.strip()
