"""Whether the data meets its rules: the manifest and the measured columns, checked with Great Expectations.

Each rule of params.yaml is one expectation on one of three tables: `images` (one row for each decoded image), `classes`
(one row for each class) and `dataset` (a single row).
"""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from itertools import chain
from typing import TYPE_CHECKING

import numpy as np

from components.data.quality.expectations import Answer, check_expectations, load_great_expectations
from components.data.quality.profile import Profile, drift, grown, names_of, profile_of
from components.data.quality.quality_report import ExampleImages, QualityReport, RuleResult
from components.data.quality.rules import KnownClasses, QualitySettings, RangeRule, Rule

if TYPE_CHECKING:
    import pandas as pd

_MAX_EXAMPLES = 12
_IMAGES_OF_AN_EXAMPLE, _MAX_GROWN_CLASSES = 4, 3
_IMAGE_RULES = ("side_px", "aspect", "brightness", "contrast", "sharpness", "entropy_bits", "colourfulness")
_DATASET_RULES = ("images", "imbalance", "decodable_fraction", "conflicting_labels")


def check_quality(
    images: "pd.DataFrame",
    *,
    quarantined: Sequence[Sequence[str]],
    settings: QualitySettings,
    baseline: Profile | None = None,
    may_lack_labels: bool = False,
) -> QualityReport:
    """The result of each rule.

    `images` has one row for each decoded image: path, label, sha256 and the fields of Measurement. With a column
    `labels` an image with several labels counts for each of them. `quarantined` has the classes of each file that can't
    be decoded; none where the file belongs to no class. `baseline` is the profile of the data version with which drift
    is measured; without one the drift rules are left out. `may_lack_labels`: an image needs no label.
    """
    import pandas as pd

    counts = Counter(chain.from_iterable(names_of(images, "label")))
    counts.update(dict.fromkeys(chain.from_iterable(quarantined), 0))
    images = images.assign(side_px=images[["width_px", "height_px"]].min(axis=1))
    classes = pd.DataFrame({"label": list(counts), "images_per_class": list(counts.values())})
    dataset = pd.DataFrame([_dataset_row(images, counts, len(quarantined))])
    results = [
        *_check_ranges("images", images, "path", _rules(settings, _IMAGE_RULES)),
        *_check_ranges("classes", classes, "label", _rules(settings, ("images_per_class",))),
        *_check_ranges("dataset", dataset, None, _rules(settings, _DATASET_RULES)),
    ]
    results = [result if result.passed else _with_examples(result, images, counts) for result in results]
    results += _check_manifest(images, settings, may_lack_labels=may_lack_labels)
    if settings.known_classes is not None:
        results.append(_check_classes(classes, settings.known_classes, images, counts))
    if baseline is not None:
        results += _check_drift(images, baseline, settings)
    return QualityReport(results, len(images), len(quarantined), dict(sorted(counts.items())))


def _rules(settings: QualitySettings, names: Sequence[str]) -> dict[str, RangeRule]:
    return {name: getattr(settings, name) for name in names if getattr(settings, name) is not None}


def _dataset_row(images: "pd.DataFrame", counts: Counter[str], num_quarantined: int) -> dict[str, float]:
    labels_of_content = images.groupby("sha256")["label"].transform("nunique")
    largest, smallest = max(counts.values(), default=0), min(counts.values(), default=1)
    return {
        "images": len(images),
        "imbalance": largest / smallest if smallest else math.inf,
        "decodable_fraction": len(images) / max(1, len(images) + num_quarantined),
        "conflicting_labels": float((labels_of_content > 1).mean()) if len(images) else 0.0,
    }


def _check_ranges(name: str, table: "pd.DataFrame", key: str | None, rules: dict[str, RangeRule]) -> list[RuleResult]:
    """The result of each rule on the column of its name; `key` is the column that names a row."""
    gx = load_great_expectations()
    expectations = [
        gx.expectations.ExpectColumnValuesToBeBetween(
            column=column, min_value=rule.at_least, max_value=rule.at_most, mostly=rule.fraction
        )
        for column, rule in rules.items()
    ]
    answers = check_expectations(name, table, expectations)
    return [
        _range_result(column, rule, answer, table, key)
        for (column, rule), answer in zip(rules.items(), answers, strict=True)
    ]


def _range_result(column: str, rule: RangeRule, answer: Answer, table: "pd.DataFrame", key: str | None) -> RuleResult:
    rows, values = answer.broken_rows, table[column]
    if key is None:
        return RuleResult(column, rule.level, answer.passed, _figure(values.iloc[0]), _limit(rule), [], len(rows))
    spread = f"{_figure(values.min())} to {_figure(values.max())}" if len(values) else "no rows"
    examples = [str(table[key].iloc[row]) for row in rows[:_MAX_EXAMPLES]]
    value, passed = f"{spread}; {len(rows)} of {len(values)} outside", answer.passed and len(values) > 0
    return RuleResult(column, rule.level, passed, value, _limit(rule), examples, len(rows))


def _check_manifest(images: "pd.DataFrame", settings: QualitySettings, *, may_lack_labels: bool) -> list[RuleResult]:
    gx = load_great_expectations()
    unique, present = settings.unique_paths, settings.labels_present
    # The manifest has an empty text where a label is missing.
    table = images[["path"]].assign(label=images["label"].where((images["label"] != "") | may_lack_labels))
    answers = check_expectations(
        "manifest",
        table,
        [
            gx.expectations.ExpectColumnValuesToBeUnique(column="path", mostly=unique.fraction),
            gx.expectations.ExpectColumnValuesToNotBeNull(column="label", mostly=present.fraction),
        ],
    )
    rules = (("unique_paths", unique, "every path once"), ("labels_present", present, "every image has a label"))
    results = []
    for (name, rule, limit), answer in zip(rules, answers, strict=True):
        rows = answer.broken_rows
        examples = [str(path) for path in images["path"].iloc[rows].unique()[:_MAX_EXAMPLES]]
        value = f"{len(rows)} of {len(images)} break it"
        results.append(
            RuleResult(name, rule.level, answer.passed, value, _with_fraction(limit, rule), examples, len(rows))
        )
    return results


def _with_examples(result: RuleResult, images: "pd.DataFrame", counts: Counter[str]) -> RuleResult:
    """The broken rule on the whole data set or its classes, with the images or classes that broke it."""
    if result.rule == "conflicting_labels":
        broken = images[images.groupby("sha256")["label"].transform("nunique") > 1].sort_values(["sha256", "path"])
        return replace(result, examples=list(broken["path"][:_MAX_EXAMPLES]), num_broken=len(broken))
    if result.rule == "imbalance" and counts:
        ordered = sorted(counts, key=lambda name: (counts[name], name))
        extremes = list(dict.fromkeys([ordered[0], ordered[-1]]))
        result = replace(result, examples=extremes, num_broken=len(extremes))
    if result.rule in ("images_per_class", "imbalance"):
        return replace(result, shown=_images_of_classes(result.examples, images, counts))
    return result


def _images_of_classes(names: list[str], images: "pd.DataFrame", counts: Counter[str]) -> list[ExampleImages]:
    rows: dict[str, list[int]] = {name: [] for name in names}
    for row, labels in enumerate(names_of(images, "label")):
        for name in rows.keys() & labels:
            rows[name].append(row)
    return [ExampleImages(_class_title(name, counts), _sample(images, rows[name])) for name in names]


def _class_title(name: str, counts: Counter[str]) -> str:
    if name not in counts:
        return f"{name}: listed, but no file has this label"
    return f"{name}: {counts[name]:,} images" if counts[name] else f"{name}: none of its files can be decoded"


def _sample(images: "pd.DataFrame", rows: list[int]) -> list[str]:
    """Paths of a few of the rows, evenly spaced."""
    chosen = np.linspace(0, len(rows) - 1, min(_IMAGES_OF_AN_EXAMPLE, len(rows))).astype(int)
    return [str(images["path"].iloc[rows[index]]) for index in chosen]


def _check_classes(
    classes: "pd.DataFrame", known: KnownClasses, images: "pd.DataFrame", counts: Counter[str]
) -> RuleResult:
    gx = load_great_expectations()
    expectation = gx.expectations.ExpectColumnValuesToBeInSet(column="label", value_set=known.labels)
    [answer] = check_expectations("known_classes", classes, [expectation])
    unknown = sorted(answer.broken_values)
    missing = sorted(name for name in set(known.labels) if not counts[name])
    value = f"{len(unknown)} of {len(classes)} classes unknown"
    value += f", {len(missing)} listed without an image" if missing else ""
    limit = f"the {len(known.labels)} listed classes"
    passed, broken = answer.passed and not missing, [*unknown, *missing]
    shown = _images_of_classes(broken[:_MAX_EXAMPLES], images, counts)
    return RuleResult("known_classes", known.level, passed, value, limit, broken[:_MAX_EXAMPLES], len(broken), shown)


def _check_drift(images: "pd.DataFrame", baseline: Profile, settings: QualitySettings) -> list[RuleResult]:
    import pandas as pd

    index_of = drift(profile_of(images), baseline)
    results = []
    for name, rule, columns, most in (
        ("drift", settings.drift, [column for column in index_of if column != "label"], 1),
        ("class_drift", settings.class_drift, ["label"], _MAX_GROWN_CLASSES),
    ):
        if rule is not None and columns:
            table = pd.DataFrame({"column": columns, name: [index_of[column] for column in columns]})
            [result] = _check_ranges(name, table, "column", {name: rule})
            growth = chain.from_iterable(grown(images, baseline, column, most=most) for column in result.examples)
            results.append(
                replace(result, shown=[ExampleImages(one.title, _sample(images, one.rows)) for one in growth])
            )
    return results


def _figure(value: float) -> str:
    """Four significant digits; whole numbers, and the whole part of a large number, in full."""
    needs_no_decimals = math.isfinite(value) and (value == math.floor(value) or abs(value) >= 1000)
    return f"{value:.0f}" if needs_no_decimals else f"{value:.4g}"


def _limit(rule: RangeRule) -> str:
    ends = (("at least", rule.at_least), ("at most", rule.at_most))
    return _with_fraction(" and ".join(f"{name} {end:g}" for name, end in ends if end is not None), rule)


def _with_fraction(limit: str, rule: Rule) -> str:
    return limit if rule.fraction == 1 else f"{limit}, for {100 * rule.fraction:g}% of them"
