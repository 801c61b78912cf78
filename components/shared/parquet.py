"""Tables as Parquet files, written atomically."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from components.shared.files import atomic_file


def write_table(target: Path, table: pa.Table) -> None:
    with atomic_file(target) as temporary:
        pq.write_table(table, temporary, compression="zstd")
