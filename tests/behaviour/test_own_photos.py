"""A folder of photos and two commands: `darkroom init` and `darkroom run`, with the settings that new projects have."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from projects import QUICK, result_of, run_darkroom

LITTLE = [text for value in QUICK if not value.startswith("augment") for text in ("--with", value)]


def write_photos(folder: Path, *, each: int) -> Path:
    """Blurred stains of two colours on a third, 120 px wide; no two alike."""
    for label, colour in {"leaf": (40, 160, 40), "brick": (170, 70, 40), "sky": (60, 110, 200)}.items():
        (folder / label).mkdir(parents=True)
        for number in range(each):
            random = np.random.default_rng([number, *colour])
            coarse = random.normal(0, 45, (9, 12, 3)) + colour
            image = Image.fromarray(np.clip(coarse, 0, 255).astype(np.uint8)).resize(
                (120, 90), Image.Resampling.BICUBIC
            )
            image.save(folder / label / f"{number:03d}.jpg")
    return folder


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory, prefect_api: str) -> Path:
    folder = tmp_path_factory.mktemp("own photos")
    photos = write_photos(folder / "photos", each=20)
    made = run_darkroom(folder, prefect_api, "init", "model", "--data", "photos")
    assert made.returncode == 0, made.stderr
    assert "go there and run `darkroom run`" in made.stdout
    assert "brick (20), leaf (20), sky (20)" in made.stderr
    assert photos.is_dir()
    return folder / "model"


@pytest.fixture(scope="module")
def first(project: Path, prefect_api: str) -> dict[str, Any]:
    return result_of(run_darkroom(project, prefect_api, "run", "--preset", "fast", *LITTLE, "--json"))


def test_the_defaults_give_a_model_that_beats_the_commonest_answer(first: dict[str, Any], project: Path) -> None:
    assert first["promoted"] is True, first["reasons"]
    assert first["metrics"]["torch"]["accuracy"] > 0.8
    assert not (project / "flows").exists()


def test_the_choices_are_shown_and_lie_in_the_lineage(first: dict[str, Any], project: Path, prefect_api: str) -> None:
    shown = json.loads(run_darkroom(project, prefect_api, "settings", "--json").stdout.splitlines()[-1])
    values = {one["name"]: one["value"] for one in shown["settings"]}
    assert shown["for_current_data"] is True
    assert values["preprocess.image_size_px"] == 128
    assert values["finetune.epochs"] == 0
    kept, *_ = (project / ".darkroom").rglob(f"*{first['run_id']}*/**/lineage/params.yaml")
    assert "image_size_px: 128" in kept.read_text()


def test_the_same_again_reuses_every_step(first: dict[str, Any], project: Path, prefect_api: str) -> None:
    again = result_of(run_darkroom(project, prefect_api, "run", *LITTLE, "--json"))
    assert {step["state"] for step in again["steps"]} == {"reused"}
