"""What the split stage finds in the images, as far as settings follow from it."""

import pyarrow as pa
import pytest

from components.data.split.facts import facts_of


def table(**columns: list[object]) -> pa.Table:
    defaults = {
        "split": ["train", "train", "train", "test"],
        "labels": [["cat"], ["cat"], ["dog"], ["bird"]],
        "width_px": [100, 200, 300, 400],
        "height_px": [50, 400, 20, 10],
        "colourfulness": [0.0, 50.0, 50.0, 50.0],
    }
    return pa.table(defaults | columns)


def test_classes_are_counted_in_training_and_sides_everywhere() -> None:
    found = facts_of(table())
    assert (found.train_images, found.classes, found.smallest_class, found.largest_class) == (3, 2, 1, 2)
    assert found.side_px == 350
    assert found.coloured


@pytest.mark.parametrize(("values", "coloured"), [([0.0, 0.0, 0.0, 90.0], False), ([9.0, 9.0, 9.0, 0.0], True)])
def test_most_images_decide_about_colours(values: list[object], coloured: bool) -> None:
    assert facts_of(table(colourfulness=values)).coloured is coloured


def test_a_split_without_training_images_has_no_classes() -> None:
    assert facts_of(table(split=["test"] * 4)).classes == 0
