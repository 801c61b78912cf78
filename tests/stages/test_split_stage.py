"""The stage on tables in a temporary folder: which columns it needs, what it writes and what it says."""

import hashlib
import io
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from numpy.typing import NDArray
from PIL import Image
from projects import REPOSITORY, data_pages_in

from components.data.images.perceptual_hash import perceptual_hashes
from components.records.leak_proof import LeakProof
from components.shared.errors import DataError
from components.shared.files import read_json
from components.shared.parquet import write_table
from components.shared.progress import silent
from flows.stages.split import split


def png_of(picture_SS: NDArray[np.uint8]) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(picture_SS).save(stream, "PNG")
    return stream.getvalue()


def write_validated(folder: Path, *, copied: int = 0, **columns: Any) -> None:
    """Sixty pictures of two classes, with their raw data; the last `copied` are hardly changed copies of the first."""
    picture_NSS = np.random.default_rng(1).integers(0, 256, (60, 32, 32), dtype=np.uint8)
    if copied:
        picture_NSS[-copied:] = picture_NSS[:copied] // 2 + 40
    files = [png_of(picture) for picture in picture_NSS]
    (folder / "raw").mkdir(exist_ok=True)
    (folder / "raw" / "images-00000.tar").write_bytes(b"".join(files))
    hash_N, mirror_N = perceptual_hashes(picture_NSS).T
    own = {
        "path": [f"{number:02d}.png" for number in range(60)],
        "label": ["cat", "dog"] * 30,
        "group": pa.nulls(60, pa.string()),
        "given_split": pa.nulls(60, pa.string()),
        "sha256": [hashlib.sha256(file).hexdigest() for file in files],
        "shard": ["images-00000.tar"] * 60,
        "offset": [sum(map(len, files[:row])) for row in range(60)],
        "size_bytes": [len(file) for file in files],
        "width_px": [32] * 60,
        "height_px": [32] * 60,
        "colourfulness": [0.0] * 60,
        "hash": pa.array(hash_N),
        "mirror_hash": pa.array(mirror_N),
        "thumbnail": [picture.tobytes() for picture in picture_NSS],
        "colours": [bytes([128]) * (8 * 8 * 3)] * 60,
    }
    write_table(folder / "images.parquet", pa.table(own | columns))


def params(folder: Path, **changes: str) -> Path:
    """The repository's settings with lines of the section `split` replaced."""
    lines = (REPOSITORY / "params.yaml").read_text().splitlines()
    at = lines.index(next(line for line in lines if line.startswith("split:")))
    for name, value in changes.items():
        row = next(row for row in range(at, len(lines)) if lines[row].startswith(f"  {name}:"))
        lines[row] = f"  {name}: {value}"
    (folder / "params.yaml").write_text("\n".join(lines))
    return folder / "params.yaml"


def test_the_required_columns_are_enough(tmp_path: Path) -> None:
    write_validated(tmp_path)
    split(params(tmp_path), tmp_path, tmp_path / "split", silent)
    table = pq.read_table(tmp_path / "split" / "split.parquet")
    kept = ["path", "label", "group", "sha256", "shard", "offset", "size_bytes", "split", "cluster"]
    assert table.column_names == kept
    assert read_json(tmp_path / "split" / "leakage.json")["images"] == {"train": 42, "val": 9, "test": 9}


def test_optional_columns_are_kept_and_folds_written(tmp_path: Path) -> None:
    write_validated(tmp_path, labels=[["cat"], ["dog"]] * 30, weight=pa.nulls(60, pa.float64()))
    split(params(tmp_path, folds="3"), tmp_path, tmp_path / "split", silent)
    table = pq.read_table(tmp_path / "split" / "split.parquet")
    assert {"labels", "weight", "fold"} <= set(table.column_names)
    assert table["fold"].null_count == 9, "the test images are in no fold"


def test_equal_tables_give_equal_bytes(tmp_path: Path) -> None:
    write_validated(tmp_path)
    for name in ("one", "two"):
        split(params(tmp_path), tmp_path, tmp_path / name, silent)
    for file in ("split.parquet", "leakage.json", "leaking_pairs.parquet"):
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes()


@pytest.mark.parametrize(("given", "leaking"), [("keep", 3), ("repair", 0)])
def test_a_given_split_is_audited_or_repaired(tmp_path: Path, given: str, leaking: int) -> None:
    splits = ["train"] * 30 + ["val"] * 15 + ["test"] * 15
    write_validated(tmp_path, copied=3, given_split=splits)
    summary = split(params(tmp_path, given=given), tmp_path, tmp_path / "split", silent)
    proof = LeakProof.read(tmp_path / "split" / "leakage.json")
    assert proof.leaks.num_across == leaking
    # What was healed is shown as the author gave it.
    healed = proof.leaks_as_given
    assert (healed.num_across if healed else 0) == 3 - leaking
    named = pq.read_table(tmp_path / "split" / "leaking_pairs.parquet").to_pylist()
    assert {one["splits"] for one in named} == {"assigned" if leaking else "given"}
    assert [(one["left_path"], one["right_path"]) for one in named] == [
        (f"0{n}.png", f"{57 + n}.png") for n in range(3)
    ]
    assert data_pages_in(tmp_path) == [tmp_path / "leaks.html"]
    page = (tmp_path / "leaks.html").read_text()
    assert page.count("data:image/png") == 2 * 3
    assert "60 images were compared, the hash of each with that of every other one:\n1,770 pairs" in page
    assert page.count("<b>train</b> · cat") == page.count("<b>test</b> · dog") == 2
    assert data_pages_in(tmp_path) == [], "nothing has changed"
    assert ("As given: 3 pairs are in two splits." in page) == (not leaking)
    assert ("3 pairs are in two splits" in summary) == bool(leaking)
    assert ("the given split has 3 pairs in two splits" in summary) == (not leaking)


def test_excluded_images_and_further_splits_are_reported(tmp_path: Path) -> None:
    fractions = "{train: 0.4, val: 0.2, test: 0.2, holdout: 0.2}"
    ingest_id = [0] * 59 + [1]
    write_validated(tmp_path, ingest_id=ingest_id)
    split(params(tmp_path, fractions=fractions), tmp_path, tmp_path / "before", silent)
    split_N = pq.read_table(tmp_path / "before" / "split.parquet")["split"].to_pylist()
    train, test = split_N.index("train"), split_N.index("test")
    # The new image is a copy of a test image, and belongs to the group of a training image.
    table = pq.read_table(tmp_path / "images.parquet")
    row_N = pa.array([*range(59), test])
    copied = {name: table[name].take(row_N) for name in ("sha256", "hash", "mirror_hash", "thumbnail")}
    group = pa.array(["burst" if row in (train, 59) else None for row in range(60)])
    write_validated(tmp_path, ingest_id=ingest_id, group=group, **copied)
    summary = split(params(tmp_path, fractions=fractions), tmp_path, tmp_path / "after", silent)
    proof = read_json(tmp_path / "after" / "leakage.json")
    assert [image["path"] for image in proof["excluded"]] == ["59.png"]
    assert "1 excluded, in no split (see leakage.json), such as 59.png" in summary
    assert "no model step reads holdout" in summary
    assert pq.read_table(tmp_path / "after" / "split.parquet")["split"].to_pylist()[:59] == split_N[:59]


def test_test_images_older_than_training_images_are_reported(tmp_path: Path) -> None:
    timestamp = [f"2024-03-{1 + number // 2:02d}" for number in range(60)]
    sentence = "test images are older than the newest training image, because each ingest is split separately"
    for ingest_id, said in (([0] * 60, False), ([0] * 30 + [1] * 30, True)):
        write_validated(tmp_path, timestamp=timestamp, ingest_id=ingest_id)
        summary = split(params(tmp_path, method="time"), tmp_path, tmp_path / "split", silent)
        assert (sentence in summary) == said


def test_images_that_the_named_model_finds_equal_stay_together(tmp_path: Path) -> None:
    write_validated(tmp_path)
    embedding = np.eye(60, dtype=np.float32)
    embedding[30:] = embedding[:30]
    settings = params(tmp_path)
    text = settings.read_text().replace("embeddings: null", "embeddings: {model: m.onnx, min_similarity: 0.9}")
    settings.write_text(text)
    with pytest.raises(DataError, match=r"embeddings\.npy isn't there; run `darkroom run`"):
        split(settings, tmp_path, tmp_path / "split", silent)
    np.save(tmp_path / "embeddings.npy", embedding[:59])
    with pytest.raises(DataError, match="has 59 rows for 60 images"):
        split(settings, tmp_path, tmp_path / "split", silent)
    np.save(tmp_path / "embeddings.npy", embedding)
    summary = split(settings, tmp_path, tmp_path / "split", silent)
    proof = read_json(tmp_path / "split" / "leakage.json")
    split_N = pq.read_table(tmp_path / "split" / "split.parquet")["split"].to_pylist()
    assert split_N[:30] == split_N[30:]
    assert (proof["pairs"]["embedding"], proof["leaks"]["pairs_across_splits"]["embedding"]) == (30, 0)
    assert "30 pairs similar to the model" in summary


@pytest.mark.parametrize("absent", ["val", "test"])
def test_a_class_that_the_given_split_leaves_out_is_a_warning(tmp_path: Path, absent: str) -> None:
    splits = np.array(["train", "train", "val", "val", "test", "test"] * 10)
    splits[1::2][splits[1::2] == absent] = "train"
    write_validated(tmp_path, given_split=splits.tolist())
    said = split(params(tmp_path, method="given"), tmp_path, tmp_path / "split", silent)
    assert f"warning: 1 class has no image in {absent} (dog); move images of them there, or set" in said
