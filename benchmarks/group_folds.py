"""How evenly groups are divided into folds, beside scikit-learn's StratifiedGroupKFold: sizes and classes of folds.

    python benchmarks/group_folds.py [--folds 5]

Eight made-up data sets of groups, from regular ones to patients with images of several classes. For each: how far the
size of a fold is from its fraction, and how far a class's images in a fold are, both in images of the largest group
(of the class); and the peer's own measure, the deviation between folds of each class's share, mean of the classes.
"""

import argparse
import hashlib
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from components.data.split.assignment import FreeClusters, assign_stratified
from components.data.split.strata import SplitImages

Ints = NDArray[np.int64]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folds", type=int, default=5)
    folds = parser.parse_args().folds
    for title, label_N, group_N in data_sets():
        print(f"{title}: {len(label_N):,} images in {len(np.unique(group_N)):,} groups")
        for name, divide in (("assign_stratified", ours), ("StratifiedGroupKFold", peer)):
            started = time.process_time()
            fold_N = divide(label_N, group_N, folds)
            spent = time.process_time() - started
            print(f"  {name:<21} {measures(label_N, group_N, fold_N, folds)}; {spent:.2f} s CPU")


def data_sets() -> Iterator[tuple[str, Ints, Ints]]:
    random = np.random.default_rng(0)
    yield "50 classes of 10 groups of 3", np.repeat(np.arange(50), 30), np.arange(1500) // 3
    yield "50 classes of 8 groups of 3", np.repeat(np.arange(50), 24), np.arange(1200) // 3
    yield "10 classes, groups of 1 to 20", *pure(random, random.integers(0, 10, 400), 1, 21)
    yield "uneven classes, groups of 1 to 20", *pure(random, (random.zipf(1.3, 1500) - 1) % 30, 1, 21)
    yield "4 classes, few groups of 20 to 200", *pure(random, random.integers(0, 4, 40), 20, 200)
    group_N = np.sort(random.integers(0, 400, 4000))
    usual = random.integers(0, 8, 400)[group_N]
    label_N = np.where(random.random(4000) < 0.5, usual, random.integers(0, 8, 4000))
    yield "patients with several of 8 classes", label_N, group_N
    group_N = np.sort(random.zipf(1.5, 4000) % 600)
    yield "patients of very uneven size", random.choice(5, 4000, p=[0.6, 0.2, 0.1, 0.07, 0.03]), group_N
    yield "rare classes, groups of 8", random.choice(3, 4000, p=[0.9, 0.08, 0.02]), np.arange(4000) // 8


def pure(random: np.random.Generator, label_G: Ints, least: int, below: int) -> tuple[Ints, Ints]:
    """Groups of one class each."""
    size_G = random.integers(least, below, len(label_G))
    return np.repeat(label_G, size_G), np.repeat(np.arange(len(label_G)), size_G)


def ours(label_N: Ints, group_N: Ints, folds: int) -> Ints:
    paths = [f"{number}.png" for number in range(len(label_N))]
    columns: dict[str, Any] = {
        "path": paths,
        "sha256": [hashlib.sha256(path.encode()).hexdigest() for path in paths],
        "label": [f"class {label:03d}" for label in label_N.tolist()],
    }
    images = SplitImages.from_table(pa.table(columns))
    cluster_N = np.unique(group_N, return_inverse=True)[1].astype(np.int64)
    free = FreeClusters.of(images, np.arange(len(images)), cluster_N, images.hash_N, None)
    none_SF, none_F = np.zeros((len(images.strata.names), folds)), np.zeros(folds)
    return assign_stratified(free, none_SF, none_F, np.full(folds, 1 / folds))[cluster_N]


def peer(label_N: Ints, group_N: Ints, folds: int) -> Ints:
    from sklearn.model_selection import StratifiedGroupKFold

    fold_N = np.zeros(len(label_N), np.int64)
    divided = StratifiedGroupKFold(folds, shuffle=True, random_state=7).split(label_N, label_N, group_N)
    for number, (_, held_out) in enumerate(divided):
        fold_N[held_out] = number
    return fold_N


def measures(label_N: Ints, group_N: Ints, fold_N: Ints, folds: int) -> str:
    label_N = np.unique(label_N, return_inverse=True)[1]
    group_N = np.unique(group_N, return_inverse=True)[1]
    count_CF, count_CG = table(label_N, fold_N, folds), table(label_N, group_N, int(group_N.max()) + 1)
    total_C = count_CF.sum(axis=1)
    size = np.abs(count_CF.sum(axis=0) - len(label_N) / folds).max() / count_CG.sum(axis=0).max()
    class_ = (np.abs(count_CF - total_C[:, None] / folds) / count_CG.max(axis=1)[:, None]).max()
    deviation = (count_CF / total_C[:, None]).std(axis=1).mean()
    return f"size {size:.2f}, class {class_:.2f} groups off; deviation of shares {100 * deviation:.3f} points"


def table(row_N: Ints, column_N: Ints, columns: int) -> Ints:
    count = np.zeros((int(row_N.max()) + 1, columns), np.int64)
    np.add.at(count, (row_N, column_N), 1)
    return count


if __name__ == "__main__":
    main()
