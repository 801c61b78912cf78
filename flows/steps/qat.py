"""Fine-tune a model with the rounding of int8 simulated, in a process of its own; the run's own model stays."""

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from components.shared.files import write_json
from components.training.settings import Rounding, TrainingJob
from flows.project.dvc import data_paths
from flows.project.fingerprint import fingerprint
from flows.session.session import Prepared, Session
from flows.steps.train import QAT, Trained, run_job
from flows.tracking import runs

if TYPE_CHECKING:
    from components.models.classifier import ImageClassifier

_CODE = ("components.training.process",)
_PACKAGES = ("torch", "torchvision", "lightning", "albumentations")


def learn_rounding(
    session: Session, prepared: Prepared, trained: Trained, rounding: Rounding, kept: Path
) -> "ImageClassifier":
    """The model of a run after `quantize.qat.epochs` with this rounding; its weights and its history go to `kept`.

    A job that was cut off is gone on with, one that was done is found.
    """
    from components.models.classifier import load_classifier
    from components.training.quantization_aware import qat_settings

    params = session.params
    mark = fingerprint(
        QAT,
        inputs={"augmented": prepared.augmented_digest, "model": trained.run_id},
        settings={
            "augment": params.augment.model_dump(),
            "train": params.train.model_dump(),
            "qat": params.quantize.qat.model_dump(),
            "rounding": rounding.model_dump(),
        },
        code=_CODE,
        packages=_PACKAGES,
    )
    output = session.project.work / QAT / mark
    model = runs.fetch(session.tracking, trained.run_id, "model", step=trained.step)
    job = TrainingJob(
        step="qat",
        data=str(data_paths(session.project).augmented),
        output=str(output),
        decoded=str(session.decoded.file(session.project, prepared.augmented_digest)),
        start_from=str(model),
        # What int8 must keep is the labels that the model gives.
        teacher=str(model),
        preprocess=params.preprocess,
        augment=params.augment,
        model=params.model.model_copy(update={"scenario": None}),
        train=qat_settings(params.train),
        finetune=params.finetune,
        qat=params.quantize.qat,
        rounding=rounding,
    )
    write_json(output / "job.json", job.model_dump())
    run_job(session, trained.run_id, output, QAT)
    shutil.copytree(output / "model", kept / "model")
    shutil.copyfile(output / "history.json", kept / "history.json")
    return load_classifier(kept / "model")
