"""The processor at work, with those of its abilities on which the speed and the answers of int8 depend."""

import os
import platform
import sys
from dataclasses import dataclass
from pathlib import Path

_FEATURES = ("avx2", "avx512f", "avx512_vnni", "avx_vnni", "amx_int8")


@dataclass(frozen=True)
class Processor:
    name: str
    features: list[str]
    """Vector extensions; none where the system doesn't tell."""

    def __str__(self) -> str:
        return f"{self.name} ({self.abilities})"

    @property
    def abilities(self) -> str:
        return ", ".join(self.features) or "no vector extensions known"


def this_processor() -> Processor:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return Processor(platform.processor() or sys.platform, [])
    fields = dict(line.split(":", 1) for line in lines if ":" in line)
    fields = {name.strip(): value.strip() for name, value in fields.items()}
    flags = set(fields.get("flags", "").split())
    return Processor(fields.get("model name", "unknown"), [flag for flag in _FEATURES if flag in flags])


def usable_cores() -> int:
    """Those that this process may use, which in a container are fewer than the machine has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
