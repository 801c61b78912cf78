"""DVC stage: split the images into train, val and test, and prove that no duplicate or group lies in two splits."""

import argparse
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from components.data.duplicates.finder import DuplicatePairs, DuplicateSettings, find_duplicates
from components.data.images.embeddings import FILE as EMBEDDINGS
from components.data.images.embeddings import Embeddings
from components.data.images.perceptual_hash import COLOUR_SIDE, SIDE
from components.data.split.facts import SHAPE_COLUMNS, facts_of
from components.data.split.leak_proof import PAIRS_FILE, as_given, audit, find_leaks, named_pairs
from components.data.split.names import EXCLUDED, SPLITS
from components.data.split.splitter import SplitResult, SplitSettings, split_images
from components.data.split.strata import SplitImages
from components.records.data_facts import FACTS
from components.records.leak_proof import LEAK_PROOF, LeakProof
from components.shared.errors import DataError
from components.shared.parquet import write_table
from components.shared.plural import Sentence, counted
from components.shared.progress import Progress
from flows.project.sections import read_section
from flows.stages.entry import run_stage

_COLUMNS = ("path", "label", "labels", "group", "weight", "sha256", "shard", "offset", "size_bytes")
_NAMED_CLASSES = 5
_MORE_COLUMNS = (
    "ingested_label",
    "ingested_labels",
    "given_split",
    "timestamp",
    "ingest_id",
    "thumbnail",
    "colours",
    *SHAPE_COLUMNS,
)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    for flag in ("--params", "--validated", "--split"):
        parser.add_argument(flag, type=Path, required=True)
    flags = parser.parse_args(arguments)
    run_stage("split", lambda progress: split(flags.params, flags.validated, flags.split, progress))


def split(params: Path, validated: Path, folder: Path, progress: Progress) -> str:
    """Writes split.parquet, and the leak proof: leakage.json and leaking_pairs.parquet."""
    settings: SplitSettings = read_section(params, "split", SplitSettings)
    source = validated / "images.parquet"
    present = set(pq.read_schema(source).names)
    table = pq.read_table(source, columns=[name for name in (*_COLUMNS, *_MORE_COLUMNS) if name in present])
    images = SplitImages.from_table(table)
    pairs = find_duplicates(
        sha256_N=np.array(table["sha256"].to_pylist(), dtype=object),
        thumbnail_NSS=_pictures(table["thumbnail"], (SIDE, SIDE)),
        colour_NGG3=_pictures(table["colours"], (COLOUR_SIDE, COLOUR_SIDE, 3)),
        embedding_NF=_embeddings(validated / EMBEDDINGS, settings.duplicates, len(table)),
        ingest_id_N=images.ingest_id_N,
        settings=settings.duplicates,
        progress=progress,
    )
    result = split_images(images, pairs.alike, settings, progress=progress)
    table = _with_splits(table, result, folds=settings.folds)
    leaks = find_leaks(table, pairs.near, pairs.embedding)
    # Under `keep` the split is the author's own.
    given = None if settings.given == "keep" else as_given(table)
    given_leaks = None if given is None else find_leaks(given, pairs.near, pairs.embedding)
    leaking = [named_pairs(table, leaks, splits="assigned")]
    if given_leaks is not None:
        leaking.append(named_pairs(given, given_leaks, splits="given"))
    proof = audit(table, pairs, leaks, given=given_leaks, excluded=result.excluded, settings=settings.model_dump())
    columns = [name for name in (*_COLUMNS, "split", "cluster", "fold") if name in table.column_names]
    write_table(folder / "split.parquet", table.select(columns))
    write_table(folder / PAIRS_FILE, pa.concat_tables(leaking))
    proof.write(folder / LEAK_PROOF)
    facts_of(table).write(folder / FACTS)
    return _summary(proof, pairs, result)


def _pictures(column: Any, shape: tuple[int, ...]) -> NDArray[np.uint8]:
    """The column's bytes as pictures, shape [N, *shape]."""
    pictures = column.cast(pa.binary(math.prod(shape))).combine_chunks()
    return np.frombuffer(pictures.buffers()[1], np.uint8).reshape(-1, *shape)


def _embeddings(file: Path, settings: DuplicateSettings, num_images: int) -> Embeddings | None:
    """The embeddings that the validate stage wrote; None where the settings name no model."""
    if settings.embeddings is None:
        return None
    if not file.exists():
        raise DataError(f"{file.name} isn't there; run `darkroom run`, whose validate stage writes it")
    embedding_NF: Embeddings = np.load(file, mmap_mode="r", allow_pickle=False)
    if len(embedding_NF) != num_images:
        raise DataError(f"{file.name} has {len(embedding_NF)} rows for {num_images} images; run `darkroom run` again")
    return embedding_NF


def _with_splits(table: Any, result: SplitResult, *, folds: int) -> Any:
    split = pa.array(result.splits).take(pa.array(result.split_N))
    table = table.append_column("split", split).append_column("cluster", pa.array(result.cluster_N))
    if folds:
        table = table.append_column("fold", pa.array(result.fold_N, mask=result.fold_N < 0))
    return table


def _summary(proof: LeakProof, pairs: DuplicatePairs, result: SplitResult) -> Sentence:
    sentences = [
        ", ".join(f"{count} {split}" for split, count in proof.images.items()),
        f"{len(pairs.exact)} exact and {len(pairs.near)} near duplicates"
        + (f" and {counted(len(pairs.embedding), 'pair')} similar to the model" if pairs.embedding is not None else "")
        + " kept together",
    ]
    if across := proof.leaks.num_across:
        sentences[1] = (
            f"{counted(across, 'pair is', 'pairs are')} in two splits (see leaking_pairs.parquet); the gate will refuse"
        )
    if proof.leaks_as_given and (across := proof.leaks_as_given.num_across):
        sentences.append(f"the given split has {counted(across, 'pair')} in two splits (see leaking_pairs.parquet)")
    for split, classes in result.lacking.items():
        more = ", …" if len(classes) > _NAMED_CLASSES else ""
        sentences.append(
            f"warning: {counted(len(classes), 'class has', 'classes have')} no image in {split} "
            f"({', '.join(classes[:_NAMED_CLASSES])}{more}); move images of them there, or set split.given: ignore"
        )
    if result.num_older:
        sentences.append(
            f"{counted(result.num_older, 'test image is', 'test images are')} older than the newest training image, "
            "because each ingest is split separately, and duplicates and groups stay together"
        )
    further = [split for split in proof.images if split not in SPLITS and split != EXCLUDED]
    if further:
        sentences.append(f"no model step reads {', '.join(further)}")
    if proof.excluded:
        sentences.append(
            f"{len(proof.excluded)} excluded, in no split (see leakage.json), such as {proof.excluded[0].path}"
        )
    if pairs.num_cut:
        sentences.append(f"{counted(pairs.num_cut, 'comparison')} skipped, because too many images share a hash")
    return "; ".join(sentences)
