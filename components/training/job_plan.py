"""What a job finds out once, on the machine where it begins: a job that is gone on with keeps to it."""

from pathlib import Path
from typing import Literal

from components.shared.files import read_json, sha256_of_record, write_json
from components.shared.settings import Settings
from components.training.resume import Identity

PLAN = "plan.json"

Precision = Literal["fp32", "bf16", "fp16"]


class Plan(Settings):
    """Settings that were `auto`, resolved."""

    identity: str
    """Digest of the data and settings that it was made for."""
    learning_rate: float
    """Peak rate of the head, scaled with the batch if so set."""
    precision: Precision
    channels_last: bool
    compile: bool
    fused: bool = True
    cache_on_gpu: bool
    halvings: int = 0
    """How often the batch was halved, for it didn't fit the memory; twice as many are gathered each time."""

    @property
    def arithmetic(self) -> str:
        """As Lightning spells it."""
        return {"fp32": "32-true", "bf16": "bf16-mixed", "fp16": "16-mixed"}[self.precision]


def digest_of(identity: Identity) -> str:
    return sha256_of_record(identity)


def read_plan(output: Path, identity: Identity) -> Plan | None:
    """The plan that a job of this identity made; None where there is none yet."""
    file = output / PLAN
    if not file.exists():
        return None
    plan = Plan.from_section(PLAN, read_json(file))
    return plan if plan.identity == digest_of(identity) else None


def write_plan(plan: Plan, output: Path) -> None:
    write_json(output / PLAN, plan.model_dump())
