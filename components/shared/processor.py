"""The processor's name and the vector extensions on which the speed and the results of int8 models depend."""

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
    """Vector extensions; empty where the system doesn't list them."""

    @property
    def adds_in_16_bits(self) -> bool:
        """Whether its 8-bit products are added in 16 bits: x86 with AVX2, but without VNNI or AMX."""
        return "avx2" in self.features and not {"avx512_vnni", "avx_vnni", "amx_int8"} & set(self.features)

    def __str__(self) -> str:
        return f"{self.name} ({', '.join(self.features) or 'no vector extensions known'})"


def this_processor() -> Processor:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return Processor(platform.processor() or sys.platform, [])
    pairs = (line.split(":", 1) for line in lines if ":" in line)
    fields = {name.strip(): value.strip() for name, value in pairs}
    flags = set(fields.get("flags", "").split())
    return Processor(fields.get("model name", "unknown"), [flag for flag in _FEATURES if flag in flags])


def usable_cores() -> int:
    """Number of cores that this process may use: in a container fewer than the machine has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
