"""Whether the data is good: Great Expectations over the manifest and the measured columns.

Each rule of params.yaml is one expectation on one of three tables: `images` (a row a decoded image), `classes` (a row
a class) and `dataset` (one row). A broken rule warns or stops, as the rule says.
"""

import logging
import os
from collections import Counter
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, Self

from pydantic import Field, model_validator

from components.data.profile import Profile, drift, profile_of
from components.labels import counted_names
from components.settings import Settings

if TYPE_CHECKING:
    import pandas as pd
    from great_expectations.expectations.expectation import Expectation

_SHOWN_EXAMPLES = 12
_IMAGE_RULES = ("side_px", "aspect", "brightness", "contrast", "sharpness", "entropy_bits", "colourfulness")


class Rule(Settings):
    """A range for one measured value; one of its sides may be open."""

    at_least: float | None = None
    at_most: float | None = None
    share: float = Field(default=1.0, gt=0, le=1)
    """Share of the rows that must lie in the range."""
    level: Literal["warn", "stop"]
    """stop: the stage fails and no model is trained on this data; warn: the report says so."""

    @model_validator(mode="after")
    def _is_a_range(self) -> Self:
        if self.at_least is None and self.at_most is None:
            raise ValueError("a range with at_least, at_most or both")
        if self.at_least is not None and self.at_most is not None and self.at_least > self.at_most:
            raise ValueError(f"a range; at_least {self.at_least:g} lies above at_most {self.at_most:g}")
        return self


class KnownClasses(Settings):
    """A closed list of labels."""

    labels: list[str] = Field(min_length=1)
    level: Literal["warn", "stop"]


class QualitySettings(Settings):
    """params.yaml: validate. Every rule is a line of the validation report."""

    images: Rule
    """Number of decoded images."""
    images_per_class: Rule
    imbalance: Rule
    """Images of the largest class over those of the smallest."""
    decodable_share: Rule
    conflicting_labels: Rule
    """Share of the images whose bytes also stand under another label."""
    side_px: Rule
    """The shorter side of each image."""
    aspect: Rule
    brightness: Rule
    contrast: Rule
    """One-coloured images have none."""
    sharpness: Rule
    entropy_bits: Rule | None = None
    colourfulness: Rule | None = None
    known_classes: KnownClasses | None = None
    """null: any label is one."""
    drift: Rule | None = None
    """Population stability index of each measured column against the accepted data, beyond what chance gives."""
    class_drift: Rule | None = None
    """The same of the class mix."""


@dataclass(frozen=True)
class RuleResult:
    rule: str
    level: str
    passed: bool
    value: str
    """What was observed."""
    limit: str
    examples: list[str]
    """Paths or classes that broke the rule, the first of them."""
    num_broken: int = 0
    """Of which those are the first."""


@dataclass(frozen=True)
class QualityReport:
    results: list[RuleResult]
    num_images: int
    num_quarantined: int
    images_per_class: dict[str, int]

    @property
    def stopping(self) -> list[RuleResult]:
        return [result for result in self.results if not result.passed and result.level == "stop"]

    def as_record(self) -> dict[str, Any]:
        return asdict(self) | {"passed": not self.stopping}


def check_quality(
    images: "pd.DataFrame",
    *,
    num_quarantined: int,
    settings: QualitySettings,
    accepted: Profile | None = None,
) -> QualityReport:
    """`images` has a row a decoded image: path, label, sha256 and the columns of probing.Measurement.

    With a column `labels` the images of a set count for each of its labels.

    `accepted` is the profile of the data version with which drift is measured; None leaves drift out.
    """
    import pandas as pd

    counts = _class_counts(images)
    images = images.assign(side_px=images[["width_px", "height_px"]].min(axis=1))
    classes = pd.DataFrame({"label": list(counts), "images_per_class": list(counts.values())})
    dataset = pd.DataFrame([_dataset_row(images, counts, num_quarantined)])
    tables = {
        "images": (images, "path", _IMAGE_RULES),
        "classes": (classes, "label", ("images_per_class",)),
        "dataset": (dataset, None, ("images", "imbalance", "decodable_share", "conflicting_labels")),
    }
    results = []
    for name, (table, key, columns) in tables.items():
        rules = {column: getattr(settings, column) for column in columns if getattr(settings, column) is not None}
        results += _validate(name, table, key, rules)
    results = [_with_conflicts(result, images) if result.rule == "conflicting_labels" else result for result in results]
    results += _check_manifest(images)
    if settings.known_classes is not None:
        results.append(_check_classes(classes, settings.known_classes))
    if accepted is not None:
        results += _check_drift(images, accepted, settings)
    return QualityReport(results, len(images), num_quarantined, dict(sorted(counts.items())))


def _class_counts(images: "pd.DataFrame") -> Counter[str]:
    if "labels" not in images.columns:
        return Counter(images["label"])
    pairs = zip(images["label"], images["labels"], strict=True)
    return Counter(name for label, labels in pairs for name in counted_names(label, labels))


def _dataset_row(images: "pd.DataFrame", counts: Counter[str], num_quarantined: int) -> dict[str, float]:
    labels_per_picture = images.groupby("sha256")["label"].transform("nunique")
    return {
        "images": len(images),
        "imbalance": max(counts.values(), default=0) / max(1, min(counts.values(), default=1)),
        "decodable_share": len(images) / max(1, len(images) + num_quarantined),
        "conflicting_labels": float((labels_per_picture > 1).mean()) if len(images) else 0.0,
    }


def _validate(name: str, table: "pd.DataFrame", key: str | None, rules: dict[str, Rule]) -> list[RuleResult]:
    from great_expectations.expectations import ExpectColumnValuesToBeBetween

    expectations: list[Expectation] = [
        ExpectColumnValuesToBeBetween(column=column, min_value=rule.at_least, max_value=rule.at_most, mostly=rule.share)
        for column, rule in rules.items()
    ]
    answers = _run(name, table, expectations)
    return [
        _result(column, rule, answer, table, key) for (column, rule), answer in zip(rules.items(), answers, strict=True)
    ]


def _check_manifest(images: "pd.DataFrame") -> list[RuleResult]:
    from great_expectations.expectations import (
        ExpectColumnValuesToBeUnique,
        ExpectColumnValuesToNotBeNull,
    )

    answers = _run(
        "manifest",
        images,
        [ExpectColumnValuesToBeUnique(column="path"), ExpectColumnValuesToNotBeNull(column="label")],
    )
    names = (("unique_paths", "every path once"), ("labels_present", "every image has a label"))
    return [
        RuleResult(name, "stop", bool(answer.success), f"{_unexpected_count(answer)} break it", limit, [])
        for (name, limit), answer in zip(names, answers, strict=True)
    ]


def _with_conflicts(result: RuleResult, images: "pd.DataFrame") -> RuleResult:
    if result.passed:
        return result
    broken = images[images.groupby("sha256")["label"].transform("nunique") > 1].sort_values(["sha256", "path"])
    return replace(result, examples=list(broken["path"][:_SHOWN_EXAMPLES]), num_broken=len(broken))


def _check_classes(classes: "pd.DataFrame", known: KnownClasses) -> RuleResult:
    from great_expectations.expectations import ExpectColumnValuesToBeInSet

    [answer] = _run("known_classes", classes, [ExpectColumnValuesToBeInSet(column="label", value_set=known.labels)])
    unknown = sorted(map(str, answer.result.get("unexpected_list") or []))
    value = f"{len(unknown)} of {len(classes)} classes unknown"
    limit = f"the {len(known.labels)} listed classes"
    examples = unknown[:_SHOWN_EXAMPLES]
    return RuleResult("known_classes", known.level, bool(answer.success), value, limit, examples, len(unknown))


def _check_drift(images: "pd.DataFrame", accepted: Profile, settings: QualitySettings) -> list[RuleResult]:
    import pandas as pd

    found = drift(profile_of(images), accepted)
    results = []
    for name, rule, columns in (
        ("drift", settings.drift, [column for column in found if column != "label"]),
        ("class_drift", settings.class_drift, ["label"]),
    ):
        if rule is not None and columns:
            table = pd.DataFrame({"column": columns, name: [found[column] for column in columns]})
            results += _validate(name, table, "column", {name: rule})
    return results


def _run(name: str, table: "pd.DataFrame", expectations: "list[Expectation]") -> list[Any]:
    """The answers in the order of the expectations; a rule that could not be judged raises."""
    # Great Expectations reads this when it is imported, and would call home otherwise.
    os.environ.setdefault("GX_ANALYTICS_ENABLED", "false")
    import great_expectations as gx

    logging.getLogger("great_expectations").setLevel(logging.ERROR)
    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = {"globally": False}
    asset = context.data_sources.add_pandas("frames").add_dataframe_asset(name)
    batch = asset.add_batch_definition_whole_dataframe("all")
    suite = context.suites.add(gx.ExpectationSuite(name=name, expectations=expectations))
    definition = context.validation_definitions.add(gx.ValidationDefinition(name=name, data=batch, suite=suite))
    outcome = definition.run(
        batch_parameters={"dataframe": table},
        result_format={"result_format": "COMPLETE", "include_unexpected_rows": False},
    )
    for answer in outcome.results:
        if answer.exception_info and answer.exception_info.get("raised_exception"):
            raise RuntimeError(f"Great Expectations could not judge {name}: {answer.exception_info}")
    # GX groups its answers by column: bring them back to the order in which they were asked.
    by_id = {answer.expectation_config.id: answer for answer in outcome.results}
    return [by_id[expectation.id] for expectation in suite.expectations]


def _result(column: str, rule: Rule, answer: Any, table: "pd.DataFrame", key: str | None) -> RuleResult:
    broken = list(answer.result.get("unexpected_index_list") or [])
    values = table[column]
    if key is None:
        value, examples = f"{values.iloc[0]:g}", []
    else:
        spread = f"{values.min():g} to {values.max():g}" if len(values) else "no rows"
        value = f"{spread}; {len(broken)} of {len(values)} outside"
        examples = [str(table[key].iloc[row]) for row in broken[:_SHOWN_EXAMPLES]]
    passed = bool(answer.success) and (key is None or len(values) > 0)
    return RuleResult(column, rule.level, passed, value, _limit(rule), examples, len(broken))


def _unexpected_count(answer: Any) -> int:
    return int(answer.result.get("unexpected_count") or 0)


def _limit(rule: Rule) -> str:
    sides = []
    if rule.at_least is not None:
        sides.append(f"at least {rule.at_least:g}")
    if rule.at_most is not None:
        sides.append(f"at most {rule.at_most:g}")
    text = " and ".join(sides) or "any value"
    return text if rule.share == 1 else f"{text}, for {rule.share:.0%} of them"
