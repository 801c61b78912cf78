"""The pages on the data, rendered from the records of the stages: data/reports/validation.html and leaks.html.

DVC's stages write records only, so that a change of a page's words or style never runs a stage again. A page ends with
the SHA-256 of its record and template, and is rendered again only when one of them has changed.
"""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING

from components.records.leak_proof import LEAK_PROOF, LeakProof, SplitLeaks
from components.reporting import leaks_page, validation_page
from components.shared.errors import DarkroomError
from components.shared.files import read_json, sha256_of_file, sha256_of_record, write_text
from flows.project.dvc import DataPaths, data_paths
from flows.project.project import Project

if TYPE_CHECKING:
    from components.reporting.inline_pictures import Picture

logger = logging.getLogger(__name__)

_SHOWN = 200
"""Number of pairs of each kind, and of excluded images, that the page of leaks shows."""


def render_data_pages(project: Project) -> list[Path]:
    """Writes the pages whose records have changed, and returns their paths; cheap where nothing has changed.

    Where a page can't be written, that is logged: it must not hide an error of a stage.
    """
    paths = data_paths(project)
    pages: Mapping[str, tuple[list[Path], Callable[[], str]]] = {
        "validation.html": ([paths.report, Path(validation_page.__file__)], lambda: _validation(project, paths)),
        "leaks.html": ([paths.split / LEAK_PROOF, Path(leaks_page.__file__)], lambda: _leaks(project, paths)),
    }
    templates = Path(validation_page.__file__).with_name("templates")
    written = []
    for name, (sources, render) in pages.items():
        page = paths.report.with_name(name)
        try:
            if _write(page, [*sources, templates / f"{name}.j2"], render):
                written.append(page)
        except (OSError, ValueError, KeyError, DarkroomError) as problem:
            logger.warning(f"{page} could not be written: {problem}")
    return written


def _write(page: Path, sources: list[Path], render: Callable[[], str]) -> bool:
    if not all(source.exists() for source in sources):
        return False
    mark = f"\n<!-- rendered from {sha256_of_record([sha256_of_file(source) for source in sources])} -->\n"
    if page.exists() and page.read_text(encoding="utf-8").endswith(mark):
        return False
    write_text(page, render() + mark)
    return True


def _validation(project: Project, paths: DataPaths) -> str:
    record = read_json(paths.report)
    broken = [result for result in record["results"] if not result["passed"]]
    shown = {path for result in broken for path in result["examples"]}
    shown |= {path for result in broken for group in result["shown"] for path in group["paths"]}
    shown |= {suspect["path"] for suspect in record["suspected_label_errors"]}
    pictures = _pictures(project, paths.validated / "images.parquet", shown)
    return validation_page.validation_page(record, {path: picture.source for path, picture in pictures.items()})


def _leaks(project: Project, paths: DataPaths) -> str:
    proof = LeakProof.read(paths.split / LEAK_PROOF)
    pairs = _leaking_pairs(paths.split)
    shown = {path for pair in pairs for path in (pair.left_path, pair.right_path)}
    label_of = _labels(paths.split / "split.parquet", shown)

    def sections(leaks: SplitLeaks, splits: str) -> list[leaks_page.LeakSection]:
        counts = leaks.pairs_across_splits
        rows = {kind: [pair for pair in pairs if (pair.splits, pair.type) == (splits, kind)] for kind in counts}
        return [
            leaks_page.LeakSection(kind, count, [_images(pair, label_of) for pair in rows[kind]])
            for kind, count in counts.items()
        ]

    return leaks_page.render_leaks(
        sections(proof.leaks, "assigned"),
        search=leaks_page.Search(sum(proof.images.values()), proof.candidates, proof.pairs, proof.comparisons_left_out),
        given=sections(proof.leaks_as_given, "given") if proof.leaks_as_given else None,
        excluded=[(image.path, image.reason) for image in proof.excluded[:_SHOWN]],
        num_excluded=len(proof.excluded),
        pictures=_pictures(project, paths.split / "split.parquet", shown),
    )


@dataclass(frozen=True)
class _LeakingPair:
    """Two images across splits: a row of the split's table of them."""

    splits: str
    """assigned or given"""
    type: str
    left_path: str
    left_split: str
    right_path: str
    right_split: str


def _leaking_pairs(split: Path) -> list[_LeakingPair]:
    """The first pairs of each type, of our split and of the given one."""
    import pyarrow.parquet as pq

    from components.data.split.leak_proof import PAIRS_FILE

    columns = [field.name for field in fields(_LeakingPair)]
    table = pq.read_table(split / PAIRS_FILE, columns=columns).to_pandas()
    rows = table.groupby(["splits", "type"], sort=False).head(_SHOWN).to_dict("records")
    return [_LeakingPair(**row) for row in rows]


def _images(pair: _LeakingPair, label_of: Mapping[str, str]) -> tuple[leaks_page.LeakingImage, leaks_page.LeakingImage]:
    return (
        leaks_page.LeakingImage(pair.left_path, label_of[pair.left_path], pair.left_split),
        leaks_page.LeakingImage(pair.right_path, label_of[pair.right_path], pair.right_split),
    )


def _labels(split: Path, shown: set[str]) -> dict[str, str]:
    import pyarrow.parquet as pq

    table = pq.read_table(split, columns=["path", "label"], filters=[("path", "in", shown)]) if shown else None
    return {} if table is None else dict(zip(table["path"].to_pylist(), table["label"].to_pylist(), strict=True))


def _pictures(project: Project, table: Path, shown: set[str]) -> "dict[str, Picture]":
    """The images to show by path, read from the raw data; `table` has their locations."""
    from components.data.images.preprocessing import PreprocessSettings
    from flows.project.sections import read_section
    from flows.report.raw_pictures import pictures_of

    if not shown or not table.exists():
        return {}
    settings: PreprocessSettings = read_section(project.params, "preprocess", PreprocessSettings)
    return pictures_of(project, table, shown, max_megapixels=settings.max_megapixels)
