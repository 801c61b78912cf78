"""A data version by its git revision: a second machine pulls the images and repeats the split bit for bit."""

import subprocess
import sys
from pathlib import Path

from projects import new_project, result_of, run_darkroom, write_shapes


def command(folder: Path, *words: str) -> None:
    subprocess.run(words, cwd=folder, check=True, capture_output=True)


def dvc(folder: Path, *words: str) -> None:
    command(folder, sys.executable, "-m", "dvc", *words)


def test_a_second_machine_repeats_the_split_from_git_and_the_remote(tmp_path: Path, prefect_api: str) -> None:
    first = new_project(tmp_path / "first")
    images = write_shapes(tmp_path / "shapes", each=25)
    dvc(first, "remote", "add", "--default", "store", str(tmp_path / "remote"))
    result_of(run_darkroom(first, prefect_api, "ingest", "--data", str(images), "--json"))
    digest = result_of(run_darkroom(first, prefect_api, "prepare", "--json"))
    command(first, "git", "add", "--all")
    command(first, "git", "-c", "user.name=a", "-c", "user.email=a@b", "commit", "--quiet", "--message", "data")
    dvc(first, "push", "data/raw.dvc")

    second = tmp_path / "second"
    command(tmp_path, "git", "clone", "--quiet", str(first), str(second))
    assert not (second / "data" / "raw").exists()
    assert result_of(run_darkroom(second, prefect_api, "prepare", "--json")) == digest
    for name in ("dvc.lock", "data/split/split.parquet", "data/split/leakage.json", "data/augmented/index.parquet"):
        assert (second / name).read_bytes() == (first / name).read_bytes(), name
