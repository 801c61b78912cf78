"""Images a second of training beside a script in the manner of torchvision's reference training, and time to a score.

    python benchmarks/training.py [FOLDER] [--validation FOLDER] [--architecture resnet18] [--side 128] [--batch 64]
        [--images 512] [--workers 2] [--rounds 5] [--precision auto] [--until 0.6] [--epochs 12]

FOLDER holds a folder a class of JPEGs. Peer: ImageFolder, RandomResizedCrop, flip, PILToTensor, ToDtype, Normalize, a
shuffled DataLoader with workers, SGD with momentum, as in
https://github.com/pytorch/vision/blob/main/references/classification/train.py. Ours: `components.training.fit` on
packed data with `augment.policy: basic` and flips, the same network from scratch, batch, side and optimizer; layout and
precision are measured once before, as a training of hours would. Timed are the epochs of training alone: validation and
start-up are left out on both sides, and packing, which is paid once, is timed apart. Each side has a process of its
own; ours treats its memory as `components.training.process` does.

With --until both train until validation reaches that accuracy, validation included on both sides; ours also with
packing, with a one-cycle rate, an average of its weights and images that start at half their side.
"""

import argparse
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch
from photographs import photographs
from side_by_side import Timing, machine, refuse_busy_machine, table
from torch import nn
from torch.utils.data import DataLoader
from torchvision.datasets import ImageFolder
from torchvision.transforms import v2
from training_data import augment_settings, folder_files, new_job, packed

from components.models.architectures import build
from components.shared.allocator import keep_freed_memory
from components.training.epoch_report import EpochReport
from components.training.fit import fit
from components.training.settings import TrainingJob

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
SGD = {"optimizer": "sgd", "weight_decay": 1e-4, "label_smoothing": 0.0, "warmup_epochs": 0.0}


class Reached(Exception):
    """Validation has the accuracy that was asked for."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, nargs="?")
    parser.add_argument("--validation", type=Path)
    parser.add_argument("--architecture", default="resnet18")
    parser.add_argument("--side", type=int, default=128)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--images", type=int, default=512)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--precision", default="auto", choices=("auto", "fp32", "bf16"))
    parser.add_argument("--until", type=float)
    parser.add_argument("--epochs", type=int, default=12)
    flags = parser.parse_args()
    refuse_busy_machine()
    with tempfile.TemporaryDirectory() as scratch:
        flags.folder = photographs(flags.folder, Path(scratch), 2 * flags.images)
        comparison = Comparison(flags, Path(scratch))
        if flags.until is None:
            comparison.throughput()
        else:
            comparison.time_to_accuracy()
    print(machine("torch", "torchvision", "lightning"), f"{torch.get_num_threads()} threads")


class Comparison:
    def __init__(self, flags: argparse.Namespace, scratch: Path) -> None:
        self._flags, self._scratch = flags, scratch
        self._augment = augment_settings("basic", flips="horizontal")
        validation = flags.validation or flags.folder
        self._folders = {"train": flags.folder, "val": validation}
        self._most = {"train": flags.images, "val": max(64, flags.images // 4)}
        self._files = self._links()
        self._train, self._val = (
            ImageFolder(str(self._files / split), self._transform(split)) for split in ("train", "val")
        )

    def throughput(self) -> None:
        started = time.perf_counter()
        data = self._packed()
        print(f"packing {len(self._train) + len(self._val)} images took {time.perf_counter() - started:.1f} s, once")
        timings = {"ours": Timing(), "reference": Timing()}
        with own_process(keep_freed_memory) as ours, own_process() as peer:
            chosen = ours.submit(self._chosen_numerics, data).result()
            for number in range(self._flags.rounds + 1):
                taken = (
                    ("ours", ours.submit(self._our_epoch, data, chosen).result()),
                    ("reference", peer.submit(self._peer_epoch).result()),
                )
                if number:  # the first round warms both up
                    for name, (wall, cpu) in taken:
                        timings[name].wall_s.append(wall)
                        timings[name].cpu_s.append(cpu)
        flags = self._flags
        print(f"{flags.architecture}, {flags.side} px, batch {flags.batch}, {len(self._train)} images, ours {chosen}")
        print(table(timings, per_round=len(self._train), unit="images/s", peer="reference"))

    def time_to_accuracy(self) -> None:
        timings = {"ours": Timing(), "reference": Timing()}
        with own_process(keep_freed_memory) as ours, own_process() as peer:
            for _ in range(self._flags.rounds):
                for name, side, run in (("ours", ours, self._ours_until), ("reference", peer, self._peer_until)):
                    wall, cpu, epochs = side.submit(timed, run).result()
                    timings[name].wall_s.append(wall)
                    timings[name].cpu_s.append(cpu)
                    print(f"{name}: {wall:.1f} s, {epochs}", flush=True)
        print(table(timings, per_round=1, unit="trainings/s", peer="reference"))

    def _our_epoch(self, data: Path, chosen: dict[str, str]) -> tuple[float, float]:
        """Of the steps of an epoch, from the first one's end to the last one's, scaled to all of them."""
        moments: list[tuple[float, float]] = []

        def note(done: int, total: int) -> None:
            moments.append((time.perf_counter(), cpu_seconds()))

        job = self._job(data, epochs=1, learning_rate=0.01, **SGD, **chosen)
        fit(job, on_epoch=lambda report: None, on_step=note)
        return scaled(moments)

    def _peer_epoch(self) -> tuple[float, float]:
        model, moments = self._peer_model(), []
        optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9, weight_decay=1e-4)
        # Processes that load count once they have ended: the fraction of all their time that lies between the moments.
        started, spent = time.perf_counter(), cpu_seconds()
        for _ in self._peer_steps(model, optimizer):
            moments.append((time.perf_counter(), cpu_seconds()))
        wall, cpu = time.perf_counter() - started, cpu_seconds() - spent
        steady = scaled(moments)[0]
        return steady, cpu * min(1.0, steady / wall)

    def _ours_until(self) -> str:
        data = self._packed()
        chosen = self._chosen_numerics(data)
        job = self._job(
            data,
            epochs=self._flags.epochs,
            learning_rate=0.003,
            schedule="one_cycle",
            ema_decay=0.99,
            progressive_resizing=0.5,
            monitor="accuracy",
            **chosen,
        )
        seen: list[float] = []

        def look(report: EpochReport) -> None:
            seen.append(report.val_accuracy)
            if report.val_accuracy >= self._flags.until:
                raise Reached

        try:
            fit(job, on_epoch=look)
        except Reached:
            return f"{len(seen)} epochs, accuracy {seen[-1]:.3f}"
        return f"{len(seen)} epochs, NOT reached: best accuracy {max(seen):.3f}"

    def _peer_until(self) -> str:
        model, seen = self._peer_model(), list[float]()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9, weight_decay=1e-4)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, self._flags.epochs)
        for _ in range(self._flags.epochs):
            for _ in self._peer_steps(model, optimizer):
                pass
            schedule.step()
            seen.append(self._peer_accuracy(model))
            if seen[-1] >= self._flags.until:
                return f"{len(seen)} epochs, accuracy {seen[-1]:.3f}"
        return f"{len(seen)} epochs, NOT reached: best accuracy {max(seen):.3f}"

    def _peer_steps(self, model: nn.Module, optimizer: torch.optim.Optimizer):  # type: ignore[no-untyped-def]
        model.train()
        loss_of = nn.CrossEntropyLoss()
        flags = self._flags
        for images, target in DataLoader(self._train, flags.batch, shuffle=True, **_workers(flags.workers)):
            loss = loss_of(model(images), target)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            yield

    @torch.inference_mode()
    def _peer_accuracy(self, model: nn.Module) -> float:
        model.eval()
        right = 0
        for images, target in DataLoader(self._val, self._flags.batch, **_workers(self._flags.workers)):
            right += int((model(images).argmax(dim=1) == target).sum())
        return right / len(self._val)

    def _peer_model(self) -> nn.Module:
        torch.manual_seed(7)
        return build(self._flags.architecture, num_classes=len(self._train.classes), image_size_px=self._flags.side)

    def _job(self, data: Path, **train: object) -> TrainingJob:
        flags = self._flags
        return new_job(
            data,
            Path(tempfile.mkdtemp(prefix="job", dir=self._scratch)),
            side_px=flags.side,
            architecture=flags.architecture,
            augment=self._augment,
            batch_size=flags.batch,
            **train,
        )

    def _chosen_numerics(self, data: Path) -> dict[str, str]:
        """What a training of many epochs finds out on this machine."""
        if self._flags.precision != "auto":
            return {"precision": self._flags.precision, "channels_last": "on", "compile": "off"}
        from components.data.packed.loaders import open_split, training_loader
        from components.data.packed.packing import read_dataset
        from components.models.classifier import new_classifier
        from components.training.numerics import choose_numerics
        from components.training.objective import Objective

        job, dataset = self._job(data, **SGD), read_dataset(data)
        model, _ = new_classifier(
            job.model, labels=dataset.labels, preprocess=job.preprocess, mean=dataset.mean, std=dataset.std
        )
        split = open_split(data, "train")
        batch = next(iter(training_loader(split, batch_size=job.train.batch_size, seed=0, augment=None, workers=0)))
        objective = Objective(job, dataset.labels, None)
        found = choose_numerics(job, model, objective, batch, steps=10**7)
        return {
            "precision": found.precision,
            "channels_last": "on" if found.channels_last else "off",
            "compile": "on" if found.compile else "off",
        }

    def _packed(self) -> Path:
        place = Path(tempfile.mkdtemp(prefix="packed", dir=self._scratch))
        return packed(folder_files(self._folders, self._most), place, side_px=self._flags.side, augment=self._augment)

    def _links(self) -> Path:
        """The same files as a folder a class for ImageFolder."""
        for number, (split, label, content) in enumerate(folder_files(self._folders, self._most)):
            file = self._scratch / "files" / split / label / f"{number:06d}.jpg"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(content)
        return self._scratch / "files"

    def _transform(self, split: str) -> v2.Compose:
        side = self._flags.side
        train = [v2.RandomResizedCrop(side, antialias=True), v2.RandomHorizontalFlip()]
        val = [v2.Resize(side, antialias=True), v2.CenterCrop(side)]
        to_tensor = [v2.PILToTensor(), v2.ToDtype(torch.float32, scale=True), v2.Normalize(MEAN, STD)]
        return v2.Compose([*(train if split == "train" else val), *to_tensor])


@contextmanager
def own_process(start: Callable[[], object] = int) -> Iterator[ProcessPoolExecutor]:
    """One process, which stays; `start` is called in it first."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn"), initializer=start) as process:
        process.submit(int).result()
        yield process


def _workers(count: int) -> dict[str, Any]:
    """Forked, as a script's own are: in a process that was spawned they would be too, and import torch each epoch."""
    return {"num_workers": count, "multiprocessing_context": "fork" if count else None}


def timed(run: Callable[[], str]) -> tuple[float, float, str]:
    """Wall and CPU seconds of the call, and what it returns."""
    wall, cpu = time.perf_counter(), cpu_seconds()
    result = run()
    return time.perf_counter() - wall, cpu_seconds() - cpu, result


def scaled(moments: list[tuple[float, float]]) -> tuple[float, float]:
    (wall, cpu), (last_wall, last_cpu) = moments[0], moments[-1]
    factor = len(moments) / (len(moments) - 1)
    return (last_wall - wall) * factor, (last_cpu - cpu) * factor


def cpu_seconds() -> float:
    import resource

    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime


if __name__ == "__main__":
    main()
