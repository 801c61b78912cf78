"""Settings that a job resolves once, on the machine where it starts; a resumed job keeps them."""

from pathlib import Path
from typing import Literal

from components.shared.files import read_json, sha256_of_record, write_json
from components.shared.settings import Settings
from components.training.resume import Fingerprint

PLAN = "plan.json"

Precision = Literal["fp32", "bf16", "fp16"]


class TrainingPlan(Settings):
    """Resolved values of settings that may be `auto`."""

    fingerprint: str
    """SHA-256 of the data and settings that the plan was made for."""
    learning_rate: float
    """Peak rate of the head, scaled with the batch where the settings ask for it."""
    precision: Precision
    channels_last: bool
    compile: bool
    fused: bool = True
    cache_on_gpu: bool
    halvings: int = 0
    """How often the batch was halved because it didn't fit into memory; each time twice as many are accumulated."""

    @property
    def lightning_precision(self) -> str:
        """The precision as Lightning spells it."""
        return {"fp32": "32-true", "bf16": "bf16-mixed", "fp16": "16-mixed"}[self.precision]


def sha256_of_fingerprint(fingerprint: Fingerprint) -> str:
    return sha256_of_record(fingerprint)


def read_plan(output: Path, fingerprint: Fingerprint) -> TrainingPlan | None:
    """The plan of a job with this fingerprint; None where there is none yet."""
    file = output / PLAN
    if not file.exists():
        return None
    plan = TrainingPlan.from_section(PLAN, read_json(file))
    return plan if plan.fingerprint == sha256_of_fingerprint(fingerprint) else None


def write_plan(plan: TrainingPlan, output: Path) -> None:
    write_json(output / PLAN, plan.model_dump())
