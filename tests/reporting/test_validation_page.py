"""The page on the data's validation, from a hand-made record."""

import re
from typing import Any

from components.reporting.validation_page import validation_page

_EVIL = "<script>alert(1)</script>"


def rule(
    name: str,
    *,
    passed: bool = True,
    level: str = "stop",
    examples: tuple[str, ...] = (),
    shown: tuple[dict[str, Any], ...] = (),
) -> dict[str, Any]:
    broken = len(examples)
    return {
        "rule": name,
        "passed": passed,
        "level": level,
        "value": "3 outside",
        "limit": "at least 8",
        "examples": list(examples),
        "num_broken": broken,
        "shown": list(shown),
    }


def page(**record: Any) -> str:
    found: dict[str, Any] = {
        "passed": True,
        "num_images": 1234,
        "num_quarantined": 0,
        "images_per_class": {"dog": 30, "cat": 10},
        "results": [rule("images")],
        "quarantined": [],
    }
    return validation_page(found | record, {"a.png": "data:,A"})


def test_broken_rules_stand_first_and_each_says_what_it_measures() -> None:
    results = [
        rule("images"),
        rule("contrast", passed=False, level="warn", examples=("a.png", "gone.png")),
        rule("side_px", passed=False),
    ]
    html = page(results=results, passed=False)
    table = html[html.index("<table>") : html.index("</table>")]
    assert re.findall(r"<b>(.*?)</b>", table) == ["side_<wbr>px", "contrast", "images"]
    assert "A broken rule that stops ends the run" in html
    assert re.findall(r"(passes|warns|stops)</td>", table) == ["stops", "warns", "passes"]
    assert "Shorter side of each image, in pixels" in table
    assert "must not be used" in html
    assert html.count('<img src="data:,A"') == 1
    assert "gone.png" in html


def test_classes_and_columns_that_broke_a_rule_have_pictures_or_the_reason_why_not() -> None:
    few = {"title": "cat: 1 images", "paths": ["a.png"]}
    none = {"title": "fox: none of its files can be decoded", "paths": []}
    html = page(results=[rule("images_per_class", passed=False, examples=("cat", "fox"), shown=(few, none))])
    assert re.findall(r"<h3>(.*?)</h3>", html) == [few["title"], none["title"]]
    assert html.index("cat: 1 images") < html.index('<img src="data:,A"') < html.index("fox: none")


def test_classes_are_drawn_beside_each_other_and_many_behind_a_click() -> None:
    html = page()
    assert re.findall(r"--fraction:([0-9.]+)", html) == ["1.0000", "0.3333"]
    assert html.index("dog") < html.index("cat")
    assert "<details>" not in html
    assert "All 40 classes" in page(images_per_class={f"{number}": 1 for number in range(40)})
    assert "Images in each class" not in page(images_per_class={})


def test_suspects_say_how_to_correct_them() -> None:
    suspect = {"path": "a.png", "label": "cat", "suggested": "dog", "score": 0.98}
    html = page(suspected_label_errors=[suspect], num_suspected=3)
    assert "cat → dog? 0.98<br>a.png" in html
    assert "Suspected label errors (the first 1 of 3)" in html
    assert "labels.corrections" in html


def test_names_are_no_markup() -> None:
    suspect = {"path": "a.png", "label": _EVIL, "suggested": _EVIL, "score": 0.5}
    html = page(
        images_per_class={_EVIL: 3},
        results=[rule(_EVIL, passed=False, examples=(_EVIL,))],
        quarantined=[{"path": _EVIL, "reason": _EVIL}],
        suspected_label_errors=[suspect],
    )
    assert "<script" not in html
    assert html.count("&lt;script&gt;") > 6
