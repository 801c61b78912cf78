"""The stages end to end, through the functions that DVC's commands call: real files in, real files out."""

import csv
import io
import shutil
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image
from projects import REPOSITORY, data_pages_in, validate_in

from components.data.packed.loaders import open_split
from components.data.raw.dataset import read_manifest
from components.data.raw.ingest import write_raw
from components.data.sources import find
from components.shared.errors import DataError
from components.shared.files import read_json
from components.shared.progress import silent
from flows.project.params import override
from flows.stages.augment import augment
from flows.stages.split import split

LABELS = ("ash", "birch", "cedar")
EACH = 30
TWINS = 6
"""Number of images of each class that are also in the data as JPEG, and of ash images that are also labelled birch."""


@dataclass(frozen=True)
class Outputs:
    """Folders as the stages leave them."""

    root: Path

    def rows(self, name: str) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = pq.read_table(self.root / name).to_pylist()
        return rows

    def quarantine(self) -> dict[str, str]:
        with (self.root / "validated" / "quarantine.csv").open(newline="") as stream:
            return {row["path"]: row["reason"] for row in csv.DictReader(stream)}

    def split_of(self) -> dict[str, str]:
        return {row["path"]: row["split"] for row in self.rows("split/split.parquet")}


def picture(*seed: int) -> Image.Image:
    """Coarse colours with sharp edges: no two alike, and still itself after JPEG.

    Nine a side: fewer than eight would leave frequencies of the hash with nothing but noise.
    """
    coarse = np.random.default_rng(seed).integers(0, 256, (9, 9, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize((36, 36), Image.Resampling.NEAREST)


def write_source(folder: Path) -> Path:
    for number, label in enumerate(LABELS):
        (folder / label).mkdir(parents=True)
        for image in range(EACH):
            picture(number, image).save(folder / label / f"{image:02d}.png")
        for image in range(TWINS):
            picture(number, image).save(folder / label / f"{image:02d}_again.jpg", quality=70)
    for image in range(TWINS, 2 * TWINS):
        shutil.copy(folder / "ash" / f"{image:02d}.png", folder / "birch" / f"copy_{image:02d}.png")
    whole = io.BytesIO()
    picture(9, 9).save(whole, "JPEG")
    (folder / "cedar" / "cut.jpg").write_bytes(whole.getvalue()[:-200])
    (folder / "cedar" / "empty.png").write_bytes(b"")
    (folder / "cedar" / "text.png").write_text("not a picture\n")
    return folder


def settings(folder: Path, *changes: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    file = Path(shutil.copy(REPOSITORY / "params.yaml", folder / "params.yaml"))
    override(file, ["preprocess.image_size_px=16", *changes], check=lambda _: None)
    return file


def run(source: str, root: Path, *changes: str) -> Outputs:
    params = settings(root, *changes)
    write_raw(find(source), root / "raw", progress=silent)
    validate_in(root, params)
    split(params, root / "validated", root / "split", silent)
    augment(params, root / "raw", root / "split", root / "augmented", silent)
    return Outputs(root)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_source(tmp_path_factory.mktemp("trees") / "source")


@pytest.fixture(scope="module")
def outputs(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Outputs:
    return run(str(source), tmp_path_factory.mktemp("run"))


def test_what_can_not_be_decoded_is_quarantined_with_its_reason(outputs: Outputs) -> None:
    reasons = outputs.quarantine()
    assert set(reasons) == {"cedar/cut.jpg", "cedar/empty.png", "cedar/text.png"}
    assert "broken image" in reasons["cedar/cut.jpg"]
    assert "empty (0 bytes)" in reasons["cedar/empty.png"]
    assert "no image" in reasons["cedar/text.png"]
    report = read_json(outputs.root / "validation.json")
    assert {entry["path"]: entry["reason"] for entry in report["quarantined"]} == reasons
    assert report["passed"] is True


def test_all_decodable_images_reach_the_last_stage(source: Path, outputs: Outputs) -> None:
    everything = {path.relative_to(source).as_posix() for path in source.rglob("*.*")}
    accepted = everything - set(outputs.quarantine())
    assert len(accepted) == 3 * (EACH + TWINS) + TWINS
    assert {row["path"] for row in outputs.rows("validated/images.parquet")} == accepted
    assert set(outputs.split_of()) == accepted
    assert {row["path"] for row in outputs.rows("augmented/index.parquet")} == accepted


def test_every_class_is_in_every_split_near_its_fraction(outputs: Outputs) -> None:
    counts: defaultdict[tuple[str, str], int] = defaultdict(int)
    for row in outputs.rows("split/split.parquet"):
        counts[row["label"], row["split"]] += 1
    for label in LABELS:
        total = sum(counts[label, split] for split in ("train", "val", "test"))
        assert counts[label, "train"] / total == pytest.approx(0.7, abs=0.1)
        assert counts[label, "val"] > 0
        assert counts[label, "test"] > 0


def test_a_recompressed_copy_is_in_the_split_of_its_original(outputs: Outputs) -> None:
    split_of = outputs.split_of()
    for label in LABELS:
        for image in range(TWINS):
            assert split_of[f"{label}/{image:02d}.png"] == split_of[f"{label}/{image:02d}_again.jpg"]


def test_the_same_bytes_under_two_labels_are_in_one_split(outputs: Outputs) -> None:
    split_of = outputs.split_of()
    for image in range(TWINS, 2 * TWINS):
        assert split_of[f"ash/{image:02d}.png"] == split_of[f"birch/copy_{image:02d}.png"]


def test_the_leak_proof_counts_the_pairs_and_finds_none_across(outputs: Outputs) -> None:
    proof = read_json(outputs.root / "split" / "leakage.json")
    assert proof["pairs"]["exact"] == TWINS
    assert proof["pairs"]["near"] >= 3 * TWINS
    assert set(proof["leaks"]["pairs_across_splits"].values()) == {0}
    assert proof["split_digest"] == read_json(outputs.root / "augmented" / "dataset.json")["split_digest"]


def test_conflicting_labels_are_reported(outputs: Outputs) -> None:
    (rule,) = [
        one for one in read_json(outputs.root / "validation.json")["results"] if one["rule"] == "conflicting_labels"
    ]
    assert not rule["passed"]


def test_the_packed_arrays_hold_the_images_of_their_index(outputs: Outputs) -> None:
    rows = outputs.rows("augmented/index.parquet")
    for name in ("train", "val", "test"):
        pixels = open_split(outputs.root / "augmented", name).pixels_NHWC
        assert pixels.shape == (sum(row["split"] == name for row in rows), 16, 16, 3)
        for row in rows:
            if row["split"] == name and row["copy"] == 0 and row["path"] == "ash/00.png":
                assert (
                    np.abs(pixels[row["row"]].mean(axis=(0, 1)) - np.asarray(picture(0, 0)).mean(axis=(0, 1))).max() < 4
                )
    assert sorted({row["split"] for row in rows}) == ["test", "train", "val"]


def test_only_the_training_split_has_augmented_copies(outputs: Outputs) -> None:
    rows = outputs.rows("augmented/index.parquet")
    copies = [row for row in rows if row["copy"] > 0]
    originals = [row for row in rows if row["split"] == "train" and row["copy"] == 0]
    assert {row["split"] for row in copies} == {"train"}
    assert sorted(row["path"] for row in copies) == sorted(row["path"] for row in originals)
    pixels = open_split(outputs.root / "augmented", "train").pixels_NHWC
    place = {row["path"]: row["row"] for row in originals}
    changed = [not np.array_equal(pixels[row["row"]], pixels[place[row["path"]]]) for row in copies]
    assert np.mean(changed) > 0.8


def test_a_second_run_gives_the_same_bytes(source: Path, outputs: Outputs, tmp_path: Path) -> None:
    again = run(str(source), tmp_path / "again")
    files, others = (
        # What this machine measured is kept in the order in which its cores were done.
        {path.relative_to(root) for path in root.rglob("*") if path.is_file() and ".darkroom" not in path.parts}
        for root in (outputs.root, again.root)
    )
    assert files == others
    assert len(files) > 10
    for file in files:
        assert (again.root / file).read_bytes() == (outputs.root / file).read_bytes(), file


def test_another_seed_gives_another_split(outputs: Outputs, tmp_path: Path) -> None:
    params = settings(tmp_path, "split.seed=8")
    split(params, outputs.root / "validated", tmp_path / "split", silent)
    other = Outputs(tmp_path)
    assert set(other.split_of()) == set(outputs.split_of())
    assert other.split_of() != outputs.split_of()


def test_a_group_is_in_one_split(source: Path, tmp_path: Path) -> None:
    rows = [(f"{label}/{image:02d}.png", label, f"tree {image // 5}") for label in LABELS for image in range(EACH)]
    table = source.parent / "source" / "table.csv"
    table.write_text("path,label,group\n" + "".join(f"{path},{label},{group}\n" for path, label, group in rows))
    params = settings(tmp_path)
    try:
        write_raw(find(str(table)), tmp_path / "raw", progress=silent)
    finally:
        table.unlink()
    validate_in(tmp_path, params)
    split(params, tmp_path / "validated", tmp_path / "split", silent)
    split_of = Outputs(tmp_path).split_of()
    sides = defaultdict(set)
    for path, _, group in rows:
        sides[group].add(split_of[path])
    assert len(sides) == 6
    assert all(len(splits) == 1 for splits in sides.values())
    assert set.union(*sides.values()) == {"train", "val", "test"}


def test_data_that_breaks_a_rule_stops_and_names_it(source: Path, tmp_path: Path) -> None:
    params = settings(tmp_path, "validate.images_per_class.at_least=1000")
    write_raw(find(str(source)), tmp_path / "raw", progress=silent)
    with pytest.raises(DataError, match=r"images_per_class is .*should be at least 1000.*fix the data, or change"):
        validate_in(tmp_path, params)
    assert read_json(tmp_path / "validation.json")["passed"] is False


def test_a_warning_names_files_the_report_and_the_remedy(tmp_path: Path) -> None:
    folder = tmp_path / "source"
    for number, label in enumerate(LABELS[:2]):
        (folder / label).mkdir(parents=True)
        for image in range(6):
            picture(number, image).save(folder / label / f"{image}.png")
    for name in ("a", "b", "c"):
        (folder / "ash" / f"{name}.png").write_text("no image")
    (folder / "ash" / "d.png").touch()
    picture(7, 7).save(folder / "ash" / "e.jfif", "WEBP")
    (folder / "ash" / "Thumbs.db").write_text("clutter")
    lenient = ["validate.images.at_least=1", "validate.images_per_class.at_least=1"]
    rule = "validate.decodable_fraction={at_least: 0.99, level: warn}"
    params = settings(tmp_path, *lenient, rule, "validate.sharpness={at_least: 1.0e+9, level: warn}")
    write_raw(find(str(folder)), tmp_path / "raw", progress=silent)
    said = validate_in(tmp_path, params)
    quarantine, report = tmp_path / "validated" / "quarantine.csv", tmp_path / "validation.json"
    reasons = "3 × the content is no image that can be read, 1 × the file is empty (0 bytes)"
    assert f"4 quarantined ({reasons}; {quarantine} lists them)" in said
    three = "such as ash/a.png, ash/b.png, ash/c.png"
    assert f"decodable_fraction is 0.7647, should be at least 0.99 ({reasons}, {three})" in said
    assert "1 ending is wrong, the content counts (1 × .jfif is WEBP, such as ash/e.jfif)" in said
    assert "13 of 13 outside, should be at least 1e+09 (such as ash/0.png, ash/1.png, ash/2.png)" in said
    assert said.endswith(f"{report} lists more: fix the data, or change the rule under validate in params.yaml")


def test_a_class_none_of_whose_files_can_be_decoded_stops(tmp_path: Path) -> None:
    for number, label in enumerate(LABELS[:2]):
        (tmp_path / "source" / label).mkdir(parents=True)
        for image in range(30):
            picture(number, image).save(tmp_path / "source" / label / f"{image}.png")
    (tmp_path / "source" / "rare").mkdir()
    (tmp_path / "source" / "rare" / "0.png").write_text("no image")
    write_raw(find(str(tmp_path / "source")), tmp_path / "raw", progress=silent)
    with pytest.raises(DataError, match=r"images_per_class is 0 to 30; 1 of 3 outside, .* \(such as rare\)"):
        validate_in(tmp_path, settings(tmp_path))
    assert read_json(tmp_path / "validation.json")["images_per_class"] == {"ash": 30, "birch": 30, "rare": 0}
    data_pages_in(tmp_path)
    page = (tmp_path / "validation.html").read_text()
    assert "<h3>rare: none of its files can be decoded</h3>" in page
    # Of the imbalance that an empty class makes, the largest class is shown.
    assert page.count("<img ") == 4


def test_data_without_a_single_image_stops(tmp_path: Path) -> None:
    for label in LABELS:
        (tmp_path / "source" / label).mkdir(parents=True)
        (tmp_path / "source" / label / "1.png").write_text("no image")
    write_raw(find(str(tmp_path / "source")), tmp_path / "raw", progress=silent)
    sentence = (
        r"none of the 3 files can be decoded \(3 × the content is no image that can be read\); ingest images that can"
    )
    with pytest.raises(DataError, match=sentence) as stopped:
        validate_in(tmp_path, settings(tmp_path))
    assert stopped.value.exit_code == 3
    # The reasons are written, and the files as they came are still there.
    assert (tmp_path / "validated" / "quarantine.csv").read_text().count("/1.png") == 3
    assert [row.size_bytes for row in read_manifest(tmp_path / "raw")] == [len("no image")] * 3
