"""Each setting is explained in one place: the comments of params.yaml are the first lines of the fields' docstrings."""

import pytest
from projects import REPOSITORY

from flows.project.settings_comments import GENERATED_SECTIONS, with_comments

TEXT = (REPOSITORY / "params.yaml").read_text(encoding="utf-8")


@pytest.mark.parametrize("section", GENERATED_SECTIONS)
def test_the_comments_of_a_section_are_the_docstrings_of_its_fields(section: str) -> None:
    assert with_comments(TEXT, [section]) == TEXT, "run `python -m flows.project.settings_comments`"


def test_a_docstring_whose_first_sentence_spans_lines_is_refused() -> None:
    with pytest.raises(
        ValueError, match=r"split\.given: the docstring of its field should begin with a paragraph of one"
    ):
        with_comments("split:\n  given: repair\n", ["split"])


def test_a_comment_is_replaced_and_nothing_else() -> None:
    text = "labels:  # stays\n  folds: 3   # old\n\ntune:\n  space:\n    train.learning_rate: [1]  # stays\n"
    comment = "Folds of the cross-validation; more fit the probe on more images and take longer"
    expected = text.replace("  folds: 3   # old", f"  folds: 3                 # {comment}")
    assert with_comments(text, ["labels", "tune"]) == expected
