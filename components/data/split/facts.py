"""What the split images are like, as far as settings follow from it."""

from collections import Counter
from typing import Any

import pyarrow.compute as pc

from components.data.split.names import SPLITS
from components.records.data_facts import DataFacts

SHAPE_COLUMNS = ("width_px", "height_px", "colourfulness")
"""Columns of the validated table that say what an image looks like."""
_GREY = 5.0
"""Colourfulness (Hasler and Süsstrunk 2003) up to which an image counts as grey."""


def facts_of(table: Any) -> DataFacts:
    """The facts of a table with the columns `split`, `labels` (else `label`) and those of the images' shapes."""
    train = table.filter(pc.equal(table["split"], SPLITS[0]))
    if "labels" in table.column_names:
        counts = Counter(label for labels in train["labels"].to_pylist() for label in labels)
    else:
        counts = Counter(train["label"].to_pylist())
    sides = pc.max_element_wise(table["width_px"], table["height_px"])
    return DataFacts(
        train_images=len(train),
        classes=len(counts),
        smallest_class=min(counts.values(), default=0),
        largest_class=max(counts.values(), default=0),
        side_px=round(pc.quantile(sides, 0.5)[0].as_py()),
        coloured=pc.quantile(table["colourfulness"], 0.5)[0].as_py() > _GREY,
    )
