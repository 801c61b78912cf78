"""Names that users chose are no markup, and stay readable."""

from components.reporting.markdown import plain, table


def test_signs_that_mark_something_are_escaped_and_others_stay() -> None:
    assert plain("avx512_vnni") == "avx512_vnni"
    assert plain("_class_ a__b <b>|*") == r"\_class\_ a\_\_b \<b\>\|\*"
    assert plain("two\nlines  of it") == "two lines of it"


def test_numbers_stand_at_the_right() -> None:
    assert table(("score", "value"), [("accuracy", "0.9")], numbers=[1]) == (
        "| score | value |\n| --- | ---: |\n| accuracy | 0.9 |\n"
    )
