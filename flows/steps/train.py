"""Train a model on the packed data."""

from dataclasses import dataclass
from typing import Literal

from flows.project.fingerprint import Facts
from flows.registry.initial_weights import initial_weights, teacher_fingerprint
from flows.session.session import Prepared, Session
from flows.steps.step import FingerprintedStep, Results
from flows.steps.training_run import TRAINING_CODE, TRAINING_PACKAGES, OnEpoch, train_in_run
from flows.tracking import runs


@dataclass(frozen=True)
class Trained:
    """The model that later steps read."""

    run_id: str
    """The MLflow run that keeps the model."""
    step: Literal["train", "finetune", "ensemble"]
    """The step that stored it there."""


@dataclass(frozen=True)
class Train(FingerprintedStep[Trained]):
    """A model trained with these settings on this data: found, resumed or new."""

    name = "train"
    trains = True
    code = TRAINING_CODE
    packages = TRAINING_PACKAGES
    parent_run: str | None = None
    """The run that a new one is a child of."""
    on_epoch: OnEpoch | None = None

    def inputs(self, session: Session, results: Results) -> Facts:
        weights = {"augmented": results[Prepared].augmented_digest, "weights": initial_weights(session)[1]}
        return weights | teacher_fingerprint(session)

    def settings(self, session: Session) -> Facts:
        params = session.params
        return {
            "preprocess": params.preprocess.model_dump(),
            "augment": params.augment.model_dump(),
            "model": params.model.model_dump(exclude={"weights", "scenario"}),
            "train": params.train.model_dump(),
        }

    def find(self, session: Session, results: Results, key: str) -> Trained | None:
        run_id = runs.find_done(session.tracking, self.name, key)
        return Trained(run_id, "train") if run_id is not None else None

    def work(self, session: Session, results: Results, key: str) -> Trained:
        run_id = train_in_run(
            session, results[Prepared], "train", key, parent_run=self.parent_run, on_epoch=self.on_epoch
        )
        return Trained(run_id, "train")

    def summary(self, session: Session, result: Trained) -> str:
        return f"run {result.run_id}"


def train_fingerprint(session: Session, prepared: Prepared) -> str:
    """The fingerprint of a training with these settings on this data."""
    return Train().fingerprint(session, Results(prepared))
