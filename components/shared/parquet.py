"""Tables as Parquet files that appear whole or not at all."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from components.shared.files import atomic_file


def write_table(target: Path, table: pa.Table) -> None:
    with atomic_file(target) as draft:
        pq.write_table(table, draft, compression="zstd")
