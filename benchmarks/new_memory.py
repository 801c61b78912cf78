"""What new memory costs a training step: filled as torch's determinism has it, left unfilled, kept when it is freed.

    python benchmarks/new_memory.py [--architecture mobilenet_v3_small] [--side 128] [--batch 64]
        [--steps 8] [--rounds 5]

Bare steps of a torchvision network on one batch, channels last, deterministic algorithms, SGD; each way in a process of
its own, in turns, from the same weights. The loss after the steps stands beside: no way changes a result. Ours is the
last one (`components.shared.allocator` and `components.training.fit`), torch's own is the first.
"""

import argparse
import resource
import time
from dataclasses import dataclass

import torch
from side_by_side import Timing, machine, refuse_busy_machine, table
from torch.nn import functional as F
from training import own_process

from components.models.architectures import build
from components.shared.allocator import keep_freed_memory

NUM_CLASSES = 10


FILLED = {"filled, given back": True, "given back": False, "kept": False}


@dataclass(frozen=True)
class Steps:
    wall_s: float
    cpu_s: float
    page_faults: int
    loss: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--architecture", default="mobilenet_v3_small")
    parser.add_argument("--side", type=int, default=128)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=5)
    flags = parser.parse_args()
    refuse_busy_machine()
    timings, last = {name: Timing() for name in FILLED}, dict[str, Steps]()
    with own_process() as filled, own_process() as given_back, own_process(keep_freed_memory) as kept:
        for number in range(flags.rounds + 1):
            for name, process in zip(FILLED, (filled, given_back, kept), strict=True):
                last[name] = process.submit(
                    steps, flags.architecture, flags.side, flags.batch, flags.steps, FILLED[name]
                ).result()
                if number:  # the first round warms all up
                    timings[name].wall_s.append(last[name].wall_s)
                    timings[name].cpu_s.append(last[name].cpu_s)
    print(f"{flags.architecture}, {flags.side} px, batch {flags.batch}, {torch.get_num_threads()} threads")
    print(table(timings, per_round=flags.steps, unit="steps/s", peer=next(iter(FILLED))))
    for name, one in last.items():
        print(f"{name}: {one.page_faults / flags.steps:,.0f} page faults a step, loss {one.loss:.6f} after the steps")
    print(machine("torch", "torchvision"))


def steps(architecture: str, side: int, batch: int, count: int, filled: bool) -> Steps:
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.utils.deterministic.fill_uninitialized_memory = filled  # type: ignore[attr-defined]
    torch.manual_seed(0)
    model = build(architecture, num_classes=NUM_CLASSES, image_size_px=side).to(memory_format=torch.channels_last)
    images_BCHW = torch.randn(batch, 3, side, side).to(memory_format=torch.channels_last)
    target_B = torch.randint(NUM_CLASSES, (batch,))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    model.train()
    began, cpu, faults = time.perf_counter(), time.process_time(), _page_faults()
    for _ in range(count):
        loss = F.cross_entropy(model(images_BCHW), target_B)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    wall, cpu, faults = time.perf_counter() - began, time.process_time() - cpu, _page_faults() - faults
    return Steps(wall, cpu, faults, loss.item())


def _page_faults() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt


if __name__ == "__main__":
    main()
