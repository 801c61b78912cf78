"""Packing of many labels and weights: which labels are rare, and what training reads of each image."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from shapes import AUGMENT, PREPROCESS, raw_version

from components.data.augmentation.augmenter import AugmentSettings
from components.data.packed.loaders import evaluation_loader, open_split
from components.data.packed.packing import SplitImage, pack, read_dataset
from components.shared.progress import silent
from components.task.multi_label import MultiLabel

SETS = [["a", "b"]] * 12 + [["b"]] * 8 + [["c"]] * 2 + [["b", "c"]]


def packed(folder: Path, **augment: Any) -> Path:
    images = raw_version(folder / "raw", {"circle": len(SETS)}, splits=("train",))
    labelled = [
        SplitImage(**(vars(image) | {"labels": labels, "label": "|".join(labels), "weight": weight}))
        for image, labels, weight in zip(images, SETS, [None, 2.5, *[1.0] * (len(SETS) - 2)], strict=True)
    ]
    pack(
        labelled,
        labels=MultiLabel.of(SETS),
        raw=folder / "raw",
        folder=folder / "augmented",
        split_digest="digest",
        preprocess=PREPROCESS,
        augment=AugmentSettings.from_section("augment", AUGMENT | augment),
        progress=silent,
    )
    return folder / "augmented"


def test_targets_are_rows_of_truth_and_weights_come_along(tmp_path: Path) -> None:
    folder = packed(tmp_path)
    split = open_split(folder, "train")
    assert read_dataset(folder).classes == ["a", "b", "c"]
    rows = pq.read_table(folder / "index.parquet").to_pylist()
    assert split.target.tolist() == [[name in row["labels"] for name in "abc"] for row in rows]
    weight_of = dict(zip(split.path_N, split.weight_N.tolist(), strict=True))
    assert (weight_of["circle/000.png"], weight_of["circle/001.png"], weight_of["circle/002.png"]) == (1.0, 2.5, 1.0)
    batch = next(iter(evaluation_loader(split, batch_size=4)))
    assert (batch.target.dtype, tuple(batch.target.shape)) == (torch.bool, (4, 3))
    assert batch.weight_B.tolist() == split.weight_N[:4].tolist()


@pytest.mark.parametrize(
    ("copies", "balance", "least"),
    [
        (0, 0.0, {"a": 12, "b": 21, "c": 3}),
        (0, 0.5, {"a": 12, "b": 21, "c": 11}),
        (1, 0.5, {"a": 24, "b": 42, "c": 22}),
    ],
)
def test_a_rare_label_gets_copies_of_the_sets_that_hold_it(
    tmp_path: Path, copies: int, balance: float, least: dict[str, int]
) -> None:
    split = open_split(packed(tmp_path, copies=copies, balance=balance), "train")
    found = dict(zip("abc", split.target.sum(axis=0).tolist(), strict=True))
    assert all(found[name] >= count for name, count in least.items())
    assert found["c"] == least["c"]
    # The copies of what carries the rare label are spread evenly.
    rare = split.target[:, 2]
    counts = np.unique(np.array(split.path_N)[rare], return_counts=True)[1]
    assert counts.max() - counts.min() <= 1
