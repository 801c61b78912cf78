import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from components.data.quality import rule_checks
from components.data.quality.profile import drift, grown, profile_of, read_profile
from components.data.quality.quality_report import ExampleImages, QualityReport, RuleResult
from components.data.quality.rule_checks import check_quality
from components.data.quality.rules import QualitySettings
from components.reporting.validation_page import validation_page
from components.shared.errors import DataError, SettingsError

RULES: dict[str, Any] = {
    "images": {"at_least": 1, "level": "stop"},
    "images_per_class": {"at_least": 1, "level": "stop"},
    "imbalance": {"at_most": 1000, "level": "warn"},
    "decodable_fraction": {"at_least": 0.0, "level": "stop"},
    "conflicting_labels": {"at_most": 0.0, "level": "warn"},
    "side_px": {"at_least": 1, "level": "stop"},
    "aspect": {"at_least": 0.01, "at_most": 100, "level": "warn"},
    "brightness": {"at_least": 0, "level": "warn"},
    "contrast": {"at_least": 0, "level": "warn"},
    "sharpness": {"at_least": 0, "level": "warn"},
}


def images(count: int = 200, seed: int = 1) -> pd.DataFrame:
    random = np.random.default_rng(seed)
    return pd.DataFrame(
        {
            "path": [f"{number:06d}.png" for number in range(count)],
            "label": random.choice(["cat", "dog"], count),
            "sha256": [f"{number:064x}" for number in range(count)],
            "mode": "RGB",
            "format": "PNG",
            "width_px": 32,
            "height_px": 32,
            "aspect": 1.0,
            "brightness": random.beta(5, 5, count),
            "contrast": random.beta(2, 5, count),
            "sharpness": random.gamma(2, 100, count),
            "entropy_bits": random.uniform(5, 8, count),
            "colourfulness": random.gamma(2, 10, count),
        }
    )


def checked(
    table: pd.DataFrame, baseline: Any = None, quarantined: list[list[str]] | None = None, **rules: Any
) -> dict[str, RuleResult]:
    settings = QualitySettings.from_section("validate", RULES | rules)
    report = check_quality(table, quarantined=quarantined or [], settings=settings, baseline=baseline)
    assert isinstance(report, QualityReport)
    return {result.rule: result for result in report.results}


def test_sound_data_passes_every_rule() -> None:
    assert all(result.passed for result in checked(images()).values())


@pytest.mark.parametrize(
    ("rule", "limits", "column", "value"),
    [
        ("side_px", {"at_least": 16}, "height_px", 8),
        ("aspect", {"at_most": 5}, "aspect", 9.0),
        ("brightness", {"at_least": 0.0001}, "brightness", 0.0),
        ("contrast", {"at_least": 0.00001}, "contrast", 0.0),
        ("sharpness", {"at_least": 0.1}, "sharpness", 0.0),
        ("entropy_bits", {"at_least": 1}, "entropy_bits", 0.0),
        ("colourfulness", {"at_most": 900}, "colourfulness", 1000.0),
    ],
)
def test_one_image_outside_a_range_breaks_the_rule_and_is_named(
    rule: str, limits: dict[str, float], column: str, value: float
) -> None:
    table = images()
    table.loc[17, column] = value
    found = checked(table, **{rule: {**limits, "level": "stop"}})[rule]
    assert not found.passed
    assert found.examples == ["000017.png"]


def test_an_image_counts_for_each_of_its_labels() -> None:
    table = images(6).assign(label=["cat|dog"] * 5 + ["dog"], labels=[["cat", "dog"]] * 5 + [["dog"]])
    found = checked(
        table, images_per_class={"at_least": 5, "level": "stop"}, imbalance={"at_most": 1.3, "level": "warn"}
    )
    assert found["images_per_class"].passed
    assert found["imbalance"].passed
    single = table.assign(labels=[[label] for label in table["label"]])
    assert not checked(single, images_per_class={"at_least": 5, "level": "stop"})["images_per_class"].passed


@pytest.mark.parametrize(
    ("rule", "sentence"),
    [
        ({"level": "warn"}, "validate.brightness: should be a range with at_least, at_most or both"),
        ({"at_least": 2.0, "at_most": 1.0, "level": "stop"}, "should be a range; at_least 2 lies above at_most 1"),
    ],
)
def test_an_empty_or_impossible_range_is_refused(rule: Any, sentence: str) -> None:
    with pytest.raises(SettingsError, match=sentence):
        checked(images(), brightness=rule)


def test_an_empty_table_does_not_pass() -> None:
    assert not checked(images().iloc[:0])["images"].passed


def test_conflicting_labels_name_the_images() -> None:
    table = images()
    table.loc[[3, 4], "sha256"] = "same"
    table.loc[[3, 4], "label"] = ["cat", "dog"]
    found = checked(table)["conflicting_labels"]
    assert not found.passed
    assert found.examples == ["000003.png", "000004.png"]


def test_repeated_paths_and_unknown_classes_are_found() -> None:
    table = images()
    table.loc[5, "path"] = table.loc[6, "path"]
    found = checked(table, known_classes={"labels": ["cat"], "level": "stop"})
    assert not found["unique_paths"].passed
    assert found["unique_paths"].examples == ["000006.png"]
    assert found["unique_paths"].value == "2 of 200 break it"
    assert found["known_classes"].examples == ["dog"]
    [shown] = found["known_classes"].shown
    assert shown.title.startswith("dog: ")
    assert {table.set_index("path")["label"][path] for path in shown.paths} == {"dog"}


@pytest.mark.parametrize("missing", ["", None])
def test_images_without_a_label_are_named(missing: str | None) -> None:
    table = images()
    table.loc[[3, 7], "label"] = missing
    found = checked(table)["labels_present"]
    assert (found.level, found.passed, found.examples) == ("stop", False, ["000003.png", "000007.png"])
    assert found.num_broken == 2


def test_whether_repeated_paths_and_missing_labels_stop_is_a_setting() -> None:
    table = images()
    table.loc[5, "path"] = table.loc[6, "path"]
    table.loc[8, "label"] = ""
    demand = {"fraction": 0.985, "level": "warn"}
    found = checked(table, unique_paths=demand, labels_present={"level": "warn"})
    assert found["unique_paths"].passed
    assert found["unique_paths"].limit == "every path once, for 98.5% of them"
    assert (found["labels_present"].passed, found["labels_present"].level) == (False, "warn")


def test_a_class_none_of_whose_files_can_be_decoded_counts_with_no_image() -> None:
    known = {"labels": ["cat", "dog", "rare", "fox"], "level": "stop"}
    found = checked(images(), quarantined=[["rare"], ["rare"], ["cat"], []], known_classes=known)
    assert not found["images_per_class"].passed
    assert found["images_per_class"].shown == [ExampleImages("rare: none of its files can be decoded", [])]
    assert (found["imbalance"].passed, found["imbalance"].value) == (False, "inf")
    assert found["known_classes"].examples == ["fox", "rare"]
    assert found["known_classes"].value == "0 of 3 classes unknown, 2 listed without an image"
    assert [one.title for one in found["known_classes"].shown] == [
        "fox: listed, but no file has this label",
        "rare: none of its files can be decoded",
    ]


def test_too_few_images_and_imbalance_and_quarantine_are_found() -> None:
    found = checked(
        images(100).assign(label=["rare"] * 5 + ["often"] * 95),
        quarantined=[["often"]] * 100,
        images_per_class={"at_least": 10, "level": "stop"},
        imbalance={"at_most": 10, "level": "warn"},
        decodable_fraction={"at_least": 0.9, "level": "stop"},
    )
    assert found["images_per_class"].examples == ["rare"]
    assert found["images_per_class"].shown == [ExampleImages("rare: 5 images", ["000000.png", *RARE])]
    assert not found["imbalance"].passed
    assert found["imbalance"].examples == ["rare", "often"]
    assert [len(one.paths) for one in found["imbalance"].shown] == [4, 4]
    assert not found["decodable_fraction"].passed


RARE = ["000001.png", "000002.png", "000004.png"]
DRIFT: dict[str, Any] = {"drift": {"at_most": 0.25, "level": "warn"}, "class_drift": {"at_most": 0.25, "level": "stop"}}


def test_another_sample_of_the_same_distribution_is_no_drift_even_when_small() -> None:
    for seed in range(20):
        far = drift(profile_of(images(40, seed=seed + 2)), profile_of(images(60)))
        assert max(far.values()) <= 0.25, seed


def test_drift_names_the_columns() -> None:
    moved = images(2000, seed=2).assign(brightness=lambda table: table["brightness"] * 0.5, width_px=31)
    found = checked(moved, profile_of(images(2000)), **DRIFT)
    assert set(found["drift"].examples) == {"brightness", "width_px"}
    darker, narrower = found["drift"].shown
    assert re.fullmatch(r"brightness .*: \d+\.\d% of the images, \d+\.\d% of the baseline", darker.title)
    grown_range = moved.set_index("path")["brightness"][darker.paths]
    assert len(grown_range) == 4
    assert grown_range.max() < images(2000)["brightness"].median()
    assert narrower.title == "width_px below 32: 100.0% of the images, 0.0% of the baseline"
    assert found["class_drift"].passed


def test_other_class_frequencies_are_drift() -> None:
    found = checked(images(500).assign(label=["cat"] * 450 + ["dog"] * 50), profile_of(images(500)), **DRIFT)
    assert not found["class_drift"].passed
    assert found["drift"].passed
    [shown] = found["class_drift"].shown
    assert shown.title.startswith("label cat: 90.0% of the images, ")
    assert shown.paths == ["000000.png", "000149.png", "000299.png", "000449.png"]


def labelled_sets(seed: int, chance: float, count: int = 500) -> pd.DataFrame:
    """Many different sets of six labels, in which `a` comes with the given chance."""
    random = np.random.default_rng(seed)
    sets = [
        [name for name in "abcdef" if random.random() < (chance if name == "a" else 0.5)] or ["f"] for _ in range(count)
    ]
    return images(count, seed).assign(label=["|".join(one) for one in sets], labels=sets)


def test_multi_label_drift_is_that_of_each_label() -> None:
    baseline = profile_of(labelled_sets(1, 0.5))
    assert set(baseline["names"]["label"]) == set("abcdef")
    assert checked(labelled_sets(2, 0.5), baseline, **DRIFT)["class_drift"].passed
    assert drift(profile_of(labelled_sets(2, 0.5)), baseline)["label"] < 0.01
    fewer = labelled_sets(2, 0.02)
    assert drift(profile_of(fewer), baseline)["label"] > 0.1
    [found] = grown(fewer, baseline, "label", most=1)
    name = found.title.removeprefix("label ").partition(":")[0]
    assert name in "bcdef"
    assert found.rows == [row for row, labels in enumerate(fewer["labels"]) if name in labels]


@pytest.mark.parametrize("text", ["<<<<<<< HEAD\n{}\n", "{}", "[1]"])
def test_a_baseline_that_a_merge_broke_is_one_clear_sentence(tmp_path: Path, text: str) -> None:
    (tmp_path / "baseline.json").write_text(text)
    with pytest.raises(
        DataError, match=r"baseline\.json: isn't what `darkroom set-baseline` wrote; restore it from git"
    ):
        read_profile(tmp_path / "baseline.json")


def test_without_a_baseline_there_is_no_drift_rule() -> None:
    assert "drift" not in checked(images(), **DRIFT)


def test_the_page_escapes_names_and_shows_what_broke() -> None:
    evil = '"><script>alert(1)</script>'
    record = {
        "passed": False,
        "num_images": 1,
        "num_quarantined": 1,
        "images_per_class": {evil: 1},
        "quarantined": [{"path": evil, "reason": evil}] * 240,
        "results": [
            {
                **{"rule": "aspect", "level": "stop", "passed": False, "value": evil, "limit": "5"},
                **{"examples": ["a", evil], "num_broken": 57, "shown": []},
            },
            {
                **{"rule": "images_per_class", "level": "stop", "passed": False, "value": "0 to 1", "limit": "5"},
                **{"examples": [evil], "num_broken": 1, "shown": [{"title": evil, "paths": ["a"]}]},
            },
        ],
        "num_suspected": 3,
        "classes_not_searched": [evil],
        "suspected_label_errors": [{"path": "a", "label": evil, "suggested": evil, "score": 0.5}],
        "corrected_labels": [{"path": evil, "label": evil, "corrected": evil}],
    }
    page = validation_page(record, {"a": "data:image/jpeg;,", evil: "data:image/jpeg;,"})
    assert "<script" not in page
    assert page.count("<img ") == 4
    assert all(f"(the first {cut})" in page for cut in ("2 of 57", "200 of 240", "1 of 3"))
    assert "http://" not in page
    assert "https://" not in page


@pytest.mark.parametrize(
    ("value", "shown"), [(0.123456, "0.1235"), (12.0, "12"), (999.94, "999.9"), (12612.4, "12612"), (np.inf, "inf")]
)
def test_a_figure_is_shown_without_powers_of_ten(value: float, shown: str) -> None:
    assert rule_checks._figure(value) == shown
