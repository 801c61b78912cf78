"""A head on cached features beside ordinary training through the same frozen backbone, both by Darkroom's own `fit`.

    python benchmarks/cached_features.py [--images 2400] [--epochs 20] [--rounds 5] [--architecture resnet18]

Images are generated (bright shapes on noise, 64 px), the backbone has fresh weights: compared are time and whether
the heads come out alike, not how good such features are. Each round computes its features again.
"""

import argparse
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

from side_by_side import compare, machine, refuse_busy_machine, table

from components.data.raw.ingest import write_raw
from components.data.sources import find
from components.shared.progress import silent
from components.training.fit import fit
from components.training.settings import TrainingJob
from flows.project.params import override, read_params
from flows.stages.augment import augment
from flows.stages.split import split

REPOSITORY = Path(__file__).resolve().parents[1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=2400)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--architecture", default="resnet18")
    asked = parser.parse_args()
    refuse_busy_machine()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        params = packed(folder, asked.images, asked.epochs, asked.architecture)
        accuracy: dict[str, list[float]] = {"cached": [], "ordinary": []}

        def train(name: str, cache: str) -> None:
            output = folder / name
            shutil.rmtree(output, ignore_errors=True)
            result = fit(job(params, folder, output / "job", cache), on_epoch=lambda _: None)
            accuracy[name].append(max(report.val_accuracy for report in result.history))

        timings = compare(
            {"ordinary": lambda: train("ordinary", "off"), "cached": lambda: train("cached", "on")},
            rounds=asked.rounds,
            # A round takes a minute; what the first one has to warm up is a small part of it.
            warm=False,
        )
    print(table(timings, per_round=asked.images * asked.epochs, unit="images/s", peer="ordinary"))
    for name, found in accuracy.items():
        print(f"best validation accuracy, {name}: {min(found):.4f} to {max(found):.4f}")
    print(machine("torch", "torchvision", "lightning"))


def packed(folder: Path, images: int, epochs: int, architecture: str) -> Path:
    """Settings and packed splits, as the stages make them."""
    sys.path.append(str(REPOSITORY / "tests"))
    from projects import validate_in, write_shapes

    params = Path(shutil.copy(REPOSITORY / "params.yaml", folder / "params.yaml"))
    changes = [
        "preprocess.image_size_px=64",
        f"model.architecture={architecture}",
        "model.freeze_backbone=true",
        f"train.epochs={epochs}",
        "train.augment=false",
        "augment.copies=0",
    ]
    override(params, changes, check=lambda _: None)
    write_shapes(folder / "source", each=images // 3)
    write_raw(find(str(folder / "source")), folder / "raw", progress=silent)
    validate_in(folder, params)
    split(params, folder / "validated", folder / "split", silent)
    augment(params, folder / "raw", folder / "split", folder / "augmented", silent)
    return params


def job(params: Path, folder: Path, output: Path, cache: str) -> TrainingJob:
    read = read_params(params)
    sections: dict[str, Any] = {
        name: getattr(read, name).model_dump() for name in ("preprocess", "augment", "model", "train", "finetune")
    }
    sections["train"] |= {"cache_features": cache}
    return TrainingJob.from_section(
        "job",
        sections | {"step": "train", "data": str(folder / "augmented"), "output": str(output), "start_from": None},
    )


if __name__ == "__main__":
    main()
