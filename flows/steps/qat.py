"""Quantization-aware training: fine-tune a model with the rounding of int8 simulated, beside the run's own model."""

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from components.shared.files import write_json
from components.training.settings import FakeQuantization, TrainingJob
from flows.project.dvc import data_paths
from flows.project.fingerprint import fingerprint
from flows.session.session import Prepared, Session
from flows.steps.train import Trained
from flows.steps.training_run import QAT, TRAINING_CODE, TRAINING_PACKAGES, run_job
from flows.tracking import runs

if TYPE_CHECKING:
    from components.models.classifier import ImageClassifier


def quantization_aware(
    session: Session, prepared: Prepared, trained: Trained, rounding: FakeQuantization, target: Path
) -> "ImageClassifier":
    """The model after `quantize.qat.epochs` with this rounding; its weights and history are written to `target`.

    An interrupted job is resumed, a finished one is reused.
    """
    from components.models.classifier import load_classifier
    from components.training.quantization_aware import qat_settings

    params = session.params
    key = fingerprint(
        QAT,
        inputs={"augmented": prepared.augmented_digest, "model": trained.run_id},
        settings={
            "augment": params.augment.model_dump(),
            "train": params.train.model_dump(),
            "qat": params.quantize.qat.model_dump(),
            "rounding": rounding.model_dump(),
        },
        code=TRAINING_CODE,
        packages=TRAINING_PACKAGES,
    )
    output = session.project.work / QAT / key
    model = runs.fetch(session.tracking, trained.run_id, "model", step=trained.step)
    job = TrainingJob(
        step="qat",
        data=str(data_paths(session.project).augmented),
        output=str(output),
        decoded=str(session.decoded.file(session.project, prepared.augmented_digest)),
        start_from=str(model),
        # int8 has to keep the labels that the model predicts.
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
    shutil.copytree(output / "model", target / "model")
    shutil.copyfile(output / "history.json", target / "history.json")
    return load_classifier(target / "model")
