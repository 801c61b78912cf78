"""Judge the torch model on the test part."""

from dataclasses import dataclass, replace
from typing import Any

from prefect import flow

from components.files import read_json, write_json
from flows.console import progress
from flows.finetune import up_to_tuned
from flows.fingerprint import fingerprint
from flows.prepare import Prepared
from flows.repro import data_paths
from flows.session import Session, StepTime, alone, open_session, timed
from flows.tasks import step
from flows.tracking import runs
from flows.train import Trained

_CODE = (
    "components.evaluation.answers",
    "components.evaluation.inference",
    "components.evaluation.metrics",
    "components.reporting.figures",
)


@dataclass(frozen=True)
class Evaluated:
    trained: Trained
    scores: dict[str, Any]
    """metrics.Scores as a record."""
    time: StepTime


@step("evaluate")
def evaluate_model(session: Session, prepared: Prepared, trained: Trained) -> Evaluated:
    with timed("evaluate") as watch:
        run_id = trained.run_id
        mark = fingerprint(
            "evaluate",
            inputs={"augmented": prepared.augmented_digest, "model": run_id},
            settings=session.params.evaluate.model_dump(),
            code=_CODE,
            packages=("torch", "scikit-learn"),
        )
        with alone(session, mark):
            if runs.find_done(session.tracking, "evaluate", mark) == run_id:
                watch.reused()
            else:
                _evaluate(session, trained)
                runs.finish(session.tracking, run_id, "evaluate", mark, place="evaluate")
        runs.note_use(session.tracking, run_id)
        scores = read_json(runs.fetch(session.tracking, run_id, "evaluate", step="evaluate") / "scores.json")
        watch.note = (
            f"accuracy {scores['accuracy']:.4f}, macro F1 {scores['macro_f1']:.4f} on {scores['images']} test images"
        )
    return Evaluated(trained, scores, watch.time())


def _evaluate(session: Session, trained: Trained) -> None:
    from components.data.loading import open_part
    from components.evaluation.answers import fit_answers
    from components.evaluation.inference import predict_part
    from components.evaluation.metrics import score
    from components.evaluation.predictions import write_predictions
    from components.models.classifier import load_classifier
    from components.reporting.figures import draw_confusion, draw_errors

    settings, run_id = session.params.evaluate, trained.run_id
    model = load_classifier(runs.fetch(session.tracking, run_id, "model", step=trained.step))
    val, test = (open_part(data_paths(session.project).augmented, part) for part in ("val", "test"))
    rule = fit_answers(predict_part(model, val, progress=progress()))
    predictions = replace(predict_part(model, test, progress=progress()), answers=rule)
    scores = score(predictions, top_k=settings.top_k, num_draws=settings.bootstrap_draws, seed=settings.seed)
    folder = runs.new_folder(session.tracking, run_id, "evaluate")
    write_json(folder / "scores.json", scores.as_record())
    write_predictions(folder / "predictions.parquet", predictions)
    draw_confusion(scores, folder / "confusion.png")
    draw_errors(predictions, test.pixels_NHWC, folder / "errors.png", most=settings.worst_errors)
    runs.store(session.tracking, run_id, folder, "evaluate")
    runs.log_metrics(session.tracking, run_id, {f"torch/{name}": value for name, value in scores.headline().items()})


def up_to_evaluated(session: Session) -> tuple[Prepared, Evaluated]:
    prepared, trained = up_to_tuned(session)
    return prepared, evaluate_model(session, prepared, trained)


@flow(name="evaluate")
def evaluate(overrides: list[str] | None = None, project: str | None = None) -> dict[str, Any]:
    """Evaluates alone; what comes before is brought up to date first. Returns the scores."""
    return up_to_evaluated(open_session(project, overrides))[1].scores
