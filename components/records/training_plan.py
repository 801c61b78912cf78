"""plan.json: settings that a training resolves once, on the machine where it starts, and keeps when it resumes."""

from typing import ClassVar, Literal

from components.records.record import Record

PLAN = "plan.json"

Precision = Literal["fp32", "bf16", "fp16"]


class TrainingPlan(Record):
    """Resolved values of settings that may be `auto`."""

    TITLE: ClassVar[str] = "training plan"
    REMEDY: ClassVar[str] = "remove it, and `darkroom train` resolves the settings again"

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
