"""`darkroom init` and `darkroom run` without a setting on a folder of photos, beside ordinary fine-tuning.

    python benchmarks/own_photos.py FOLDER [--presets fast balanced] [--peer-epochs 6]

FOLDER has train, validation (or val) and test, each with a folder a class. The peer is a script in the manner of timm's
training with the very same weights: all layers by AdamW and a cosine, random crops and flips, channels last, images
decoded once before its clock starts; its accuracy is that of the network in torch, after each epoch. Ours is that of
the file that would be served, by the whole run: looking for duplicates, training, evaluation, int8, gate and registry.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from side_by_side import machine, refuse_busy_machine

from components.data.images.preprocessing import PreprocessSettings, square_of
from components.shared.allocator import keep_freed_memory

_SIDE_PX, _BATCH = 224, 32


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--presets", nargs="*", default=["fast", "balanced"])
    parser.add_argument("--peer-epochs", type=int, default=6)
    asked = parser.parse_args()
    refuse_busy_machine()
    rows = [ours(asked.folder.resolve(), preset) for preset in asked.presets]
    if asked.peer_epochs:
        rows += peer(asked.folder, asked.peer_epochs)
    print(f"{'':<24}{'minutes':>9}{'accuracy':>10}{'macro F1':>10}")
    for name, seconds, accuracy, f1 in rows:
        print(f"{name:<24}{seconds / 60:>9.1f}{accuracy:>10.4f}{f1:>10.4f}")
    print(machine("torch", "torchvision", "timm"))


def ours(folder: Path, preset: str) -> tuple[str, float, float, float]:
    """One run in a project of its own, from `init` to the gate's decision."""
    with tempfile.TemporaryDirectory() as scratch:
        project, started = Path(scratch) / "photos", time.perf_counter()
        command([sys.executable, "-m", "flows.cli.main", "init", str(project)], Path(scratch))
        run = ["run", "--data", str(folder), "--set", f"auto.preset={preset}", "--json"]
        found = json.loads(command([sys.executable, "-m", "flows.cli.main", *run], project).splitlines()[-1])
        seconds = time.perf_counter() - started
        served = found["metrics"][f"onnx_{found['served']}"]
        for step in found["steps"]:
            print(f"  {preset}: {step['name']} {step['seconds']:.1f} s", file=sys.stderr)
        return f"darkroom, {preset} ({found['served']})", seconds, served["accuracy"], served["macro_f1"]


def command(words: list[str], folder: Path) -> str:
    done = subprocess.run(words, cwd=folder, stdout=subprocess.PIPE, text=True, check=True)
    return done.stdout


def peer(folder: Path, epochs: int) -> list[tuple[str, float, float, float]]:
    """Its scores after each epoch."""
    import timm
    import torch
    from sklearn.metrics import f1_score
    from torch import nn
    from torchvision.transforms import v2

    from components.models.weights import pretrained_weights

    keep_freed_memory()
    torch.manual_seed(0)
    classes = sorted(path.name for path in (folder / "train").iterdir() if path.is_dir())
    train, test = (read(folder / split, classes) for split in ("train", "test"))
    network = timm.create_model("tf_efficientnet_lite0", num_classes=1000)
    network.load_state_dict(pretrained_weights("tf_efficientnet_lite0").state)
    network.reset_classifier(len(classes))
    network = network.to(memory_format=torch.channels_last)
    augment = v2.Compose([v2.RandomResizedCrop(_SIDE_PX, scale=(0.5, 1.0)), v2.RandomHorizontalFlip()])
    steps = epochs * (len(train[0]) // _BATCH)
    optimizer = torch.optim.AdamW(network.parameters(), lr=5e-4, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 5e-4, total_steps=steps, pct_start=0.1)
    criterion = nn.CrossEntropyLoss(label_smoothing=0.1)

    def batch(pixels_NHWC: Any, rows: Any, change: Any) -> Any:
        images = torch.from_numpy(pixels_NHWC[rows]).permute(0, 3, 1, 2)
        return (change(images).float() / 127.5 - 1).contiguous(memory_format=torch.channels_last)

    found, seconds = [], 0.0
    for epoch in range(epochs):
        started = time.perf_counter()
        network.train()
        order = np.random.default_rng(epoch).permutation(len(train[0]))
        for first in range(0, len(order) - _BATCH + 1, _BATCH):
            rows = order[first : first + _BATCH]
            images = torch.cat([batch(train[0], rows[i : i + 1], augment) for i in range(len(rows))])
            loss = criterion(network(images), torch.from_numpy(train[1][rows]))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
        seconds += time.perf_counter() - started
        network.eval()
        with torch.inference_mode():
            blocks = [np.arange(first, min(first + _BATCH, len(test[0]))) for first in range(0, len(test[0]), _BATCH)]
            answers = np.concatenate([network(batch(test[0], rows, lambda x: x)).argmax(1).numpy() for rows in blocks])
        accuracy = float((answers == test[1]).mean())
        found.append(
            (f"timm, epoch {epoch + 1}", seconds, accuracy, float(f1_score(test[1], answers, average="macro")))
        )
    return found


def read(folder: Path, classes: list[str]) -> tuple[Any, Any]:
    """Pixels, decoded once, and class indices."""
    settings = PreprocessSettings(image_size_px=_SIDE_PX, resize="pad", max_megapixels=100)
    files = [(file, index) for index, name in enumerate(classes) for file in sorted((folder / name).iterdir())]
    pixels = np.stack([square_of(file.read_bytes(), settings) for file, _ in files])
    return pixels, np.array([index for _, index in files])


if __name__ == "__main__":
    main()
