"""Pictures of images in the local raw data, found by the shard and offset that a table has for them."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from flows.project.dvc import data_paths
from flows.project.project import Project

if TYPE_CHECKING:
    from components.reporting.inline_pictures import Picture
    from components.reporting.pictures import ImageLocation

_LOCATION = ("shard", "offset", "size_bytes")


def pictures_of(project: Project, table: Path, paths: set[str], *, max_megapixels: float) -> "dict[str, Picture]":
    """Pictures by path, of the images in the table that the local raw data still holds."""
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    from components.reporting.pictures import pictures_by_path

    wanted = pa.array(sorted(paths), pa.string())
    images = pq.read_table(table, columns=["path", "sha256", *_LOCATION])
    rows = images.filter(pc.is_in(images["path"].cast(pa.string()), value_set=wanted)).to_pylist()
    return pictures_by_path(
        {row["path"]: (row["sha256"], _location(row)) for row in rows},
        data_paths(project).raw,
        max_megapixels=max_megapixels,
    )


def image_locations(split: Path) -> "dict[str, ImageLocation]":
    """Locations of all images of a split, by SHA-256."""
    import pyarrow.parquet as pq

    rows = pq.read_table(split, columns=["sha256", *_LOCATION]).to_pylist()
    return {row["sha256"]: _location(row) for row in rows}


def _location(row: dict[str, Any]) -> "ImageLocation":
    from components.reporting.pictures import ImageLocation

    return ImageLocation(**{name: row[name] for name in _LOCATION})
