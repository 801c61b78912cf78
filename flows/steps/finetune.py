"""Fine-tune the trained model: unfreeze, lower rates, smaller ones for parts nearer to the image."""

from prefect import flow

from flows.project.fingerprint import fingerprint
from flows.session.session import Prepared, Session, alone, open_session, timed
from flows.steps.task import step
from flows.steps.train import Trained, learn, up_to_trained
from flows.tracking import runs

_CODE = ("components.training.process",)
_PACKAGES = ("torch", "torchvision", "lightning", "albumentations")


@step("finetune")
def finetune_model(session: Session, prepared: Prepared, trained: Trained) -> Trained:
    """Starts from the best checkpoint of training; with finetune.epochs 0 the trained model goes on as it is."""
    with timed("finetune") as watch:
        if session.params.finetune.epochs == 0:
            watch.reused("finetune.epochs is 0: the trained model goes on")
            return Trained(trained.run_id, trained.step, watch.time())
        mark = finetune_fingerprint(session, prepared, trained)
        with alone(session, mark):
            run_id = runs.find_done(session.tracking, "finetune", mark)
            if run_id is not None:
                watch.reused(f"run {run_id}")
            else:
                start = runs.fetch(session.tracking, trained.run_id, "model", step="train")
                run_id = learn(session, prepared, "finetune", mark, start_from=start, parent=trained.run_id)
                watch.note = f"run {run_id}"
    return Trained(run_id, "finetune", watch.time())


def finetune_fingerprint(session: Session, prepared: Prepared, trained: Trained) -> str:
    params = session.params
    return fingerprint(
        "finetune",
        inputs={"augmented": prepared.augmented_digest, "trained": trained.run_id},
        settings={
            "augment": params.augment.model_dump(),
            "train": params.train.model_dump(),
            "finetune": params.finetune.model_dump(),
        },
        code=_CODE,
        packages=_PACKAGES,
    )


def up_to_tuned(session: Session) -> tuple[Prepared, Trained]:
    prepared, trained = up_to_trained(session)
    return prepared, finetune_model(session, prepared, trained)


@flow(name="finetune")
def finetune(overrides: list[str] | None = None, project: str | None = None) -> str:
    """Fine-tunes alone; what comes before is brought up to date first. Returns the run."""
    return up_to_tuned(open_session(project, overrides))[1].run_id
