"""The steps of the pipeline in their order: the one place where it is written."""

from typing import Any

from flows.steps.evaluate import Evaluate
from flows.steps.finetune import Finetune
from flows.steps.ingest import Ingest
from flows.steps.prepare import Prepare
from flows.steps.promote import Promote
from flows.steps.quantize import Quantize
from flows.steps.register import Register
from flows.steps.step import Step
from flows.steps.train import Train

STEPS: tuple[type[Step[Any]], ...] = (Ingest, Prepare, Train, Finetune, Evaluate, Quantize, Register, Promote)


def steps_until(name: str) -> tuple[type[Step[Any]], ...]:
    """The steps up to the named one; ValueError where there is none of that name."""
    return STEPS[: [step.name for step in STEPS].index(name) + 1]
