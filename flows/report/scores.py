"""What the report shows of the scores and the images, from what a run keeps and the raw data at hand."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from components.reporting.analysis_section import AnalysisSection, analysis_section
from components.reporting.evaluation_section import TABLE_CLASSES, EvaluationSection, evaluation_section
from components.reporting.inline_pictures import Picture, embedded
from components.shared.files import read_json
from components.task.registry import task_type
from flows.project.dvc import data_paths
from flows.project.project import Project
from flows.report.run_records import Kept

if TYPE_CHECKING:
    from components.reporting.analysis_section import Placed
    from components.reporting.pictures import Place

_WORST_ERRORS, _MAX_MEGAPIXELS = 24, 100.0
_PLACE = ("shard", "offset", "size_bytes")


def evaluation_of(
    project: Project, kept: Kept, scores: dict[str, Any], export: dict[str, Any] | None, params: dict[str, Any]
) -> EvaluationSection:
    """Of the file that would be served, beside the torch model; of the torch model alone where nothing is exported."""
    served = kept.record("served", "scores.json") if export else None
    place, judged = ("served", served) if served else ("evaluate", scores)
    return evaluation_section(
        judged,
        judged=scored_of(export) if served else scored_of(None),
        torch=scores if served else None,
        confusion_picture=_confusion_picture(kept, place, judged),
        **_mistakes(project, kept, place, params),
        analysis=_analysis(project, kept, place, judged, params),
        sheets=_sheets(kept),
        members=_members(kept),
    )


def scored_of(export: dict[str, Any] | None) -> str:
    """Whose scores they are."""
    return f"the {export.get('served')} file" if export else "the torch model"


def pictures_of(project: Project, split: Path, paths: set[str], params: dict[str, Any]) -> dict[str, Picture]:
    """By path, of those images that the raw data at hand still holds."""
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    from components.reporting.pictures import pictures_by_path

    shown = pa.array(sorted(paths), pa.string())
    table = pq.read_table(split, columns=["path", "sha256", *_PLACE])
    rows = table.filter(pc.is_in(table["path"].cast(pa.string()), value_set=shown)).to_pylist()
    return pictures_by_path(
        {row["path"]: (row["sha256"], _place(row)) for row in rows},
        data_paths(project).raw,
        max_megapixels=_max_megapixels(params),
    )


def _confusion_picture(kept: Kept, place: str, judged: dict[str, Any]) -> Picture | None:
    """Of more classes than a table can hold."""
    if not task_type(judged.get("task", "single_label")).exclusive:
        alt = "Confusion of each label"
        caption = "Of each label, the images by whether they have it and whether the model said so."
    elif len(judged.get("classes", [])) > TABLE_CLASSES:
        alt = "Confusion matrix: a dark diagonal where the model is right"
        caption = "Rows: the true class; columns: what the model said. Darker: a larger share of the true class."
    else:
        return None
    return kept.picture(place, "confusion.png", alt=alt, caption=caption)


def _members(kept: Kept) -> list[dict[str, Any]]:
    """Of an ensemble; an older release scored none."""
    folder = kept.path("evaluate")
    found: list[dict[str, Any]] = (
        read_json(folder / "members.json") if folder and (folder / "members.json").exists() else []
    )
    return found


def _analysis(
    project: Project, kept: Kept, place: str, judged: dict[str, Any], params: dict[str, Any]
) -> AnalysisSection:
    """Whatever the run keeps of it: an older release, or the settings, may have left it out."""
    inside, own = (_record_if_there(kept, name, "analysis.json") for name in ("evaluate", place))
    split, suspects = kept.path("lineage", "split.parquet"), (inside or {}).get("suspected_labels") or []
    return analysis_section(
        judged,
        own if own else inside,
        _map(kept),
        inside=inside,
        pictures=pictures_of(project, split, {one["path"] for one in suspects}, params) if split else {},
    )


def _record_if_there(kept: Kept, place: str, name: str) -> dict[str, Any] | None:
    folder = kept.path(place)
    return read_json(folder / name) if folder is not None and (folder / name).exists() else None


def _map(kept: Kept) -> "list[Placed]":
    import pyarrow.parquet as pq

    from components.reporting.analysis_section import Placed

    folder = kept.path("evaluate")
    if folder is None or not (folder / "map.parquet").exists():
        return []
    rows = pq.read_table(folder / "map.parquet").to_pylist()
    return [Placed(**row | {"picture": embedded(row["picture"], "jpeg")}) for row in rows]


def _sheets(kept: Kept) -> list[tuple[str, Picture]]:
    """The pictures that the evaluation drew; those that it had no reason to draw are left out."""
    from components.reporting.pictures import picture_of_file

    folder = kept.path("evaluate")
    shown = (
        (
            "mistakes",
            "Mistakes beside the training images nearest to them",
            "Test image, what was said, then its neighbours with their labels.",
        ),
        ("hits", "Right, but least sure", "Test image, what was said, then its neighbours with their labels."),
        ("heat_maps", "What it looks at", "Warm where the image speaks for the answer (Grad-CAM), or is attended to."),
    )
    return [
        (heading, picture_of_file(folder / f"{name}.png", alt=f"{heading}: a line a test image", caption=caption))
        for name, heading, caption in shown
        if folder is not None and (folder / f"{name}.png").exists()
    ]


def _mistakes(project: Project, kept: Kept, place: str, params: dict[str, Any]) -> dict[str, Any]:
    """One picture a mistake, where the raw data at hand still holds the images; else the sheet of all of them."""
    from components.evaluation.predictions import read_predictions
    from components.reporting.pictures import mistake_pictures

    predictions, split = kept.path(place, "predictions.parquet"), kept.path("lineage", "split.parquet")
    errors = []
    if predictions is not None and split is not None:
        errors = mistake_pictures(
            read_predictions(predictions),
            _places(split),
            data_paths(project).raw,
            most=(params.get("evaluate") or {}).get("worst_errors", _WORST_ERRORS),
            max_megapixels=_max_megapixels(params),
        )
    sheet = kept.picture(
        place,
        "errors.png",
        alt="The test images that the model got most surely wrong, each with its true and its predicted class",
        caption="Each with its true class, and below what the model said and how sure it was.",
    )
    return {"errors": errors, "errors_sheet": None if errors else sheet}


def _places(split: Path) -> "dict[str, Place]":
    import pyarrow.parquet as pq

    rows = pq.read_table(split, columns=["sha256", *_PLACE]).to_pylist()
    return {row["sha256"]: _place(row) for row in rows}


def _place(row: dict[str, Any]) -> "Place":
    from components.reporting.pictures import Place

    return Place(**{name: row[name] for name in _PLACE})


def _max_megapixels(params: dict[str, Any]) -> float:
    found: float = (params.get("preprocess") or {}).get("max_megapixels", _MAX_MEGAPIXELS)
    return found
