"""What int8 gains by a normalization in one operator (components/export/onnx_normalization.py): CPU time of one thread.

    python benchmarks/normalization.py [FOLDER] [--work WORK] [--network mobilenet_v2] [--batch 16] [--rounds 10]

FOLDER, WORK and --making are those of predict.py. Three files of the trained network, the two int8 ones by one
recipe and from the same calibration images, answer the same batch in turns:

fp32                the exported file
int8, sub and div   the mean subtracted and the deviation divided by as the exporter writes it
int8, one operator  both as one batch norm, which is what ships
"""

import argparse
import tempfile
from functools import partial
from pathlib import Path
from statistics import median
from unittest.mock import patch

import numpy as np
from side_by_side import compare, machine, ratio_range
from trained_models import Ready, add_flags, ready

from components.data.packed.calibration_images import CalibrationImages
from components.data.packed.loaders import open_split
from components.export import quantization
from components.export.quantization import U8S8, U8S8_REDUCED, Quantizer
from components.serving.onnx_classifier import OnnxClassifier

CALIBRATED = 64
FP32, BEFORE, NOW = "fp32", "int8, sub and div", "int8, one operator"
RECIPES = {recipe.name: recipe for recipe in (U8S8, U8S8_REDUCED)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_flags(parser, network="mobilenet_v2")
    parser.add_argument("--recipe", choices=list(RECIPES), default=U8S8.name)
    parser.add_argument("--images", type=int, default=400)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=10)
    flags = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        network = ready(flags, scratch, images=flags.images)
        measure(flags, network, files_of(network, scratch, flags.recipe))


def files_of(network: Ready, scratch: Path, recipe: str) -> dict[str, Path]:
    train = open_split(network.data, "train")
    named = [{"sha256": sha256} for sha256 in train.sha256_N[:CALIBRATED]]
    calibration = CalibrationImages(np.array(train.pixels_NHWC[:CALIBRATED]), named)
    source, files = network.files[FP32], {FP32: network.files[FP32]}
    card = OnnxClassifier(source).card

    def write(name: str) -> None:
        files[name] = scratch / f"{len(files)}.onnx"
        with Quantizer(source, calibration=calibration, card=card) as quantizer:
            quantizer.write(RECIPES[recipe], files[name])

    write(NOW)
    with (
        patch.object(quantization, "as_one_operator", lambda model: None),
        patch.object(quantization, "_KEPT_FLOAT", ("Cast", "Sub", "Div", "Transpose")),
    ):
        write(BEFORE)
    return {name: files[name] for name in (FP32, BEFORE, NOW)}


def measure(flags: argparse.Namespace, network: Ready, files: dict[str, Path]) -> None:
    models = {name: OnnxClassifier(file, threads=1) for name, file in files.items()}
    squares_NHWC = np.stack([models[FP32].square(image.content) for image in network.images])
    truth = np.array([models[FP32].card.classes.index(image.label) for image in network.images])
    said = {name: model.logits(squares_NHWC).argmax(axis=1) for name, model in models.items()}
    sides = {name: partial(model.logits, squares_NHWC[: flags.batch]) for name, model in models.items()}
    timings = compare(sides, rounds=flags.rounds)
    print(machine("onnxruntime"), "1 thread a session")
    print(f"{flags.network}, {squares_NHWC.shape[1]} px, batch {flags.batch}, {flags.recipe}\n")
    print(
        f"| | images per CPU second | times {FP32} | times {BEFORE} | accuracy of {len(truth)} | agrees with {FP32} |"
    )
    print("|---|---|---|---|---|---|")
    for name, timing in timings.items():
        rate = f"{flags.batch / median(timing.cpu_s):,.1f}"
        times = [ratio_range(timings[peer].cpu_s, timing.cpu_s) if name != peer else "1" for peer in (FP32, BEFORE)]
        shares = [f"{float((said[name] == side).mean()):.4f}" for side in (truth, said[FP32])]
        print(f"| {name} | {rate} | {' | '.join(times + shares)} |")


if __name__ == "__main__":
    main()
