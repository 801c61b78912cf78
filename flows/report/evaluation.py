"""What the report shows of a model's evaluation: scores, errors and analysis, with pictures from the raw data."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from components.evaluation.evaluation_files import MAP
from components.records.analysis import ANALYSIS, HIGH_CONFIDENCE_ERRORS, LOW_CONFIDENCE_CORRECT, AnalysisRecord
from components.records.members import MEMBERS, MembersRecord
from components.records.scores import SCORES, ScoresRecord
from components.reporting.analysis_section import AnalysisSection, analysis_section
from components.reporting.evaluation_section import TABLE_CLASSES, EvaluationSection, evaluation_section
from components.reporting.inline_pictures import Picture, embedded
from components.task.task_types import task_type
from flows.project.dvc import data_paths
from flows.project.project import Project
from flows.report.raw_pictures import image_locations, pictures_of
from flows.report.run_files import RunFiles

if TYPE_CHECKING:
    from components.reporting.analysis_section import MappedImage

_NEIGHBOURS_CAPTION = (
    "In each row a test image with the prediction, then its nearest training images with their labels."
)
_GRIDS = (
    (HIGH_CONFIDENCE_ERRORS, "High-confidence errors and their nearest training images", _NEIGHBOURS_CAPTION),
    (LOW_CONFIDENCE_CORRECT, "Correct predictions with the lowest confidence", _NEIGHBOURS_CAPTION),
    (
        "heat_maps.png",
        "Heat maps",
        "Warm colours: regions that support the prediction (Grad-CAM), or that the model attends to.",
    ),
)
"""File, heading and caption of each picture that the evaluation draws where there is something to show."""


@dataclass(frozen=True)
class ReportedModel:
    """The model that the report is about, and where its run keeps what the report shows."""

    project: Project
    files: RunFiles
    params: dict[str, Any]
    """Resolved settings that it was trained with."""
    served: str | None
    """Format of the file that would be served; None where nothing is exported."""

    @property
    def scored(self) -> str:
        """Whose scores the page shows, such as: the int8 file."""
        return f"the {self.served} file" if self.served else "the PyTorch model"

    @property
    def max_megapixels(self) -> float:
        return float(self.params["preprocess"]["max_megapixels"])

    def pictures(self, split: Path, paths: set[str]) -> dict[str, Picture]:
        """Pictures by path, of the images that the local raw data still holds."""
        return pictures_of(self.project, split, paths, max_megapixels=self.max_megapixels)


def evaluation_of(model: ReportedModel, torch: ScoresRecord) -> EvaluationSection:
    """Scores of the served file beside the PyTorch model's; the latter alone where nothing is exported."""
    served = model.files.read(ScoresRecord, "served", SCORES) if model.served else None
    folder, scores = ("served", served) if served else ("evaluate", torch)
    errors = _error_pictures(model, folder)
    return evaluation_section(
        scores,
        model=model.scored if served else "the PyTorch model",
        torch=torch if served else None,
        confusion_picture=_confusion_picture(model.files, folder, scores),
        errors=errors,
        errors_grid=None if errors else _errors_grid(model.files, folder),
        analysis=_analysis(model, folder, scores),
        grids=_grids(model.files),
        members=_members(model.files),
    )


def _confusion_picture(files: RunFiles, folder: str, scores: ScoresRecord) -> Picture | None:
    """None where the confusion matrix fits into a table."""
    if len(scores.classes) <= TABLE_CLASSES or not task_type(scores.task).exclusive:
        return None
    return files.picture(
        folder,
        "confusion.png",
        alt="Confusion matrix: a dark diagonal where the predictions are correct",
        caption="Rows: the true class; columns: the predicted class. Darker: a larger fraction of the true class.",
    )


def _members(files: RunFiles) -> Any:
    """Members of an ensemble; none where the model is a single network."""
    record = files.read(MembersRecord, "evaluate", MEMBERS) if files.made_by == "ensemble" else None
    return record.members if record else ()


def _analysis(model: ReportedModel, folder: str, scores: ScoresRecord) -> AnalysisSection:
    """Analysis of the shown model; suspected labels and the map come from the PyTorch model."""
    torch, own = (model.files.read(AnalysisRecord, name, ANALYSIS) for name in ("evaluate", folder))
    if torch is None or own is None:
        return AnalysisSection()
    split = model.files.path("lineage", "split.parquet")
    return analysis_section(
        scores,
        own,
        _mapped_images(model.files),
        suspects=torch.suspected_labels,
        pictures=model.pictures(split, {one.path for one in torch.suspected_labels}) if split else {},
    )


def _mapped_images(files: RunFiles) -> "list[MappedImage]":
    import pyarrow.parquet as pq

    from components.reporting.analysis_section import MappedImage

    file = files.optional("evaluate", MAP)
    rows = pq.read_table(file).to_pylist() if file else []
    return [MappedImage(**row | {"picture": embedded(row["picture"], "jpeg")}) for row in rows]


def _grids(files: RunFiles) -> list[tuple[str, Picture]]:
    """Heading and picture of each grid that the evaluation drew."""
    from components.reporting.pictures import picture_of_file

    found = [(files.optional("evaluate", name), heading, caption) for name, heading, caption in _GRIDS]
    return [
        (heading, picture_of_file(file, alt=f"{heading}, one test image per row", caption=caption))
        for file, heading, caption in found
        if file
    ]


def _error_pictures(model: ReportedModel, folder: str) -> list[Picture]:
    """One picture per error; none where the raw data no longer holds the images."""
    from components.evaluation.predictions import read_predictions
    from components.reporting.pictures import error_pictures

    predictions, split = model.files.path(folder, "predictions.parquet"), model.files.path("lineage", "split.parquet")
    if predictions is None or split is None:
        return []
    return error_pictures(
        read_predictions(predictions),
        image_locations(split),
        data_paths(model.project).raw,
        most=model.params["evaluate"]["worst_errors"],
        max_megapixels=model.max_megapixels,
    )


def _errors_grid(files: RunFiles, folder: str) -> Picture | None:
    return files.picture(
        folder,
        "errors.png",
        alt="The test images that the model got wrong with the highest confidence, each with its true class",
        caption="Each with its true class, and below the predicted class with its confidence.",
    )
