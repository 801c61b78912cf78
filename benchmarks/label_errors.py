"""How many of the first 100 suspected label errors are errors: planted ones, and those suspected without planting.

    python benchmarks/label_errors.py --images FOLDER [--also FOLDER] [--rate 0.02]
        [--model FILE.onnx | --learn FOLDER --work WORK [--epochs 20]]

FOLDER has one folder for each class. A fraction of the labels (--rate) is changed to another class at random; the
search runs with and without these changes. Precision counts planted changes alone, so real errors count against it.
Peer: the paper's other ranking of the same out-of-fold probabilities, by the margin of the best other class.
With --known FILE.csv, whose column `path` names images whose labels are known to be wrong, it also counts those among
the first 100 of the unplanted search. benchmarks/cifar10_test_label_errors.csv names the 54 of its test split that
at most two of five people confirmed (Northcutt et al. 2021, github.com/cleanlab/label-errors, mturk/cifar10_mturk.json,
by index of the original order), for a folder in which each class is numbered in that order.
With --also, another folder of the same classes: the probes are fitted on its images, too, and only those of --images
are listed.
With --model the features are the first output of that file, as with `labels.features`. With --learn they are those of a
plain net that Darkroom's training process trains on that FOLDER (one folder for each class, with none of the searched
images); an interrupted training in WORK resumes.
Without --images the 1,797 digits of scikit-learn are used.
"""

import argparse
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image
from threadpoolctl import threadpool_limits
from trained_models import finished
from training_data import File, augment_settings, new_job, packed

from components.data.images.decoding import decode
from components.data.images.embeddings import embed
from components.data.images.patch_features import patch_features
from components.data.packed.packing import DATASET
from components.data.quality.label_errors import (
    LabelSettings,
    confident_disagreement,
    find_label_errors,
    out_of_fold_probabilities,
)
from components.export.onnx_export import export_features
from components.models.classifier import load_classifier
from components.shared.progress import PlainLines

_SIDE_PX = 32


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=Path)
    parser.add_argument("--also", type=Path)
    parser.add_argument("--rate", type=float, default=0.02)
    parser.add_argument("--model", type=Path)
    parser.add_argument("--learn", type=Path)
    parser.add_argument("--work", type=Path)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--known", type=Path)
    parser.add_argument("--preview", type=Path, help="file for an image of the first 40 suspects, nothing planted")
    flags = parser.parse_args()
    if flags.learn:
        flags.model = _network(flags.learn, flags.work, flags.epochs)
    threadpool_limits(1)
    pictures, labels, paths = _images(flags.images)
    listed = len(paths)
    if flags.also:
        more_pictures, more_labels, more_paths = _images(flags.also)
        pictures, labels = pictures + more_pictures, np.concatenate([labels, more_labels])
        paths += [f"{flags.also.name}/{path}" for path in more_paths]
    settings = LabelSettings(max_suspects=len(paths))
    began = time.process_time()
    if flags.model:
        features = embed(
            len(pictures), pictures.__getitem__, model=flags.model, setting="--model", progress=PlainLines()
        )
    else:
        features = patch_features(len(pictures), pictures.__getitem__, seed=settings.seed, progress=PlainLines())
    print(f"{len(pictures)} images, features {features.shape[1]}: {time.process_time() - began:.1f} CPU s", flush=True)
    _report_planted(features[:listed], labels[:listed], flags.rate, settings)
    own = set(paths[:listed])
    search = find_label_errors(features, list(labels), paths, settings=settings)
    suspects = [one for one in search.suspects if one.path in own]
    if flags.known:
        _report_known([one.path for one in suspects], flags.known, listed)
    print(f"nothing planted: {len(suspects)} listed; the first 100:")
    for number, one in enumerate(suspects[:100], start=1):
        print(f"{number:3d} {one.path} {one.label} -> {one.suggested} {one.score:.3f}")
    if flags.preview:
        _preview_grid(suspects[:40], dict(zip(paths, pictures, strict=True))).save(flags.preview)


def _network(folder: Path, work: Path, epochs: int) -> Path:
    """The features of a network that learned the folder's classes, as `darkroom features` writes them."""
    target = work / "features.onnx"
    if target.is_file():
        return target
    augment = augment_settings("basic", flips="horizontal")
    data = work / "augmented"
    if not (data / DATASET).is_file():
        packed(_learned_files(folder), work, side_px=_SIDE_PX, augment=augment)
    job = new_job(
        data,
        work / "train",
        side_px=_SIDE_PX,
        architecture="plain",
        augment=augment,
        epochs=epochs,
        batch_size=128,
        learning_rate=0.004,
        schedule="one_cycle",
        progressive_resizing=0.5,
        patience=0,
        checkpoint_minutes=1.0,
    )
    export_features(load_classifier(finished(job)), target)
    return target


def _learned_files(folder: Path) -> Iterator[File]:
    """All of the folder's images; every fiftieth says how far the training is."""
    for number, file in enumerate(sorted(path for path in folder.rglob("*") if path.is_file())):
        yield "train" if number % 50 else "val", file.parent.name, file.read_bytes()


def _report_planted(features: np.ndarray, labels: np.ndarray, rate: float, settings: LabelSettings) -> None:
    names, given = np.unique(labels, return_inverse=True)
    random = np.random.default_rng(3)
    planted = np.zeros(len(given), bool)
    planted[random.choice(len(given), round(rate * len(given)), replace=False)] = True
    noisy = np.where(planted, (given + random.integers(1, len(names), len(given))) % len(names), given)
    began = time.process_time()
    probability = out_of_fold_probabilities(features, noisy, folds=settings.folds, seed=settings.seed)
    print(f"{settings.folds} probes: {time.process_time() - began:.1f} CPU s")
    print(f"accuracy of the probe on the true labels: {(probability.argmax(1) == given).mean():.3f}")
    suggested, score = confident_disagreement(probability, noisy)
    ours = np.argsort(np.where(suggested != noisy, -score, np.inf), kind="stable")
    given_probability = probability[np.arange(len(noisy)), noisy]
    others = probability.copy()
    others[np.arange(len(noisy)), noisy] = -1
    peer = np.argsort(given_probability - others.max(axis=1), kind="stable")
    print(f"planted: {planted.sum()} of {len(planted)} ({rate:.1%} by chance)")
    for name, order in (("confident learning", ours), ("normalised margin", peer)):
        first, as_many = planted[order[:100]].mean(), planted[order[: planted.sum()]].mean()
        print(f"{name}: precision among the first 100 {first:.2f}, among the first {planted.sum()} {as_many:.2f}")


def _report_known(suspects: list[str], file: Path, images: int) -> None:
    known = {line.split(",")[1] for line in file.read_text(encoding="utf-8").splitlines()[1:]}
    hits = [len(known & set(suspects[:first])) for first in (100, 500)]
    print(
        f"known errors: {hits[0]} among the first 100 (precision {hits[0] / 100:.2f}, by chance "
        f"{len(known) / images:.4f}), {hits[1]} of {len(known)} among the first 500"
    )


def _images(folder: Path | None) -> tuple[list[np.ndarray], np.ndarray, list[str]]:
    if folder is None:
        from sklearn.datasets import load_digits

        digits = load_digits()
        grey = (digits.images * 15).astype(np.uint8)
        pictures = [np.repeat(one[..., None], 3, axis=2) for one in grey]
        return pictures, digits.target.astype(str), [f"{number}" for number in range(len(pictures))]
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    pictures = [decode(path.read_bytes(), max_megapixels=100).pixels_HWC for path in files]
    paths = [path.relative_to(folder).as_posix() for path in files]
    return pictures, np.array([path.split("/")[0] for path in paths]), paths


def _preview_grid(suspects: list, pictures: dict[str, np.ndarray]) -> Image.Image:
    grid = Image.new("RGB", (10 * 104, -(-len(suspects) // 10) * 104), "white")
    for number, one in enumerate(suspects):
        picture = Image.fromarray(pictures[one.path]).resize((96, 96), Image.Resampling.LANCZOS)
        grid.paste(picture, (number % 10 * 104, number // 10 * 104))
    return grid


if __name__ == "__main__":
    main()
