"""Fine-tune the trained model: unfreeze it, with lower learning rates, lower still for layers nearer to the image."""

from flows.project.fingerprint import Facts
from flows.session.session import Prepared, Session
from flows.steps.step import FingerprintedStep, Results
from flows.steps.train import Trained
from flows.steps.training_run import TRAINING_CODE, TRAINING_PACKAGES, train_in_run
from flows.tracking import runs


class Finetune(FingerprintedStep[Trained]):
    """Continues from the best checkpoint of training; with `finetune.epochs` 0 the trained model stays as it is."""

    name = "finetune"
    trains = True
    code = TRAINING_CODE
    packages = TRAINING_PACKAGES

    def inputs(self, session: Session, results: Results) -> Facts:
        return {"augmented": results[Prepared].augmented_digest, "trained": results[Trained].run_id}

    def settings(self, session: Session) -> Facts:
        params = session.params
        return {
            "augment": params.augment.model_dump(),
            "train": params.train.model_dump(),
            "finetune": params.finetune.model_dump(),
        }

    def skip(self, session: Session, results: Results) -> tuple[Trained, str] | None:
        if session.params.finetune.epochs > 0:
            return None
        return results[Trained], "finetune.epochs is 0: the trained model stays as it is"

    def find(self, session: Session, results: Results, key: str) -> Trained | None:
        run_id = runs.find_done(session.tracking, self.name, key)
        return Trained(run_id, "finetune") if run_id is not None else None

    def work(self, session: Session, results: Results, key: str) -> Trained:
        trained = results[Trained]
        start = runs.fetch(session.tracking, trained.run_id, "model", step="train")
        run_id = train_in_run(
            session, results[Prepared], "finetune", key, start_from=start, trained_from=trained.run_id
        )
        return Trained(run_id, "finetune")

    def summary(self, session: Session, result: Trained) -> str:
        return f"run {result.run_id}"
