"""CIFAR-10 on one GPU: seconds until 94% of its test split are right, and the engine's speed beside a bare loop.

    python benchmarks/one_gpu.py CIFAR10 [--until 0.94] [--epochs 24] [--rounds 5] [--round-epochs 2]
        [--images 50000] [--architecture resnet18] [--batch 512]

CIFAR10 holds train/ and test/, a folder a class in each. Training is the preset of docs/training.md, in a process of
its own as `darkroom train` starts it; seconds count from its start, with loading the libraries, and stop at the end of
the epoch whose weights reach the score. Packing the images comes before and is timed separately.

Bare: the loop that everybody writes, over the same images on the GPU, drawn there in the same way, with the same
network, batch, optimizer and precision. The two take turns over some epochs; what is compared is images a second.
Runs on a CPU as well, for a trial: --images 640 --epochs 1 --rounds 1 --round-epochs 1 --architecture plain --batch 64.
"""

import argparse
import itertools
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from side_by_side import machine, ratio_range, usage
from torch.nn import functional as F
from training_data import REPOSITORY, augment_settings, folder_files, new_job, packed

from components.data.packed.loaders import ShuffledBatches, open_split
from components.data.packed.packing import read_dataset
from components.models.classifier import new_classifier
from components.shared.files import read_json, write_json
from components.training.distributed import current_device
from components.training.fit import fit
from components.training.gpu_cache import GpuCachedBatches
from components.training.process import RESULT
from components.training.settings import TrainingJob

PRESET: dict[str, Any] = {
    "cache_on_gpu": "on",
    "optimizer": "sgd",
    "learning_rate": 0.2,
    "weight_decay": 0.0005,
    "schedule": "one_cycle",
    "label_smoothing": 0.1,
    "ema_decay": 0.99,
    "precision": "bf16",
    "channels_last": "on",
    "monitor": "accuracy",
}
SIDE_PX = 32


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cifar10", type=Path)
    parser.add_argument("--until", type=float, default=0.94)
    parser.add_argument("--epochs", type=int, default=24)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--round-epochs", type=int, default=2)
    parser.add_argument("--images", type=int, default=50_000)
    parser.add_argument("--architecture", default="resnet18")
    parser.add_argument("--batch", type=int, default=512)
    flags = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder, began = Path(scratch), time.perf_counter()
        splits = {"train": flags.cifar10 / "train", "val": flags.cifar10 / "test"}
        files = folder_files(splits, {"train": flags.images, "val": max(flags.images // 5, 1)})
        data = packed(files, folder, side_px=SIDE_PX, augment=drawn())
        print(f"packed in {time.perf_counter() - began:.1f} s", flush=True)
        print(time_to_score(preset(data, folder / "whole", flags, flags.epochs), flags.until), flush=True)
        print(ratio_to_bare_loop(data, folder, flags))
    device = current_device()
    print(torch.cuda.get_device_name(device) if device.type == "cuda" else "no GPU", machine("torch", "lightning"))


def drawn() -> Any:
    return augment_settings("basic", flips="horizontal")


def preset(data: Path, output: Path, flags: argparse.Namespace, epochs: int) -> TrainingJob:
    return new_job(
        data,
        output,
        side_px=SIDE_PX,
        architecture=flags.architecture,
        augment=drawn(),
        epochs=epochs,
        batch_size=flags.batch,
        **PRESET,
    )


def time_to_score(job: TrainingJob, until: float) -> str:
    output = Path(job.output)
    write_json(output / "job.json", job.model_dump())
    used = usage([sys.executable, "-m", "components.training.process", str(output / "job.json")], folder=REPOSITORY)
    if used.exit_code:
        sys.exit(f"training ended with exit code {used.exit_code}")
    history = read_json(output / RESULT)["history"]
    before = used.seconds - sum(report["seconds"] for report in history)
    best = max(report["val_accuracy"] for report in history)
    spent = before
    for report in history:
        spent += report["seconds"]
        if report["val_accuracy"] >= until:
            reached = f"{until:.2%} after {spent:.1f} s, epoch {report['epoch']} of {len(history)}"
            break
    else:
        reached = f"{until:.2%} not reached"
    return f"{reached}; at best {best:.2%}; {used.seconds:.1f} s in all, {before:.1f} s of them around the epochs"


def ratio_to_bare_loop(data: Path, folder: Path, flags: argparse.Namespace) -> str:
    engine_s, bare_s = [], []
    for number in range(flags.rounds + 1):
        job = preset(data, folder / f"round {number}", flags, flags.round_epochs)
        engine, bare = engine_seconds(job), bare_seconds(job)
        if number:  # the first round warms both up
            engine_s.append(engine)
            bare_s.append(bare)
    images = flags.round_epochs * (len(open_split(data, "train")) // flags.batch) * flags.batch
    rates = [f"{images / sorted(seconds)[len(seconds) // 2]:,.0f}" for seconds in (engine_s, bare_s)]
    ratio = ratio_range(bare_s, engine_s)
    return f"engine {rates[0]} images/s, bare loop {rates[1]} images/s: {ratio} of it"


def engine_seconds(job: TrainingJob) -> float:
    """Of the training epochs alone: validation and checkpoints are no part of a bare loop."""
    spent, begun = 0.0, time.perf_counter()

    def note(done: int, total: int) -> None:
        nonlocal spent, begun
        steps = total // job.train.epochs
        if done % steps == 1:
            begun = moment()
        elif done % steps == 0:
            spent += (moment() - begun) * steps / (steps - 1)

    fit(job, on_epoch=lambda report: None, on_step=note)
    return spent


def bare_seconds(job: TrainingJob) -> float:
    data, split, device = read_dataset(Path(job.data)), open_split(Path(job.data), "train"), current_device()
    torch.manual_seed(job.train.seed)
    model = new_classifier(job.model, labels=data.labels, preprocess=job.preprocess, mean=data.mean, std=data.std)[0]
    model = model.to(device, memory_format=torch.channels_last).train()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=5e-4, fused=True)
    order, epochs = ShuffledBatches(len(split), job.train.batch_size, job.train.seed), itertools.count()
    batches = GpuCachedBatches(split, order, lambda: (next(epochs), 0), device=device, augment=job.augment)
    spent = 0.0
    for _ in range(job.train.epochs):
        steps = len(batches)
        for number, batch in enumerate(batches, start=1):
            optimizer.zero_grad()
            with torch.autocast(device.type, torch.bfloat16):
                loss = F.cross_entropy(model(batch.images_BHWC), batch.target, label_smoothing=0.1)
            loss.backward()
            optimizer.step()
            if number == 1:
                begun = moment()
        spent += (moment() - begun) * steps / (steps - 1)
    return spent


def moment() -> float:
    """Now, once the GPU has done what it was given."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()


if __name__ == "__main__":
    main()
