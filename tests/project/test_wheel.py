"""The wheel holds all that a project needs: installed anywhere, it makes one and reads its settings."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from projects import REPOSITORY


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    subprocess.run(["git", "clone", "-q", str(REPOSITORY), str(source)], check=True)
    build = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "-q",
        "--no-deps",
        "--no-build-isolation",
        "--disable-pip-version-check",
    ]
    subprocess.run([*build, "-w", str(folder), str(source)], check=True)
    (wheel,) = folder.glob("darkroom-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder / "site")
    return folder / "site"


def darkroom(installed: Path, folder: Path, *words: str) -> str:
    environment = {**os.environ, "PYTHONPATH": str(installed), "PYTHONSAFEPATH": "1"}
    code = "import sys, flows.cli.main as m; assert m.__file__.startswith(sys.argv.pop(1)), m.__file__; m.main()"
    command = [sys.executable, "-c", code, str(installed), *words]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_an_installed_wheel_makes_a_project_and_reads_it(installed: Path, tmp_path: Path) -> None:
    made = darkroom(installed, tmp_path, "init", "photos")
    assert "is the project photos; go there and run `darkroom run --data FOLDER`" in made
    shown = darkroom(installed, tmp_path / "photos", "settings")
    assert "tf_efficientnet_lite0" in shown
    assert "for typical photos" in shown
