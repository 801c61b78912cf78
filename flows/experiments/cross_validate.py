"""Cross-validation: one training for each fold of `split.folds`, scored on the images that it was not trained on.

A fold's training reads the train and val images of the other folds and is validated on its own; no test image is looked
at. What a fold was trained to and how it scored is found again, as every step's result is.
"""

import shutil
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prefect import flow

from components.shared.files import sha256_of_record
from flows.console.console import progress
from flows.console.tables import show_table
from flows.project.dvc import data_paths
from flows.project.fingerprint import Facts
from flows.project.outputs import Output
from flows.session.preflight import check_folds
from flows.session.session import Prepared, Session, open_session
from flows.steps.evaluate import columns_of
from flows.steps.finetune import Finetune
from flows.steps.prepare import Prepare
from flows.steps.step import FingerprintedStep, Results, run_all
from flows.steps.train import Train
from flows.steps.training_run import TRAINING_CODE, TRAINING_PACKAGES
from flows.tracking import runs

if TYPE_CHECKING:
    from components.data.packed.packing import SplitImage
    from components.evaluation.predictions import Predictions

PREDICTIONS = "predictions.parquet"
_SCORES = ("accuracy", "macro_f1", "log_loss")


@dataclass(frozen=True)
class FoldScores:
    """How the model that was trained without a fold scores on it."""

    fold: int
    run_id: str
    images: int
    accuracy: float
    macro_f1: float
    log_loss: float


@dataclass(frozen=True)
class CrossValidated:
    """The scores of all folds, with their mean and their standard deviation, by name."""

    run_id: str
    folds: list[FoldScores]
    mean: dict[str, float]
    spread: dict[str, float]
    predictions: str
    """The table of out-of-fold predictions: one row for each image of train and val."""


@dataclass(frozen=True)
class ScoreFold(FingerprintedStep[FoldScores]):
    """Trains without a fold and scores on it; the predictions stay on the model's run."""

    name = "fold"
    trains = True
    code = (
        *TRAINING_CODE,
        "components.data.packed.packing",
        "components.evaluation.inference",
        "components.evaluation.metrics",
    )
    packages = (*TRAINING_PACKAGES, "scikit-learn", "torchmetrics")
    fold: int
    images: "Sequence[SplitImage]"
    """Those of train and val, in the splits that this fold gives them: its own are val."""
    parent_run: str

    def inputs(self, session: Session, results: Results) -> Facts:
        return Train().inputs(session, Results(self._prepared(results)))

    def settings(self, session: Session) -> Facts:
        return {**Train().settings(session), **Finetune().settings(session), "top_k": session.params.evaluate.top_k}

    def find(self, session: Session, results: Results, key: str) -> FoldScores | None:
        run_id = runs.find_done(session.tracking, self.name, key)
        return None if run_id is None else self._scored(session, run_id)

    def work(self, session: Session, results: Results, key: str) -> FoldScores:
        from components.data.packed.loaders import open_split
        from components.data.packed.packing import pack, read_dataset
        from components.evaluation.inference import predict_split
        from components.evaluation.predictions import write_predictions
        from components.models.classifier import load_classifier

        paths, prepared = data_paths(session.project), self._prepared(results)
        folder = session.project.work / "folds" / key
        try:
            pack(
                list(self.images),
                labels=read_dataset(paths.augmented).labels,
                raw=paths.raw,
                folder=folder,
                split_digest=prepared.split_digest,
                preprocess=session.params.preprocess,
                augment=session.params.augment,
                progress=progress(),
            )
            own = Results(replace(prepared, augmented=folder))
            Train(parent_run=self.parent_run).run(session, own)
            trained = Finetune().run(session, own)
            model = load_classifier(runs.fetch(session.tracking, trained.run_id, "model", step=trained.step))
            predictions = predict_split(model, open_split(folder, "val"), progress=progress())
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        kept = runs.new_folder(session.tracking, trained.run_id, self.name)
        write_predictions(kept / PREDICTIONS, predictions)
        runs.store(session.tracking, trained.run_id, kept, self.name)
        runs.finish(session.tracking, trained.run_id, self.name, key, place=self.name)
        return self._scored(session, trained.run_id)

    def summary(self, session: Session, result: FoldScores) -> str:
        return f"{self.fold}: accuracy {result.accuracy:.4f}, macro F1 {result.macro_f1:.4f} on {result.images} images"

    def _prepared(self, results: Results) -> Prepared:
        """With digests of its own: its models have learned from images that validate others."""
        digest = sha256_of_record([(image.path, image.split) for image in self.images])
        before = results[Prepared]
        return replace(
            before,
            split_digest=sha256_of_record([before.split_digest, digest]),
            augmented_digest=sha256_of_record([before.augmented_digest, digest]),
        )

    def _scored(self, session: Session, run_id: str) -> FoldScores:
        from components.evaluation.metrics import score

        found = fold_predictions(session, run_id)
        scores = score(found, top_k=session.params.evaluate.top_k)
        return FoldScores(self.fold, run_id, scores.images, **{name: scores.values[name] for name in _SCORES})


@flow(name="cross-validate")
def cross_validate(
    overrides: list[str] | None = None,
    project: str | None = None,
    out: str = "out_of_fold.parquet",
    overwrite: bool = False,
    values: dict[str, Any] | None = None,
) -> CrossValidated:
    """Trains and scores by fold, and writes the out-of-fold predictions to `out`."""
    session = open_session(project, overrides, values=values)
    output = Output(Path(out), overwrite=overwrite)
    output.check()
    check_folds(session.params)
    prepared = run_all([Prepare()], session)[Prepared]
    session = session.for_data()
    found = validate_folds(session, prepared, output.target)
    output.record()
    return found


def validate_folds(session: Session, prepared: Prepared, out: Path) -> CrossValidated:
    """Trains and scores each fold, found or new; all of it is kept with a run of its own, and written to `out`."""
    folds = images_by_fold(session)
    mark = sha256_of_record([prepared.augmented_digest, session.params.as_record()])
    tags = {"darkroom.data_version": prepared.data_version}
    run_id = runs.begin(session.tracking, "cross-validate", mark, name=f"{len(folds)} folds", tags=tags)
    steps = [ScoreFold(fold, images, run_id) for fold, images in enumerate(folds)]
    scored = [step.run(session, Results(prepared)) for step in steps]
    mean = {name: statistics.fmean(getattr(one, name) for one in scored) for name in _SCORES}
    spread = {name: statistics.stdev(getattr(one, name) for one in scored) for name in _SCORES}
    _write_predictions(session, scored, out)
    runs.store(session.tracking, run_id, out)
    runs.log_table(session.tracking, run_id, "folds.json", columns_of([asdict(one) for one in scored]))
    runs.log_metrics(session.tracking, run_id, mean | {f"{name}_std": value for name, value in spread.items()})
    runs.finish(session.tracking, run_id, "cross-validate", mark)
    return CrossValidated(run_id, scored, mean, spread, str(out))


def images_by_fold(session: Session) -> "list[list[SplitImage]]":
    """For each fold, the images of train and val: its own as val, the others as train."""
    import pyarrow.parquet as pq

    from components.data.packed.packing import SplitImage

    columns = list(SplitImage.__annotations__)
    rows = pq.read_table(data_paths(session.project).split / "split.parquet", columns=[*columns, "fold"]).to_pylist()
    folds = [row.pop("fold") for row in rows]
    return [
        [
            SplitImage(**(row | {"split": "val" if own == fold else "train"}))
            for row, own in zip(rows, folds, strict=True)
            if own is not None
        ]
        for fold in range(session.params.split.folds)
    ]


def fold_predictions(session: Session, run_id: str) -> "Predictions":
    from components.evaluation.predictions import read_predictions

    return read_predictions(runs.fetch(session.tracking, run_id, "fold", step="fold") / PREDICTIONS)


def _write_predictions(session: Session, scored: Sequence[FoldScores], out: Path) -> None:
    """One row for each image of train and val: path, label, prediction, its logits, and the fold."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    from components.shared.parquet import write_table

    tables = []
    for one in scored:
        table = pq.read_table(runs.fetch(session.tracking, one.run_id, "fold", step="fold") / PREDICTIONS)
        tables.append(table.append_column("fold", pa.repeat(one.fold, len(table))))
    write_table(out, pa.concat_tables(tables))


def show_folds(result: CrossValidated) -> str:
    """Shows the table on standard output; returns what it says in a sentence."""
    rows = [
        [str(one.fold), str(one.images), *(f"{getattr(one, name):.4f}" for name in _SCORES)] for one in result.folds
    ]
    for title, values in (("mean", result.mean), ("standard deviation", result.spread)):
        rows.append([title, "", *(f"{values[name]:.4f}" for name in _SCORES)])
    show_table("each fold, scored by the model trained without it", ("fold", "images", *_SCORES), rows)
    accuracy = f"{result.mean['accuracy']:.4f} ± {result.spread['accuracy']:.4f}"
    return f"accuracy {accuracy} over {len(result.folds)} folds; out-of-fold predictions: {result.predictions}"
