"""DVC stage: deal the accepted images into train, val and test, and prove that nothing leaks between them."""

import argparse
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from components.data.duplicates import clusters, find_duplicates
from components.data.hashing import SIDE
from components.data.leakage import audit, group_links
from components.data.splitting import SplitSettings, assign_parts
from components.data.tables import write_table
from components.files import write_json
from components.progress import Progress
from flows.sections import read_section
from flows.stages.entry import run_stage

_KEPT = ("path", "label", "group", "sha256", "shard", "offset", "size_bytes")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    for flag in ("--params", "--validated", "--split"):
        parser.add_argument(flag, type=Path, required=True)
    flags = parser.parse_args()
    run_stage("split", lambda progress: split(flags.params, flags.validated, flags.split, progress))


def split(params: Path, validated: Path, folder: Path, progress: Progress) -> str:
    """Writes split.parquet and leakage.json."""
    settings: SplitSettings = read_section(params, "split", SplitSettings)
    table = pq.read_table(validated / "images.parquet")
    column = {name: table[name].to_pylist() for name in ("path", "label", "group", "given_split", "sha256")}
    pairs = find_duplicates(
        sha256_N=np.array(column["sha256"], dtype=object),
        thumbnail_NSS=np.frombuffer(b"".join(table["thumbnail"].to_pylist()), np.uint8).reshape(-1, SIDE, SIDE),
        settings=settings.duplicates,
        progress=progress,
    )
    cluster_N = clusters(len(table), pairs.exact, pairs.near, group_links(column["group"]))
    part_N = assign_parts(
        sha256_N=column["sha256"],
        label_N=column["label"],
        given_N=column["given_split"],
        cluster_N=cluster_N,
        settings=settings,
    )
    proof = audit(
        path_N=column["path"],
        sha256_N=column["sha256"],
        label_N=column["label"],
        group_N=column["group"],
        given_N=column["given_split"],
        part_N=part_N,
        cluster_N=cluster_N,
        pairs=pairs,
        settings=settings,
    )
    dealt = (
        table.select(list(_KEPT)).append_column("part", pa.array(part_N)).append_column("cluster", pa.array(cluster_N))
    )
    write_table(folder / "split.parquet", dealt)
    write_json(folder / "leakage.json", proof)
    parts = ", ".join(f"{count} {part}" for part, count in proof["images"].items())
    cut = f"; {pairs.num_cut} comparisons of crowded hashes left out" if pairs.num_cut else ""
    return f"{parts}; {len(pairs.exact)} exact and {len(pairs.near)} near duplicates kept together{cut}"


if __name__ == "__main__":
    main()
