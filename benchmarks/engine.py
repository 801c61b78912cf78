"""Steps a second of the training engine beside a bare hand-written loop: same model, data, batch and optimizer.

    python benchmarks/engine.py [--architecture plain] [--side 32] [--batch 64] [--steps 60] [--rounds 5] [--threads 1]

Engine: `components.training.fit` with its callbacks, checkpoints, reports and its learning rate, over one epoch of
`steps` batches. Bare: the loop that everybody writes: forward, cross-entropy, backward, step. Both read the same packed
images through the same loader without augmentation, start from the same weights and take the same fused AdamW. Timed
are the steps of an epoch alone, from the first one's start to the last one's end, in wall time and in the process's
CPU seconds: validation, checkpoints and start-up are the same work for both and no part of a step.
"""

import argparse
import tempfile
import time
from pathlib import Path

import torch
from side_by_side import Timing, machine, refuse_busy_machine, table
from torch.nn import functional as F
from training_data import augment_settings, drawn_project, new_job

from components.data.packed.loaders import open_split, training_loader
from components.data.packed.packing import read_dataset
from components.models.classifier import new_classifier
from components.training.fit import fit
from components.training.settings import TrainingJob

CLASSES = 10
FIXED = {"precision": "fp32", "channels_last": "off", "compile": "off", "label_smoothing": 0.0}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--architecture", default="plain")
    parser.add_argument("--side", type=int, default=32)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    flags = parser.parse_args()
    refuse_busy_machine()
    torch.set_num_threads(flags.threads)
    torch.use_deterministic_algorithms(True, warn_only=True)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        data = drawn_project(folder, images=flags.steps * flags.batch, side_px=flags.side, num_classes=CLASSES)
        timings = {"engine": Timing(), "bare loop": Timing()}
        for number in range(flags.rounds + 1):
            job = new_job(
                data,
                folder / f"{number}",
                side_px=flags.side,
                architecture=flags.architecture,
                augment=augment_settings("none"),
                batch_size=flags.batch,
                epochs=1,
                **FIXED,
            )
            engine, bare = engine_seconds(job), bare_seconds(job)
            if number:  # the first round warms both up
                for name, (wall, cpu) in (("engine", engine), ("bare loop", bare)):
                    timings[name].wall_s.append(wall)
                    timings[name].cpu_s.append(cpu)
        print(
            f"{flags.architecture}, {flags.side} px, batch {flags.batch}, {flags.steps} steps, {flags.threads} threads"
        )
        print(table(timings, per_round=flags.steps, unit="steps/s", peer="bare loop"))
    print(machine("torch", "lightning"))


def engine_seconds(job: TrainingJob) -> tuple[float, float]:
    """Of the steps between the first one's end and the last one's, scaled to all of them."""
    moments: list[tuple[float, float]] = []

    def note(done: int, total: int) -> None:
        moments.append((time.perf_counter(), time.process_time()))

    fit(job, on_epoch=lambda report: None, on_step=note)
    return scaled(moments)


def bare_seconds(job: TrainingJob) -> tuple[float, float]:
    data, split = read_dataset(Path(job.data)), open_split(Path(job.data), "train")
    torch.manual_seed(0)
    model = new_classifier(job.model, labels=data.labels, preprocess=job.preprocess, mean=data.mean, std=data.std)[0]
    model.train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.01, fused=True)
    moments = []
    for batch in training_loader(split, batch_size=job.train.batch_size, seed=0, augment=None, workers=0):
        optimizer.zero_grad()
        F.cross_entropy(model(batch.images_BHWC), batch.target).backward()
        optimizer.step()
        moments.append((time.perf_counter(), time.process_time()))
    return scaled(moments)


def scaled(moments: list[tuple[float, float]]) -> tuple[float, float]:
    (wall, cpu), (last_wall, last_cpu) = moments[0], moments[-1]
    factor = len(moments) / (len(moments) - 1)
    return (last_wall - wall) * factor, (last_cpu - cpu) * factor


if __name__ == "__main__":
    main()
