"""Bytes, speed and accuracy of Darkroom's int8 files, of networks trained on a folder of real images.

    python benchmarks/int8.py FOLDER --work WORK [--networks resnet18 …] [--side 128] [--epochs 4] [--learn-side 64]
        [--learn-batch 16] [--aware-epochs 3] [--batch 16] [--images 64] [--rounds 5] [--threads 2]
        [--keep-freed-memory] [--until train|export|score|time]

FOLDER holds a folder a class. Everything that can be kept lies in WORK: an interrupted call resumes, and a later call
only times. `--until` ends earlier. Training and scoring may share the machine; exporting, which chooses by latency, and
timing refuse to. With --keep-freed-memory the timing process keeps what its sides free: torch eager gains most by it.

All sides have weights that were learnt at --learn-side and tuned at --side, see the same squares of test images, and
take turns:

int8                    what `components.export` makes and chooses on this machine
torch eager             the model in inference mode
ONNX fp32               the exported file
onnxruntime's default   its `quantize_static` of that file, with nothing but the calibration images of ours

Accuracy is of the whole test split, which training, calibration and the choice of the file never saw. `changed` counts
its images that a side has right and ONNX fp32 wrong, and the other way round.
"""

import argparse
import logging
import os
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from onnxruntime.quantization import CalibrationDataReader, quantize_static
from side_by_side import Timing, compare, machine, ratio_range, refuse_busy_machine
from trained_models import exported, prepared, trained

from components.data.packed.loaders import open_split
from components.evaluation.inference import predict_split
from components.evaluation.predictions import Predictions
from components.evaluation.served_predictions import predict_packed
from components.export.exporter import CALIBRATION
from components.models.classifier import ImageClassifier
from components.records.export import ExportRecord
from components.serving.onnx_classifier import INPUT, OnnxClassifier
from components.shared.allocator import keep_freed_memory
from components.shared.files import atomic_file, read_json, write_json
from components.shared.processor import usable_cores
from components.shared.progress import silent

STEPS = ("train", "export", "score", "time")
FP32, INT8, DEFAULT, TORCH = "ONNX fp32", "int8", "onnxruntime's default", "torch eager"
FILES = {FP32: "model_fp32.onnx", INT8: "model_int8.onnx", DEFAULT: "default_int8.onnx"}
AIMS = {
    "resnet18": {"bytes": 0.26, TORCH: 2.5, FP32: 1.6, DEFAULT: 1.5},
    "resnet50": {"bytes": 0.26, TORCH: 2.5, FP32: 1.6, DEFAULT: 1.5},
    "mobilenet_v2": {"bytes": 0.285, TORCH: 2.5, FP32: 1.2, DEFAULT: 1.5},
    "efficientnet_b0": {"bytes": 0.285, TORCH: 2.5, DEFAULT: 1.5},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--networks", nargs="+", default=list(AIMS))
    parser.add_argument("--side", type=int, default=128)
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--learn-side", type=int, default=64)
    parser.add_argument("--learn-batch", type=int, default=16)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--aware-epochs", type=int, default=3)
    parser.add_argument("--images", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=usable_cores())
    parser.add_argument("--keep-freed-memory", action="store_true")
    parser.add_argument("--until", choices=STEPS, default=STEPS[-1])
    flags = parser.parse_args()
    logging.getLogger().setLevel(logging.ERROR)  # onnxruntime's quantizer logs every step to the root logger
    steps = STEPS[: STEPS.index(flags.until) + 1]
    data = prepared(flags.folder, flags.work, side_px=flags.side)
    networks, made_anything = list[Network](), False
    for name in flags.networks:
        model = trained(
            name,
            data,
            flags.work,
            epochs=flags.epochs,
            learn_side_px=flags.learn_side,
            batch_size=flags.learn_batch,
        )
        network = Network(name, model, data, flags.work / name, qat_epochs=flags.qat_epochs)
        if "export" in steps:
            network.export()
        if "score" in steps:
            network.score()
        made_anything = network.made_anything or made_anything
        networks.append(network)
    if "time" not in steps:
        return
    if made_anything:
        # A process that has done nothing else does the timing: one that has trained or scored holds memory that torch
        # eager would otherwise have to ask for.
        os.execv(sys.executable, [sys.executable, *sys.argv])
    if flags.keep_freed_memory:
        keep_freed_memory()
    for network in networks:
        network.time(flags)
    print(machine("onnxruntime", "torch"), f"{flags.threads} threads, freed memory kept: {flags.keep_freed_memory}")


class Network:
    def __init__(self, name: str, model: ImageClassifier, data: Path, folder: Path, *, qat_epochs: int) -> None:
        self._name, self._model, self._data = name, model.eval(), data
        self._folder, self._scores_file = folder / "export", folder / "scores.json"
        self._test, self._aware_epochs = open_split(data, "test"), qat_epochs
        self.made_anything = False

    def export(self) -> None:
        """Our files, and the peer's from the same fp32 file and calibration images."""
        if self._file(DEFAULT).is_file():
            return
        refuse_busy_machine()
        self.made_anything = True
        self._scores_file.unlink(missing_ok=True)
        self._exported()
        train = open_split(self._data, "train")
        places = {sha256: place for place, sha256 in enumerate(train.sha256_N)}
        chosen = [places[image["sha256"]] for image in read_json(self._folder / CALIBRATION)["images"]]
        with atomic_file(self._file(DEFAULT)) as draft:
            quantize_static(self._file(FP32), draft, Calibration(train.pixels_NHWC[chosen]))

    def score(self) -> None:
        """Accuracy of each side on the test split."""
        if self._scores_file.is_file():
            return
        self.made_anything = True
        sides = {name: predict_packed(OnnxClassifier(self._file(name)), self._test) for name in FILES}
        sides[TORCH] = predict_split(self._model, self._test, progress=silent)
        write_json(self._scores_file, {name: _scores(side, sides[FP32]) for name, side in sides.items()})

    def time(self, flags: argparse.Namespace) -> None:
        refuse_busy_machine()
        torch.set_num_threads(flags.threads)
        images_NHWC = np.array(self._test.pixels_NHWC[: flags.images])
        answers: dict[str, Callable[[NDArray[np.uint8]], object]] = {TORCH: self._eager}
        for name in (FP32, DEFAULT, INT8):
            answers[name] = OnnxClassifier(self._file(name), threads=flags.threads).logits
        sides = {name: partial(_in_batches, answer, images_NHWC, flags.batch) for name, answer in answers.items()}
        timings = compare(sides, rounds=flags.rounds)
        self._print_table(timings, flags)

    @torch.inference_mode()
    def _eager(self, images_BHWC: NDArray[np.uint8]) -> torch.Tensor:
        return self._model(torch.from_numpy(images_BHWC))

    def _print_table(self, timings: dict[str, Timing], flags: argparse.Namespace) -> None:
        export, scored = self._exported(), read_json(self._scores_file)
        recipe, served = export.formats["int8"].measured.recipe, export.served
        print(f"\n{self._name}, {flags.side} px, batch {flags.batch}; int8 is {recipe}; {served} would be served")
        print(f"aims: {AIMS.get(self._name)}, accuracy within 0.005\n")
        print(
            f"| | images/s | int8 is so many times as fast | bytes of fp32 | accuracy of {len(self._test)} | changed |"
        )
        print("|---|---|---|---|---|---|")
        for name, timing in timings.items():
            rate = f"{flags.images / median(timing.wall_s):,.1f}"
            times = ratio_range(timing.wall_s, timings[INT8].wall_s) if name != INT8 else "1"
            print(f"| {name} | {rate} | {times} | {self._share(name)} | {_score_text(scored[name])} |", flush=True)

    def _exported(self) -> ExportRecord:
        return exported(self._model, self._data, self._folder, qat_epochs=self._aware_epochs)

    def _share(self, name: str) -> str:
        if name not in FILES:
            return ""
        return f"{self._file(name).stat().st_size / self._file(FP32).stat().st_size:.4f}"

    def _file(self, name: str) -> Path:
        return self._folder / FILES[name]


class Calibration(CalibrationDataReader):  # type: ignore[misc]
    def __init__(self, images_NHWC: NDArray[np.uint8]) -> None:
        self._images: Iterator[NDArray[np.uint8]] = iter(np.array_split(images_NHWC, max(1, len(images_NHWC) // 16)))

    def get_next(self) -> dict[str, NDArray[np.uint8]] | None:
        batch = next(self._images, None)
        return None if batch is None else {INPUT: batch}


def _scores(side: Predictions, fp32: Predictions) -> dict[str, float]:
    gained, lost = side.correct_N & ~fp32.correct_N, fp32.correct_N & ~side.correct_N
    return {"accuracy": float(side.correct_N.mean()), "gained": int(gained.sum()), "lost": int(lost.sum())}


def _score_text(scores: dict[str, Any]) -> str:
    return f"{scores['accuracy']:.4f} | +{scores['gained']} −{scores['lost']}"


def _in_batches(answer: Callable[[NDArray[np.uint8]], object], images_NHWC: NDArray[np.uint8], batch: int) -> None:
    for start in range(0, len(images_NHWC), batch):
        answer(images_NHWC[start : start + batch])


if __name__ == "__main__":
    main()
