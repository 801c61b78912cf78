"""Each setting is explained in one place: the comments of params.yaml are the first lines of the fields' docstrings."""

import pytest
from projects import REPOSITORY
from pydantic.fields import FieldInfo

from flows.project import settings_comments
from flows.project.project import TEMPLATE
from flows.project.settings_comments import with_comments

TEXT = (REPOSITORY / "params.yaml").read_text(encoding="utf-8")


def test_new_projects_have_the_settings_of_the_repository() -> None:
    assert (TEMPLATE / "params.yaml").read_text(encoding="utf-8") == settings_comments.for_new_projects(TEXT)


def test_the_comments_are_the_docstrings_of_the_settings_fields() -> None:
    assert with_comments(TEXT) == TEXT, "run `python -m flows.project.settings_comments`"


@pytest.mark.parametrize("docstring", ["First line,\nsecond line.", "", None])
def test_a_docstring_that_begins_with_no_paragraph_of_one_line_is_refused(docstring: str | None) -> None:
    with pytest.raises(ValueError, match=r"split\.seed: the docstring of its field should begin with"):
        settings_comments._comment(FieldInfo(description=docstring), ["split", "seed"])


def test_a_comment_is_replaced_and_nothing_else() -> None:
    text = "labels:  # stays\n  folds: 3   # old\n\ntune:\n  space:\n    train.learning_rate: [1]  # stays\n"
    comment = "Folds of the cross-validation; more fit the probe on more images and take longer"
    expected = text.replace("  folds: 3   # old", f"  folds: 3                 # {comment}")
    assert with_comments(text) == expected
