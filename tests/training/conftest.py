"""Packed shapes to learn from, made once by the stages themselves, and jobs over them."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from PIL import Image
from projects import REPOSITORY

from components.training.settings import TrainingJob
from flows.project.params import override, read_params

SIDE = 16

MakeJob = Callable[..., TrainingJob]


@pytest.fixture(scope="session")
def params_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The repository's settings, small."""
    file = Path(shutil.copy(REPOSITORY / "params.yaml", tmp_path_factory.mktemp("settings") / "params.yaml"))
    small = [
        f"preprocess.image_size_px={SIDE}",
        "model.architecture=lenet5",
        "train.epochs=2",
        "train.batch_size=16",
        "train.learning_rate=0.005",
        "augment.copies=0",
        "finetune.epochs=1",
    ]
    override(file, small, check=lambda _: None)
    return file


@pytest.fixture(scope="session")
def packed(params_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the augment stage writes for three classes of thirty images, distinguished by where they are bright."""
    from projects import validate_in

    from components.data.raw.ingest import write_raw
    from components.data.sources import find
    from components.shared.progress import silent
    from flows.stages.augment import augment
    from flows.stages.split import split

    folder = tmp_path_factory.mktemp("packed")
    for number, label in enumerate(("left", "right", "top")):
        (folder / "source" / label).mkdir(parents=True)
        for image in range(30):
            picture(number, image).save(folder / "source" / label / f"{image}.png")
    write_raw(find(str(folder / "source")), folder / "raw", progress=silent)
    validate_in(folder, params_file)
    split(params_file, folder / "validated", folder / "split", silent)
    augment(params_file, folder / "raw", folder / "split", folder / "augmented", silent)
    return folder / "augmented"


def picture(label: int, image: int) -> Image.Image:
    pixels = np.random.default_rng([label, image]).integers(0, 160, (SIDE, SIDE, 3), dtype=np.uint8)
    pixels[[np.s_[:, :6], np.s_[:, 10:], np.s_[:6]][label]] += 95
    return Image.fromarray(pixels)


@pytest.fixture(scope="session")
def make_job(packed: Path, params_file: Path) -> MakeJob:
    """A job from the settings, with changes such as train={"epochs": 1}."""
    params = read_params(params_file)

    def make(output: Path, *, step: str = "train", start_from: Path | None = None, **sections: Any) -> TrainingJob:
        values = {name: getattr(params, name).model_dump() for name in ("augment", "model", "train", "finetune")}
        return TrainingJob.from_section(
            "job",
            {
                "step": step,
                "data": str(packed),
                "output": str(output),
                "start_from": None if start_from is None else str(start_from),
                "preprocess": params.preprocess.model_dump(),
            }
            | {name: section | sections.get(name, {}) for name, section in values.items()},
        )

    return make


@pytest.fixture
def first_images(packed: Path, tmp_path: Path) -> Callable[[int], Path]:
    """The packed data with no more of the training split than its first images."""

    def cut(count: int) -> Path:
        data = Path(shutil.copytree(packed, tmp_path / f"first {count}"))
        index = pq.read_table(packed / "index.parquet")
        wanted = pc.or_(pc.not_equal(index["split"], "train"), pc.less(index["row"], count))
        pq.write_table(index.filter(wanted), data / "index.parquet")
        np.save(data / "train-00000.npy", np.load(packed / "train-00000.npy")[:count])
        return data

    return cut
