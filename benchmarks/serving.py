"""Latency of one image through MLflow's scoring server, at 1 and 16 clients: p50 and p99.

    python benchmarks/serving.py [FOLDER] [--work WORK] [--network resnet18] [--requests 200] [--rounds 5]

FOLDER, WORK and --making are those of predict.py. Two servers of the same fp32 ONNX file, each `mlflow
models serve` with one worker, asked in turns over kept connections, every client as soon as it has its answer:

darkroom               the registered package: the bytes of a JPEG file in, the label out
mlflow's onnx flavor   the client decodes, and sends the pixels as numbers (its decoding is timed too)
no server              the same work in one thread of this process: what HTTP, JSON and MLflow cost

A latency is from the bytes of the file to the label. The network in torch, to which the answers are compared, sees the
same decoded squares.
"""

import argparse
import base64
import json
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from statistics import median

import numpy as np
import torch
from scoring_clients import Client, as_numbers, onnx_package, served, serving
from side_by_side import machine, ratio_range, refuse_busy_machine
from trained_models import add_flags, ready

from components.data.images.preprocessing import PreprocessSettings, square_of
from components.models.classifier import ImageClassifier
from components.serving.onnx_classifier import OnnxClassifier
from components.shared.processor import usable_cores

CLIENTS = (1, 16)
NUM_WARM_UP = 32
Ask = Callable[[bytes], str]
"""From the bytes of an image file to its label."""


@dataclass
class Measured:
    """A line of the table, by round."""

    latencies: list[list[float]] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    labels: list[str] = field(default_factory=list)
    """Of the last round."""

    def percentile_ms(self, percent: float) -> list[float]:
        return [1e3 * float(np.percentile(one, percent)) for one in self.latencies]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_flags(parser, network="resnet18")
    parser.add_argument("--requests", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=5)
    flags = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        network = ready(flags, scratch, images=flags.requests)
        refuse_busy_machine()
        contents, file = [image.content for image in network.images], network.files["fp32"]
        preprocess = network.model.spec.preprocess
        flavor = onnx_package(file, scratch, preprocess.image_size_px)
        with served(file, scratch) as ours, serving(flavor, scratch) as peer:
            sides: dict[str, Callable[[], Ask]] = {
                "darkroom": partial(package_client, ours),
                "mlflow's onnx flavor": partial(flavor_client, peer, network.model),
                "no server": partial(no_server, OnnxClassifier(file)),
            }
            measured = in_turns(sides, contents, flags.rounds)
        print(machine("onnxruntime", "torch", "mlflow", "uvicorn"), f"{usable_cores()} threads")
        print(f"{flags.network}, {preprocess.image_size_px} px, {flags.rounds} × {len(contents)} requests a line\n")
        print_table(measured, by_torch(network.model, contents, preprocess), [image.label for image in network.images])


def in_turns(
    sides: dict[str, Callable[[], Ask]], contents: list[bytes], rounds: int
) -> dict[tuple[str, int], Measured]:
    """By side and number of clients; each is asked for some images untimed before."""
    measured = {
        (name, clients): Measured() for clients in CLIENTS for name in sides if name != "no server" or clients == 1
    }
    for name, clients in measured:
        ask_all(sides[name], contents[:NUM_WARM_UP], clients)
    for _ in range(rounds):
        for (name, clients), line in measured.items():
            began = time.perf_counter()
            latencies, line.labels = ask_all(sides[name], contents, clients)
            line.seconds.append(time.perf_counter() - began)
            line.latencies.append(latencies)
    return measured


def ask_all(connect: Callable[[], Ask], contents: list[bytes], clients: int) -> tuple[list[float], list[str]]:
    """Latency in seconds and label of each image."""
    latencies, labels = [0.0] * len(contents), [""] * len(contents)

    def work(first: int) -> None:
        ask = connect()
        for index in range(first, len(contents), clients):
            began = time.perf_counter()
            labels[index] = ask(contents[index])
            latencies[index] = time.perf_counter() - began

    with ThreadPoolExecutor(clients) as threads:
        list(threads.map(work, range(clients)))
    return latencies, labels


def package_client(address: str) -> Ask:
    client = Client(address)

    def ask(content: bytes) -> str:
        text = base64.b64encode(content).decode()
        body = json.dumps({"dataframe_split": {"columns": ["image"], "data": [[text]]}}).encode()
        return str(client.asked(body)[0]["label"])

    return ask


def flavor_client(address: str, model: ImageClassifier) -> Ask:
    client = Client(address)

    def ask(content: bytes) -> str:
        logits = client.asked(as_numbers([content], model.spec.preprocess))["logits"]
        return model.spec.labels.classes[int(np.argmax(logits[0]))]

    return ask


def no_server(model: OnnxClassifier) -> Ask:
    return lambda content: model.card.classes[int(model.logits(model.square(content)[None]).argmax())]


@torch.inference_mode()
def by_torch(model: ImageClassifier, contents: list[bytes], preprocess: PreprocessSettings) -> list[str]:
    squares = (torch.from_numpy(square_of(content, preprocess)) for content in contents)
    return [model.spec.labels.classes[int(model(square_HWC[None]).argmax())] for square_HWC in squares]


def print_table(measured: dict[tuple[str, int], Measured], torch_labels: list[str], truth: list[str]) -> None:
    """Medians of the rounds, lowest and highest in brackets."""
    print("| server | clients | p50, ms | p99, ms | images/s | p50 of no server's | accuracy | agreement with torch |")
    print("|---|---|---|---|---|---|---|---|")
    alone = measured["no server", 1].percentile_ms(50)
    for (name, clients), line in measured.items():
        p50, p99 = (_median_and_range(line.percentile_ms(percent)) for percent in (50, 99))
        rate = len(truth) / median(line.seconds)
        times = ratio_range(line.percentile_ms(50), alone) if name != "no server" else "1"
        accuracy, agreement = (float((np.array(line.labels) == side).mean()) for side in (truth, torch_labels))
        print(f"| {name} | {clients} | {p50} | {p99} | {rate:.1f} | {times} | {accuracy:.4f} | {agreement:.4f} |")


def _median_and_range(each_ms: list[float]) -> str:
    return f"{median(each_ms):,.1f} ({min(each_ms):,.1f} to {max(each_ms):,.1f})"


if __name__ == "__main__":
    main()
