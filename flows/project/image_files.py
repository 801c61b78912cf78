"""Images of the split, read from the raw data: for models that see them at a size of their own."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np

from components.shared.errors import DataError
from flows.project.dvc import data_paths
from flows.project.project import Project

if TYPE_CHECKING:
    from components.evaluation.served_predictions import ImageFiles


def raw_files(project: Project, split: str, *, most: int) -> list[bytes]:
    """The files of so many images of a split, spread evenly over it; DataError where it holds none."""
    with image_files(project, split) as files:
        chosen = np.unique(np.linspace(0, len(files) - 1, min(most, len(files))).astype(int))
        return [files.read(int(place)) for place in chosen]


@contextmanager
def image_files(project: Project, split: str) -> Iterator["ImageFiles"]:
    """The images of a split as the files that they came as; DataError where it holds none."""
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    from components.data.raw.dataset import RawImages
    from components.evaluation.served_predictions import ImageFiles

    paths = data_paths(project)
    table = pq.read_table(paths.split / "split.parquet")
    table = table.filter(pc.equal(table["split"], split))
    if not len(table):
        raise DataError(
            f"the {split} split holds no images, so no model can be scored; change split.fractions or add images"
        )
    rows = table.select(["shard", "offset", "size_bytes"]).to_pylist()
    with RawImages(paths.raw) as store:
        yield ImageFiles(
            path_N=table["path"].to_pylist(),
            sha256_N=table["sha256"].to_pylist(),
            labels_N=table["labels"].to_pylist(),
            read=lambda place: store.read(**rows[place]),
        )
