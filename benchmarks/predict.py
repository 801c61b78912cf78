"""Images a second of `darkroom predict` over JPEG files, beside the ways that people have without it.

    python benchmarks/predict.py [FOLDER] [--architecture resnet18] [--side 224] [--images 400] [--rounds 5]
    python benchmarks/predict.py [FOLDER] --memory 1000 10000 100000 [--side 64]

FOLDER holds a folder a class of JPEGs. All sides answer the same files with the same weights, in turns, on all cores:

darkroom fp32, int8   from the folder to a CSV, with the ONNX file as it ships
torch eager           a DataLoader with a process a core (decode, Resize, CenterCrop), the model in inference mode
mlflow models serve   MLflow's server with the fp32 file in its own onnx flavor, which is sent decoded pixels
darkroom's package    the same server with the registered package of the fp32 file, which is sent JPEG files
decode alone          the files to the model's squares, on all cores, with no model: the most that is possible

Both servers are asked for 16 images at a time by as many clients as there are cores; their CPU time stands in processes
of their own and is missing in the CPU columns. The backbone has random weights with settled batch norms, for its speed
is that of trained ones; its head is fitted to other images of the folder, so that agreement and accuracy say something.
With --memory: peak resident memory of the whole command, in a process of its own, over so many images (links to files).
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

import numpy as np
import torch
from photographs import files_in, photographs
from PIL import Image
from scoring_clients import as_numbers, asked, onnx_package, served, serving
from side_by_side import compare, machine, refuse_busy_machine, table, usage
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import v2

from components.data.calibration import CalibrationImages
from components.data.preprocessing import PreprocessSettings, square_of
from components.export.onnx_export import export_onnx
from components.export.quantization import U8S8, Quantizer
from components.labels import LabelSpace
from components.models.classifier import ImageClassifier, ModelSpec
from components.models.features import features, last_layer
from components.serving.answers import AnswerOptions, answer_columns
from components.serving.classifier import ModelCard, OnnxClassifier
from components.serving.inputs import find_inputs
from components.serving.output import Job, columns_of, write_predictions
from components.serving.prediction import batch_size, predict, usable_cores

FITTED, CALIBRATED, BATCH, REQUEST = 400, 64, 64, 16


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, nargs="?")
    parser.add_argument("--architecture", default="resnet18")
    parser.add_argument("--side", type=int, default=224)
    parser.add_argument("--images", type=int, default=400)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--memory", type=int, nargs="+", metavar="IMAGES")
    flags = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        files = files_in(photographs(flags.folder, scratch))
        fitted, judged = files[:FITTED], files[FITTED : FITTED + flags.images]
        model = small_model(flags.architecture, flags.side, fitted)
        card = ModelCard(flags.architecture, model.spec.labels, model.spec.preprocess, "fp32", "d", "r")
        export_onnx(model, scratch / "fp32.onnx", card=card)
        if flags.memory:
            for count in flags.memory:
                print(peak_memory(scratch, files, count))
        else:
            measure(scratch, model, fitted, judged, flags.rounds)


def measure(scratch: Path, model: ImageClassifier, fitted: list[Path], judged: list[Path], rounds: int) -> None:
    refuse_busy_machine()
    preprocess = model.spec.preprocess
    card = ModelCard(model.spec.architecture, model.spec.labels, preprocess, "int8", "d", "r")
    calibration_NHWC = np.stack([square_of(file.read_bytes(), preprocess) for file in fitted[:CALIBRATED]])
    calibration = CalibrationImages(calibration_NHWC, [{"path": file.name} for file in fitted[:CALIBRATED]])
    with Quantizer(scratch / "fp32.onnx", calibration=calibration, card=card) as quantizer:
        quantizer.write(U8S8, scratch / "int8.onnx")
    sources = linked(judged, scratch / "judged")
    answers: dict[str, list[str]] = {}
    flavor = onnx_package(scratch / "fp32.onnx", scratch, preprocess.image_size_px)
    with served(scratch / "fp32.onnx", scratch) as ours, serving(flavor, scratch) as peer:
        sides: dict[str, Callable[[], None]] = {
            f"darkroom {name}": partial(by_darkroom, scratch / f"{name}.onnx", sources, answers, name)
            for name in ("fp32", "int8")
        }
        sides["torch eager"] = partial(by_torch, model, sources, answers)
        sides["mlflow models serve"] = partial(by_peer, peer, model, sources, answers)
        sides["darkroom's package"] = partial(by_package, ours, sources, answers)
        sides["decode alone"] = partial(decode_alone, preprocess, sources)
        timings = compare(sides, rounds=rounds)
    kilobytes = np.mean([file.stat().st_size for file in judged]) / 1e3
    print(machine("onnxruntime", "torch", "torchvision", "mlflow", "pillow"))
    print(f"{model.spec.architecture}, {preprocess.image_size_px} px, {len(sources)} JPEGs of {kilobytes:.0f} kB\n")
    print(table(timings, per_round=len(sources), unit="images/s", peer="torch eager"), "\n")
    print(table(timings, per_round=len(sources), unit="images/s", peer="mlflow models serve"), "\n")
    truth = np.array([file.resolve().parent.name for file in sources])
    for name, said in answers.items():
        agreement = float((np.array(said) == np.array(answers["torch eager"])).mean())
        print(f"{name}: accuracy {float((np.array(said) == truth).mean()):.4f}, agreement with torch {agreement:.4f}")


def by_darkroom(file: Path, sources: list[Path], answers: dict[str, list[str]], name: str) -> None:
    model = OnnxClassifier(file, threads=1)
    options = AnswerOptions()
    out = file.with_suffix(".csv")
    job = Job(out, columns_of(answer_columns(model.card, options)), {"file": str(file)}, batch_size(model))
    write_predictions(
        job,
        partial(find_inputs, [str(sources[0].parent)]),
        partial(predict, model=model, model_name=name, options=options),
        told=lambda done: None,
    )
    with out.open(newline="") as stream:
        answers[f"darkroom {name}"] = [row["label"] for row in csv.DictReader(stream)]


class Files(Dataset[torch.Tensor]):
    """What is commonly written for files without labels."""

    def __init__(self, files: Sequence[Path], side: int) -> None:
        self._files = files
        self._transform = v2.Compose([v2.Resize(side), v2.CenterCrop(side), v2.PILToTensor()])

    def __len__(self) -> int:
        return len(self._files)

    def __getitem__(self, place: int) -> torch.Tensor:
        with Image.open(self._files[place]) as image:
            pixels: torch.Tensor = self._transform(image.convert("RGB"))
        return pixels.permute(1, 2, 0)


def by_torch(model: ImageClassifier, sources: list[Path], answers: dict[str, list[str]]) -> None:
    data = Files(sources, model.spec.preprocess.image_size_px)
    loader = DataLoader(data, batch_size=BATCH, num_workers=usable_cores())
    said: list[str] = []
    with torch.inference_mode():
        for images_BHWC in loader:
            said += [model.spec.labels.classes[index] for index in model(images_BHWC).argmax(dim=1).tolist()]
    answers["torch eager"] = said


def by_package(address: str, sources: list[Path], answers: dict[str, list[str]]) -> None:
    def ask(contents: list[bytes]) -> list[str]:
        rows = [[base64.b64encode(content).decode()] for content in contents]
        body = json.dumps({"dataframe_split": {"columns": ["image"], "data": rows}}).encode()
        return [row["label"] for row in asked(address, body)]

    answers["darkroom's package"] = by_clients(ask, sources)


def by_peer(address: str, model: ImageClassifier, sources: list[Path], answers: dict[str, list[str]]) -> None:
    def ask(contents: list[bytes]) -> list[str]:
        logits = asked(address, as_numbers(contents, model.spec.preprocess))["logits"]
        return [model.spec.labels.classes[index] for index in np.argmax(logits, axis=1)]

    answers["mlflow models serve"] = by_clients(ask, sources)


def by_clients(ask: Callable[[list[bytes]], list[str]], sources: list[Path]) -> list[str]:
    requests = [sources[start : start + REQUEST] for start in range(0, len(sources), REQUEST)]
    with ThreadPoolExecutor(usable_cores()) as clients:
        found = clients.map(lambda files: ask([file.read_bytes() for file in files]), requests)
        return [label for labels in found for label in labels]


def decode_alone(preprocess: PreprocessSettings, sources: list[Path]) -> None:
    with ThreadPoolExecutor(usable_cores()) as threads:
        for _ in threads.map(lambda file: square_of(file.read_bytes(), preprocess).shape, sources):
            pass


def small_model(architecture: str, side: int, fitted: list[Path]) -> ImageClassifier:
    """Random but settled features, and a head fitted to the images."""
    from sklearn.linear_model import LogisticRegression

    torch.manual_seed(0)
    labels = LabelSpace.of("single", [[file.parent.name] for file in fitted])
    preprocess = PreprocessSettings(image_size_px=side, resize="crop", max_megapixels=100)
    spec = ModelSpec(architecture=architecture, labels=labels, preprocess=preprocess, mean=[0.5] * 3, std=[0.25] * 3)
    model = ImageClassifier(spec)
    squares = torch.stack([torch.tensor(square_of(file.read_bytes(), preprocess)) for file in fitted])
    batches = squares.split(BATCH)
    model.train()
    with torch.no_grad():
        for images_BHWC in batches:
            model(images_BHWC)
    known_NF = torch.cat([features(model, images_BHWC) for images_BHWC in batches]).numpy()
    spread_F = known_NF.std(axis=0) + 1e-6
    fit = LogisticRegression(max_iter=300, C=0.1).fit(known_NF / spread_F, [file.parent.name for file in fitted])
    layer = last_layer(model.net)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor(fit.coef_ / spread_F, dtype=torch.float32))
        layer.bias.copy_(torch.tensor(fit.intercept_, dtype=torch.float32))
    return model.eval()


def linked(files: list[Path], folder: Path) -> list[Path]:
    folder.mkdir()
    links = [folder / f"{number:06d}.jpg" for number in range(len(files))]
    for file, link in zip(files, links, strict=True):
        link.symlink_to(file.resolve())
    return links


def peak_memory(scratch: Path, files: list[Path], count: int) -> str:
    folder = scratch / f"many-{count}"
    linked([files[number % len(files)] for number in range(count)], folder)
    words = ["predict", str(folder), "--out", str(scratch / "out.csv"), "--model", str(scratch / "fp32.onnx"), "--json"]
    used = usage([sys.executable, "-m", "flows.cli", *words], env=os.environ)
    assert used.exit_code == 0
    return f"{count:7d} images: peak {used.peak_mib:.0f} MiB, {count / used.seconds:.0f} images/s with the start"


if __name__ == "__main__":
    main()
