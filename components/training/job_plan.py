"""The plan of a training job: written where the job starts, read where it resumes."""

from pathlib import Path

from components.records.training_plan import PLAN, TrainingPlan
from components.shared.files import sha256_of_record
from components.training.resume import Fingerprint


def sha256_of_fingerprint(fingerprint: Fingerprint) -> str:
    return sha256_of_record(fingerprint)


def read_plan(output: Path, fingerprint: Fingerprint) -> TrainingPlan | None:
    """The plan of a job with this fingerprint; None where there is none yet."""
    file = output / PLAN
    if not file.exists():
        return None
    plan = TrainingPlan.read(file)
    return plan if plan.fingerprint == sha256_of_fingerprint(fingerprint) else None


def write_plan(plan: TrainingPlan, output: Path) -> None:
    plan.write(output / PLAN)
