"""A data set's life over several ingests: it grows, is accepted, drifts, and its labels are corrected. Real DVC."""

import csv
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from PIL import Image
from projects import draw_shape, new_project, write_shapes

from components.data.sources import IngestSettings, find
from components.shared.errors import DataError
from components.shared.files import read_json
from components.shared.progress import silent
from flows.project.baseline import set_baseline
from flows.project.dvc import data_paths, data_version
from flows.project.params import override
from flows.project.project import Project, open_project
from flows.stages.split import split
from flows.stages.validate import ValidatePaths, validate
from flows.steps.ingest import _bring_in


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    monkeypatch.delenv("DARKROOM_HOME", raising=False)
    return open_project(new_project(tmp_path / "project"))


def ingest(project: Project, location: Path, settings: IngestSettings | None = None) -> str:
    return _bring_in(project, find(str(location), settings or IngestSettings()))[0]


def prepare(project: Project, *changes: str) -> str:
    """The validate and split stages where dvc.yaml has them; returns what validation says."""
    override(project.params, list(changes), check=lambda _: None)
    paths = data_paths(project)
    paths.reference.mkdir(exist_ok=True)
    stage_paths = ValidatePaths(project.params, paths.raw, paths.reference, paths.validated, paths.report)
    said = validate(stage_paths, silent)
    split(project.params, paths.validated, paths.split, silent)
    return said


def splits(project: Project) -> dict[str, str]:
    rows = pq.read_table(data_paths(project).split / "split.parquet", columns=["path", "split"]).to_pylist()
    return {row["path"]: row["split"] for row in rows}


def digest(project: Project) -> str:
    return str(read_json(data_paths(project).split / "leakage.json")["split_digest"])


def images(project: Project) -> dict[str, dict[str, Any]]:
    table = pq.read_table(data_paths(project).validated / "images.parquet", columns=["path", "label", "labels"])
    return {row["path"]: row for row in table.to_pylist()}


def rule(project: Project, name: str) -> dict[str, Any]:
    results = read_json(data_paths(project).report)["results"]
    return next(result for result in results if result["rule"] == name)


def test_no_image_moves_when_the_folder_grows_and_an_earlier_folder_gives_its_split_back(
    project: Project, tmp_path: Path
) -> None:
    small, large = (write_shapes(tmp_path / name, each=each) for name, each in (("small", 25), ("large", 40)))
    version = ingest(project, small)
    prepare(project)
    before, first = splits(project), digest(project)

    assert ingest(project, small) == version
    prepare(project)
    assert digest(project) == first

    # A copy of an old image under a new name: it must go where the old one is.
    path = next(path for path, split in before.items() if split == "test")
    Image.open(large / path).save(large / path.replace(".png", "_again.jpg"), quality=90)
    assert ingest(project, large) != version
    said = prepare(project)
    assert "121 images (75 measured before)" in said
    after = splits(project)
    assert {path: after[path] for path in before} == before
    assert after[path.replace(".png", "_again.jpg")] == "test"
    assert {after[path] for path in after.keys() - before.keys()} == {"train", "val", "test"}
    assert digest(project) != first

    assert ingest(project, small) == version
    prepare(project)
    assert (splits(project), digest(project)) == (before, first)


def test_drift_is_measured_against_what_was_accepted_last(project: Project, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no validated data yet; run `darkroom prepare` first"):
        set_baseline(project)
    ingest(project, write_shapes(tmp_path / "dark", each=30))
    prepare(project, "validate.drift.level=stop")
    assert set_baseline(project).baseline_images == 90
    assert read_json(data_paths(project).reference / "baseline.json")["data_version"] == data_version(project)
    prepare(project)
    assert rule(project, "drift")["passed"]

    ingest(project, bright_shapes(tmp_path / "bright"))
    with pytest.raises(DataError, match=r"drift is .* outside, should be at most 0\.25 \(such as brightness"):
        prepare(project)
    with pytest.raises(DataError, match="fails validation, so it can't be the baseline"):
        set_baseline(project)

    prepare(project, "validate.drift.level=warn")
    assert not rule(project, "drift")["passed"]
    assert set_baseline(project).baseline_images == 90
    prepare(project, "validate.drift.level=stop")
    assert rule(project, "drift")["passed"]


def bright_shapes(folder: Path) -> Path:
    for label in ("circle", "square", "stripes"):
        (folder / label).mkdir(parents=True)
        for number in range(30):
            light = draw_shape(label, number).point(lambda value: 130 + value // 2)
            light.save(folder / label / f"{number:03d}.png")
    return folder


FRUIT = ("Fruit,Apple,Gala", "Fruit,Pear,Abate", "Veg,Leek,Green")
SETS = ("circle|red", "red|square", "stripes")
TREE = IngestSettings(label_columns=["super", "coarse", "fine"])


@pytest.mark.parametrize(
    ("header", "rows", "settings", "corrected", "label", "labels"),
    [
        ("label", ("cat", "dog", "hen"), None, "hen", "hen", ["hen"]),
        ("super,coarse,fine", FRUIT, TREE, "Veg / Leek/Green", "Veg/Leek/Green", ["Veg", "Leek", "Green"]),
        ("labels", SETS, None, "stripes | circle|stripes", "circle|stripes", ["circle", "stripes"]),
    ],
    ids=["single", "hierarchy", "sets"],
)
def test_a_corrected_label_reaches_the_split(
    project: Project,
    tmp_path: Path,
    header: str,
    rows: tuple[str, ...],
    settings: IngestSettings | None,
    corrected: str,
    label: str,
    labels: list[str],
) -> None:
    ingest(project, labelled(tmp_path / "set", header, rows), settings)
    prepare(project, "validate.images_per_class.level=warn")
    uncorrected, before = digest(project), splits(project)
    (data_paths(project).reference / "corrections.csv").write_text(f"path,corrected\ncircle/003.png,{corrected}\n")
    said = prepare(project, "labels.corrections=corrections.csv")
    assert "1 label corrected" in said
    assert images(project)["circle/003.png"] == {"path": "circle/003.png", "label": label, "labels": labels}
    assert sum(row["label"] == label for row in images(project).values()) in (1, 26)
    assert digest(project) != uncorrected
    assert splits(project) == before
    assert len(read_json(data_paths(project).report)["corrected_labels"]) == 1
    prepare(project, "labels.corrections=null")
    assert digest(project) == uncorrected


def labelled(folder: Path, header: str, rows: tuple[str, ...]) -> Path:
    """A table over drawn shapes; each shape has one of the rows as its labels."""
    write_shapes(folder, each=25)
    with (folder / "table.csv").open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["path", *header.split(",")])
        for shape, row in zip(("circle", "square", "stripes"), rows, strict=True):
            writer.writerows([f"{shape}/{number:03d}.png", *row.split(",")] for number in range(25))
    return folder / "table.csv"
