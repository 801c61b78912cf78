"""DVC stage: pack the splits into arrays at the model's size, with augmented copies in the training split alone."""

import argparse
from collections.abc import Sequence
from pathlib import Path

import pyarrow.parquet as pq

from components.data.augmentation.augmenter import AugmentSettings
from components.data.images.preprocessing import PreprocessSettings
from components.data.packed.packing import SplitImage, pack
from components.data.raw.dataset import read_raw_dataset
from components.records.data_facts import FACTS, DataFacts
from components.records.leak_proof import LEAK_PROOF, LeakProof
from components.shared.plural import counted
from components.shared.progress import Progress
from components.task.task_types import task_of
from flows.project.sections import read_section
from flows.stages.entry import run_stage


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    for flag in ("--params", "--raw", "--split", "--augmented"):
        parser.add_argument(flag, type=Path, required=True)
    flags = parser.parse_args(arguments)
    run_stage("augment", lambda progress: augment(flags.params, flags.raw, flags.split, flags.augmented, progress))


def augment(params: Path, raw: Path, split: Path, augmented: Path, progress: Progress) -> str:
    """Writes the packed splits, their index and a preview grid."""
    table = pq.read_table(split / "split.parquet", columns=list(SplitImage.__annotations__))
    facts = DataFacts.read(split / FACTS)
    settings = read_section(params, "augment", AugmentSettings, facts)
    images = [SplitImage(**row) for row in table.to_pylist()]
    described = read_raw_dataset(raw)
    dataset = pack(
        images,
        labels=task_of(described.task, [image.labels for image in images], described.levels),
        raw=raw,
        folder=augmented,
        split_digest=LeakProof.read(split / LEAK_PROOF).split_digest,
        preprocess=read_section(params, "preprocess", PreprocessSettings, facts),
        augment=settings,
        progress=progress,
    )
    count = sum(dataset.images.values())
    return (
        f"{counted(count, 'image')} packed at {dataset.image_size_px} px, "
        f"{counted(dataset.copies, 'augmented copy', 'augmented copies')} ({settings.policy})"
    )
