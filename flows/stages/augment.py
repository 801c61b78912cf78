"""DVC stage: pack the parts into arrays at the model's size, with augmented copies in the training part alone."""

import argparse
from pathlib import Path

import pyarrow.parquet as pq

from components.data.augmentation import AugmentSettings
from components.data.packing import SplitImage, pack
from components.data.preprocessing import PreprocessSettings
from components.files import read_json
from components.progress import Progress
from flows.sections import read_section
from flows.stages.entry import run_stage


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    for flag in ("--params", "--raw", "--split", "--augmented"):
        parser.add_argument(flag, type=Path, required=True)
    flags = parser.parse_args()
    run_stage("augment", lambda progress: augment(flags.params, flags.raw, flags.split, flags.augmented, progress))


def augment(params: Path, raw: Path, split: Path, augmented: Path, progress: Progress) -> str:
    """Writes the packed parts, their index and a preview sheet."""
    table = pq.read_table(split / "split.parquet", columns=list(SplitImage.__annotations__))
    settings: AugmentSettings = read_section(params, "augment", AugmentSettings)
    dataset = pack(
        [SplitImage(**row) for row in table.to_pylist()],
        raw=raw,
        folder=augmented,
        split_digest=read_json(split / "leakage.json")["digest"],
        preprocess=read_section(params, "preprocess", PreprocessSettings),
        augment=settings,
        progress=progress,
    )
    images = sum(dataset.images.values())
    return (
        f"{images} images packed at {dataset.image_size_px} px, {dataset.copies} augmented copies ({settings.policy})"
    )


if __name__ == "__main__":
    main()
