"""Images a second of `darkroom predict` over JPEG files, beside the ways that people have without it.

    python benchmarks/predict.py [FOLDER] [--work WORK] [--network resnet18] [--images 400] [--rounds 5]
    python benchmarks/predict.py [FOLDER] [--work WORK] [--network resnet18] --memory 1000 10000 100000

FOLDER holds a folder a class of JPEGs. WORK is where benchmarks/int8.py trains and exports: what isn't there yet is
made by it first, with its flags in --making ("--side 64 --epochs 1"). All sides answer the same files, of a test split
that training and the choice of the int8 file never saw, with the same network, in turns, on all cores:

darkroom fp32, int8   from the folder to a CSV, loading the ONNX file as it ships
darkroom fp32, warm   the same with the file loaded before, as the servers' is
torch eager           a DataLoader with a process a core (decode, Resize, CenterCrop), the model in inference mode
mlflow models serve   MLflow's server with the fp32 file in its own onnx flavor, which is sent decoded pixels
registered package    the same server with the registered package of the fp32 file, which is sent JPEG files
decode alone          the files to the model's squares, on all cores, with no model: the most that is possible

Both servers are warm, and asked for 16 images at a time by as many clients as there are cores.
With --memory: peak memory (RSS) of the whole command with the int8 file, in a process of its own, over so many
images (links to files).
"""

import argparse
import base64
import csv
import json
import os
import sys
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from statistics import median

import numpy as np
import torch
from PIL import Image
from scoring_clients import as_numbers, asked, onnx_package, served, serving
from side_by_side import Timing, compare, machine, ratio_range, refuse_busy_machine, usage
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import v2
from trained_models import Ready, add_flags, ready

from components.data.files.find_images import find_images
from components.data.images.preprocessing import PreprocessSettings, square_of
from components.models.classifier import ImageClassifier
from components.serving.batch_prediction import batch_size, predict
from components.serving.onnx_classifier import OnnxClassifier
from components.serving.prediction_records import PredictionOptions, prediction_columns
from components.serving.prediction_tables import PredictionJob, table_columns, write_predictions
from components.shared.processor import usable_cores

BATCH, REQUEST = 64, 16
WARM = "darkroom fp32, warm"
TORCH, PEER, PACKAGE, DECODING = "torch eager", "mlflow models serve", "registered package", "decode alone"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_flags(parser, network="resnet18")
    parser.add_argument("--images", type=int, default=400)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--memory", type=int, nargs="+", metavar="IMAGES")
    flags = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        network = ready(flags, scratch, images=flags.images)
        files = written([image.content for image in network.images], scratch / "images")
        if flags.memory:
            for count in flags.memory:
                print(peak_memory(scratch, network.files["int8"], files, count), flush=True)
        else:
            measure(scratch, network, files, flags.rounds)


def measure(scratch: Path, network: Ready, sources: list[Path], rounds: int) -> None:
    refuse_busy_machine()
    torch.set_num_threads(usable_cores())
    preprocess = network.model.spec.preprocess
    predictions: dict[str, list[str]] = {}
    flavor = onnx_package(network.files["fp32"], scratch, preprocess.image_size_px)
    with served(network.files["fp32"], scratch) as ours, serving(flavor, scratch) as peer:
        sides: dict[str, Callable[[], None]] = {
            f"darkroom {name}": partial(
                by_darkroom, network.files[name], scratch, sources, predictions, f"darkroom {name}"
            )
            for name in ("int8", "fp32")
        }
        sides[WARM] = partial(by_warm_darkroom, loaded(network.files["fp32"]), scratch, sources, predictions, WARM)
        sides[PACKAGE] = partial(by_package, ours, sources, predictions)
        sides[TORCH] = partial(by_torch, network.model, sources, predictions)
        sides[PEER] = partial(by_peer, peer, network.model, sources, predictions)
        sides[DECODING] = partial(decode_alone, preprocess, sources)
        timings = compare(sides, rounds=rounds)
    print(machine("onnxruntime", "torch", "torchvision", "mlflow", "pillow"), f"{usable_cores()} threads")
    kilobytes = np.mean([file.stat().st_size for file in sources]) / 1e3
    print(
        f"{network.model.spec.architecture}, {preprocess.image_size_px} px, {len(sources)} JPEGs of {kilobytes:.0f} kB"
    )
    print(f"{network.verdict}\n")
    print_table(timings, predictions, [image.label for image in network.images])


def print_table(timings: dict[str, Timing], predictions: dict[str, list[str]], truth: list[str]) -> None:
    """Median rates, and the medians of the rounds' own ratios (lowest to highest)."""
    peers = (TORCH, PEER, PACKAGE, DECODING)
    print(f"| | images/s | {' | '.join(f'times {peer}' for peer in peers)} | accuracy | agreement with torch |")
    print("|---" * (len(peers) + 4) + "|")
    for name, timing in timings.items():
        rate = f"{len(truth) / median(timing.wall_s):,.1f}"
        times = [ratio_range(timings[peer].wall_s, timing.wall_s) if name != peer else "1" for peer in peers]
        fractions = ["", ""]
        if name in predictions:
            fractions = [
                f"{float((np.array(predictions[name]) == side).mean()):.4f}" for side in (truth, predictions[TORCH])
            ]
        print(f"| {name} | {rate} | {' | '.join(times + fractions)} |")


def loaded(file: Path) -> OnnxClassifier:
    """As the command loads it: each core computes batches of its own."""
    return OnnxClassifier(file, threads=1)


def by_darkroom(file: Path, scratch: Path, sources: list[Path], predictions: dict[str, list[str]], name: str) -> None:
    by_warm_darkroom(loaded(file), scratch, sources, predictions, name)


def by_warm_darkroom(
    model: OnnxClassifier, scratch: Path, sources: list[Path], predictions: dict[str, list[str]], name: str
) -> None:
    options = PredictionOptions()
    out = scratch / "out.csv"
    job = PredictionJob(
        out, table_columns(prediction_columns(model.card, options)), {"model": model.sha256}, batch_size(model)
    )
    write_predictions(
        job,
        partial(find_images, [str(sources[0].parent)]),
        partial(predict, model=model, model_name=name, options=options),
        on_progress=lambda done: None,
    )
    with out.open(newline="") as stream:
        predictions[name] = [row["label"] for row in csv.DictReader(stream)]


class Files(Dataset[torch.Tensor]):
    """What is commonly written for files without labels."""

    def __init__(self, files: Sequence[Path], side: int) -> None:
        self._files = files
        self._transform = v2.Compose([v2.Resize(side), v2.CenterCrop(side), v2.PILToTensor()])

    def __len__(self) -> int:
        return len(self._files)

    def __getitem__(self, index: int) -> torch.Tensor:
        with Image.open(self._files[index]) as image:
            pixels: torch.Tensor = self._transform(image.convert("RGB"))
        return pixels.permute(1, 2, 0)


def by_torch(model: ImageClassifier, sources: list[Path], predictions: dict[str, list[str]]) -> None:
    data = Files(sources, model.spec.preprocess.image_size_px)
    loader = DataLoader(data, batch_size=BATCH, num_workers=usable_cores())
    labels: list[str] = []
    with torch.inference_mode():
        for images_BHWC in loader:
            labels += [model.spec.labels.classes[index] for index in model(images_BHWC).argmax(dim=1).tolist()]
    predictions[TORCH] = labels


def by_package(address: str, sources: list[Path], predictions: dict[str, list[str]]) -> None:
    def ask(contents: list[bytes]) -> list[str]:
        rows = [[base64.b64encode(content).decode()] for content in contents]
        body = json.dumps({"dataframe_split": {"columns": ["image"], "data": rows}}).encode()
        return [row["label"] for row in asked(address, body)]

    predictions[PACKAGE] = by_clients(ask, sources)


def by_peer(address: str, model: ImageClassifier, sources: list[Path], predictions: dict[str, list[str]]) -> None:
    def ask(contents: list[bytes]) -> list[str]:
        logits = asked(address, as_numbers(contents, model.spec.preprocess))["logits"]
        return [model.spec.labels.classes[index] for index in np.argmax(logits, axis=1)]

    predictions[PEER] = by_clients(ask, sources)


def by_clients(ask: Callable[[list[bytes]], list[str]], sources: list[Path]) -> list[str]:
    requests = [sources[start : start + REQUEST] for start in range(0, len(sources), REQUEST)]
    with ThreadPoolExecutor(usable_cores()) as clients:
        found = clients.map(lambda files: ask([file.read_bytes() for file in files]), requests)
        return [label for labels in found for label in labels]


def decode_alone(preprocess: PreprocessSettings, sources: list[Path]) -> None:
    with ThreadPoolExecutor(usable_cores()) as threads:
        for _ in threads.map(lambda file: square_of(file.read_bytes(), preprocess).shape, sources):
            pass


def written(contents: list[bytes], folder: Path) -> list[Path]:
    folder.mkdir()
    files = [folder / f"{number:06d}.jpg" for number in range(len(contents))]
    for file, content in zip(files, contents, strict=True):
        file.write_bytes(content)
    return files


def peak_memory(scratch: Path, model: Path, files: list[Path], count: int) -> str:
    folder = scratch / f"many-{count}"
    folder.mkdir()
    for number in range(count):
        (folder / f"{number:06d}.jpg").symlink_to(files[number % len(files)])
    words = ["predict", str(folder), "--out", str(scratch / "out.csv"), "--model", str(model), "--json"]
    used = usage([sys.executable, "-m", "flows.cli.main", *words], env=os.environ)
    assert used.exit_code == 0
    return f"{count:7d} images: peak {used.peak_mib:.0f} MiB, {count / used.seconds:.0f} images/s with the start"


if __name__ == "__main__":
    main()
