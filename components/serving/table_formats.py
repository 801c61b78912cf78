"""File formats of prediction tables, each written in chunks that are joined into one file."""

import csv
import io
import json
import shutil
from pathlib import Path
from typing import Any, Protocol

from components.serving.prediction_records import Columns, Record

_ROW_GROUP_ROWS = 16_384


class TableFormat(Protocol):
    def write_chunk(self, target: Path, records: list[Record], columns: Columns) -> None: ...

    def join_chunks(self, target: Path, chunks: list[Path], columns: Columns) -> None: ...


class CsvFormat:
    def write_chunk(self, target: Path, records: list[Record], columns: Columns) -> None:
        with target.open("w", newline="", encoding="utf-8") as stream:
            csv.DictWriter(stream, fieldnames=list(columns)).writerows(records)

    def join_chunks(self, target: Path, chunks: list[Path], columns: Columns) -> None:
        header = io.StringIO(newline="")
        csv.writer(header).writerow(columns)
        _concatenate(target, header.getvalue().encode(), chunks)


class JsonLinesFormat:
    def write_chunk(self, target: Path, records: list[Record], columns: Columns) -> None:
        with target.open("w", encoding="utf-8") as stream:
            stream.writelines(json.dumps(record, ensure_ascii=False) + "\n" for record in records)

    def join_chunks(self, target: Path, chunks: list[Path], columns: Columns) -> None:
        _concatenate(target, b"", chunks)


class ParquetFormat:
    def write_chunk(self, target: Path, records: list[Record], columns: Columns) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        pq.write_table(pa.Table.from_pylist(records, schema=_schema(columns)), target)

    def join_chunks(self, target: Path, chunks: list[Path], columns: Columns) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        row_group: list[Any] = []
        with pq.ParquetWriter(target, _schema(columns), compression="zstd") as writer:
            for chunk in chunks:
                row_group.append(pq.ParquetFile(chunk).read())
                if sum(len(table) for table in row_group) >= _ROW_GROUP_ROWS:
                    writer.write_table(pa.concat_tables(row_group))
                    row_group = []
            if row_group:
                writer.write_table(pa.concat_tables(row_group))


FORMATS: dict[str, TableFormat] = {".csv": CsvFormat(), ".parquet": ParquetFormat(), ".jsonl": JsonLinesFormat()}
"""By file extension."""


def _concatenate(target: Path, header: bytes, chunks: list[Path]) -> None:
    with target.open("wb") as joined:
        joined.write(header)
        for chunk in chunks:
            with chunk.open("rb") as stream:
                shutil.copyfileobj(stream, joined)


def _schema(columns: Columns) -> Any:
    import pyarrow as pa

    arrow_types = {str: pa.string(), float: pa.float64(), bool: pa.bool_()}
    return pa.schema([(name, arrow_types[type_]) for name, type_ in columns.items()])
