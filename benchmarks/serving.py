"""Latency of one image through MLflow's scoring server, at 1 and 16 clients: p50 and p99.

    python benchmarks/serving.py [FOLDER] [--architecture resnet18] [--side 224] [--requests 200] [--rounds 5]

FOLDER holds a folder a class of JPEGs. Two servers of the same ONNX file, each `mlflow models serve` with one worker,
asked in turns over kept connections, every client as soon as it has its answer:

darkroom   the registered package: the bytes of a JPEG file in, the label out
peer       MLflow's own onnx flavor: the client decodes, and sends the pixels as numbers (its decoding is timed too)

The last line of each is the same work with no server at all, in one thread: what HTTP, JSON and MLflow cost.
"""

import argparse
import base64
import json
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from photographs import files_in, photographs
from predict import small_model
from scoring_clients import Client, as_numbers, onnx_package, served, serving
from side_by_side import machine, refuse_busy_machine

from components.export.onnx_export import export_onnx
from components.serving.classifier import ModelCard, OnnxClassifier

CLIENTS = (1, 16)
Encode = Callable[[bytes], bytes]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, nargs="?")
    parser.add_argument("--architecture", default="resnet18")
    parser.add_argument("--side", type=int, default=224)
    parser.add_argument("--requests", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=5)
    flags = parser.parse_args()
    refuse_busy_machine()
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        files = files_in(photographs(flags.folder, scratch))
        contents = [file.read_bytes() for file in files[: flags.requests]]
        file = scratch / "fp32.onnx"
        model = small_model(flags.architecture, flags.side, files[:200])
        preprocess = model.spec.preprocess
        export_onnx(model, file, card=ModelCard(flags.architecture, model.spec.labels, preprocess, "fp32", "d", "r"))
        with served(file, scratch) as ours, serving(onnx_package(file, scratch, flags.side), scratch) as peer:
            sides: dict[str, tuple[str, Encode]] = {
                "darkroom": (ours, as_file),
                "mlflow's onnx flavor": (peer, lambda content: as_numbers([content], preprocess)),
            }
            taken = in_turns(sides, contents, flags.rounds)
        print(machine("onnxruntime", "mlflow", "uvicorn"))
        print(f"{flags.architecture}, {flags.side} px, {flags.rounds} × {len(contents)} requests a line\n")
        print("| server | clients | p50, ms | p99, ms | images/s |\n|---|---|---|---|---|")
        for (name, clients), (latencies, seconds) in taken.items():
            print(line(name, str(clients), latencies, len(latencies) / seconds))
        alone = without_server(OnnxClassifier(file), contents)
        print(line("no server", "1", alone, len(alone) / sum(alone)))


def in_turns(
    sides: dict[str, tuple[str, Encode]], contents: list[bytes], rounds: int
) -> dict[tuple[str, int], tuple[list[float], float]]:
    """All latencies and the whole time, by side and number of clients; the first round is for warming up."""
    taken: dict[tuple[str, int], tuple[list[float], float]] = {
        (name, clients): ([], 0.0) for clients in CLIENTS for name in sides
    }
    for number in range(rounds + 1):
        for (name, clients), (latencies, seconds) in taken.items():
            began = time.perf_counter()
            found = ask_all(*sides[name], contents, clients)
            if number:
                taken[name, clients] = (latencies + found, seconds + time.perf_counter() - began)
    return taken


def ask_all(address: str, encode: Encode, contents: list[bytes], clients: int) -> list[float]:
    def work(first: int) -> list[float]:
        client = Client(address)
        found = []
        for content in contents[first::clients]:
            began = time.perf_counter()
            body = encode(content)
            found.append(time.perf_counter() - began + client.seconds(body))
        return found

    with ThreadPoolExecutor(clients) as threads:
        return [seconds for each in threads.map(work, range(clients)) for seconds in each]


def as_file(content: bytes) -> bytes:
    text = base64.b64encode(content).decode()
    return json.dumps({"dataframe_split": {"columns": ["image"], "data": [[text]]}}).encode()


def without_server(model: OnnxClassifier, contents: list[bytes]) -> list[float]:
    found = []
    for content in contents:
        began = time.perf_counter()
        model.logits(model.square(content)[None])
        found.append(time.perf_counter() - began)
    return found


def line(name: str, clients: str, latencies: list[float], rate: float) -> str:
    p50, p99 = (1e3 * float(np.percentile(latencies, share)) for share in (50, 99))
    return f"| {name} | {clients} | {p50:.1f} | {p99:.1f} | {rate:.1f} |"


if __name__ == "__main__":
    main()
