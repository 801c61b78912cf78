"""Whether the data is good: Great Expectations over the manifest and the measured columns.

Each rule of params.yaml is one expectation on one of three tables: `images` (a row a decoded image), `classes` (a row
a class) and `dataset` (one row). A broken rule warns or stops, as the rule says.
"""

import logging
import math
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import chain
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np
from pydantic import Field, model_validator

from components.data.quality.profile import Profile, drift, grown, names_of, profile_of
from components.shared.settings import Settings

if TYPE_CHECKING:
    import pandas as pd
    from great_expectations.expectations.expectation import Expectation

_SHOWN_EXAMPLES = 12
_SHOWN_OF_EACH, _SHOWN_GROWN_CLASSES = 4, 3
_IMAGE_RULES = ("side_px", "aspect", "brightness", "contrast", "sharpness", "entropy_bits", "colourfulness")


class Demand(Settings):
    """What each image should have."""

    share: float = Field(default=1.0, gt=0, le=1)
    """Share of the rows that must meet it."""
    level: Literal["warn", "stop"]
    """stop: the stage fails and no model is trained on this data; warn: the report says so."""


class Rule(Demand):
    """A range for one measured value; one of its sides may be open."""

    at_least: float | None = None
    at_most: float | None = None

    @model_validator(mode="after")
    def _is_a_range(self) -> Self:
        if self.at_least is None and self.at_most is None:
            raise ValueError("a range with at_least, at_most or both")
        if self.at_least is not None and self.at_most is not None and self.at_least > self.at_most:
            raise ValueError(f"a range; at_least {self.at_least:g} lies above at_most {self.at_most:g}")
        return self


class KnownClasses(Settings):
    """A closed list of labels, of each of which there are images."""

    labels: list[str] = Field(min_length=1)
    level: Literal["warn", "stop"]


class QualitySettings(Settings):
    """params.yaml: validate. Every rule is a line of the validation report."""

    images: Rule
    """Number of decoded images."""
    images_per_class: Rule
    imbalance: Rule
    """Images of the largest class over those of the smallest."""
    decodable_fraction: Rule
    conflicting_labels: Rule
    """Share of the images whose bytes also stand under another label."""
    unique_paths: Demand = Demand(level="stop")
    labels_present: Demand = Demand(level="stop")
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
    """Population stability index of each measured column against the baseline data, beyond what chance gives."""
    class_drift: Rule | None = None
    """The same of the class mix."""


@dataclass(frozen=True)
class Shown:
    """A few images of a class, or of what has grown in a column."""

    title: str
    paths: list[str]
    """None where there is no picture."""


@dataclass(frozen=True)
class RuleResult:
    rule: str
    level: str
    passed: bool
    value: str
    """What was observed."""
    limit: str
    examples: list[str]
    """Paths, classes or columns that broke the rule, the first of them."""
    num_broken: int = 0
    """Of which those are the first."""
    shown: list[Shown] = field(default_factory=list)
    """What shows it, where the examples are no paths."""


@dataclass(frozen=True)
class QualityReport:
    results: list[RuleResult]
    num_images: int
    num_quarantined: int
    images_per_class: dict[str, int]
    """0 of a class none of whose files can be decoded."""

    @property
    def stopping(self) -> list[RuleResult]:
        return [result for result in self.results if not result.passed and result.level == "stop"]

    def as_record(self) -> dict[str, Any]:
        return asdict(self) | {"passed": not self.stopping}


def check_quality(
    images: "pd.DataFrame",
    *,
    quarantined: Sequence[Sequence[str]],
    settings: QualitySettings,
    baseline: Profile | None = None,
) -> QualityReport:
    """`images` has a row a decoded image: path, label, sha256 and the columns of probing.Measurement.

    With a column `labels` the images of a set count for each of its labels.

    `quarantined` has the classes of each file that could not be decoded; none where it stands in no class.

    `baseline` is the profile of the data version with which drift is measured; None leaves drift out.
    """
    import pandas as pd

    counts = Counter(chain.from_iterable(names_of(images, "label")))
    counts.update(dict.fromkeys(chain.from_iterable(quarantined), 0))
    images = images.assign(side_px=images[["width_px", "height_px"]].min(axis=1))
    classes = pd.DataFrame({"label": list(counts), "images_per_class": list(counts.values())})
    dataset = pd.DataFrame([_dataset_row(images, counts, len(quarantined))])
    tables = {
        "images": (images, "path", _IMAGE_RULES),
        "classes": (classes, "label", ("images_per_class",)),
        "dataset": (dataset, None, ("images", "imbalance", "decodable_fraction", "conflicting_labels")),
    }
    results = []
    for name, (table, key, columns) in tables.items():
        rules = {column: getattr(settings, column) for column in columns if getattr(settings, column) is not None}
        results += _validate(name, table, key, rules)
    results = [result if result.passed else _with_examples(result, images, counts) for result in results]
    results += _check_manifest(images, settings)
    if settings.known_classes is not None:
        results.append(_check_classes(classes, settings.known_classes, images, counts))
    if baseline is not None:
        results += _check_drift(images, baseline, settings)
    return QualityReport(results, len(images), len(quarantined), dict(sorted(counts.items())))


def _dataset_row(images: "pd.DataFrame", counts: Counter[str], num_quarantined: int) -> dict[str, float]:
    labels_per_picture = images.groupby("sha256")["label"].transform("nunique")
    largest, smallest = max(counts.values(), default=0), min(counts.values(), default=1)
    return {
        "images": len(images),
        "imbalance": largest / smallest if smallest else math.inf,
        "decodable_fraction": len(images) / max(1, len(images) + num_quarantined),
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


def _check_manifest(images: "pd.DataFrame", settings: QualitySettings) -> list[RuleResult]:
    from great_expectations.expectations import (
        ExpectColumnValuesToBeUnique,
        ExpectColumnValuesToNotBeNull,
    )

    unique, present = settings.unique_paths, settings.labels_present
    # The manifest has an empty text where a label is missing.
    table = images[["path"]].assign(label=images["label"].where(images["label"] != ""))
    answers = _run(
        "manifest",
        table,
        [
            ExpectColumnValuesToBeUnique(column="path", mostly=unique.share),
            ExpectColumnValuesToNotBeNull(column="label", mostly=present.share),
        ],
    )
    demands = (("unique_paths", unique, "every path once"), ("labels_present", present, "every image has a label"))
    results = []
    for (name, demand, limit), answer in zip(demands, answers, strict=True):
        broken = _broken_rows(answer)
        value = f"{len(broken)} of {len(images)} break it"
        examples = [str(path) for path in images["path"].iloc[broken].unique()[:_SHOWN_EXAMPLES]]
        passed, limit = bool(answer.success), _of_share(limit, demand)
        results.append(RuleResult(name, demand.level, passed, value, limit, examples, len(broken)))
    return results


def _with_examples(result: RuleResult, images: "pd.DataFrame", counts: Counter[str]) -> RuleResult:
    """With the images or classes that broke a rule on all of them."""
    if result.rule == "conflicting_labels":
        broken = images[images.groupby("sha256")["label"].transform("nunique") > 1].sort_values(["sha256", "path"])
        return replace(result, examples=list(broken["path"][:_SHOWN_EXAMPLES]), num_broken=len(broken))
    if result.rule == "imbalance" and counts:
        ordered = sorted(counts, key=lambda name: (counts[name], name))
        extremes = list(dict.fromkeys([ordered[0], ordered[-1]]))
        result = replace(result, examples=extremes, num_broken=len(extremes))
    if result.rule in ("images_per_class", "imbalance"):
        return replace(result, shown=_of_classes(result.examples, images, counts))
    return result


def _of_classes(names: list[str], images: "pd.DataFrame", counts: Counter[str]) -> list[Shown]:
    rows: dict[str, list[int]] = {name: [] for name in names}
    for row, found in enumerate(names_of(images, "label")):
        for name in rows.keys() & found:
            rows[name].append(row)
    return [Shown(_told(name, counts), _sample(images, rows[name])) for name in names]


def _told(name: str, counts: Counter[str]) -> str:
    if name not in counts:
        return f"{name}: listed, but no file has this label"
    return f"{name}: {counts[name]:,} images" if counts[name] else f"{name}: none of its files can be decoded"


def _sample(images: "pd.DataFrame", rows: list[int]) -> list[str]:
    """Paths of a few of the rows, from the first to the last."""
    chosen = np.linspace(0, len(rows) - 1, min(_SHOWN_OF_EACH, len(rows))).astype(int)
    return [str(images["path"].iloc[rows[place]]) for place in chosen]


def _check_classes(
    classes: "pd.DataFrame", known: KnownClasses, images: "pd.DataFrame", counts: Counter[str]
) -> RuleResult:
    from great_expectations.expectations import ExpectColumnValuesToBeInSet

    [answer] = _run("known_classes", classes, [ExpectColumnValuesToBeInSet(column="label", value_set=known.labels)])
    unknown = sorted(map(str, answer.result.get("unexpected_list") or []))
    lacking = sorted(name for name in set(known.labels) if not counts[name])
    value = f"{len(unknown)} of {len(classes)} classes unknown"
    value += f", {len(lacking)} listed without an image" if lacking else ""
    limit = f"the {len(known.labels)} listed classes"
    passed, broken = bool(answer.success) and not lacking, [*unknown, *lacking]
    shown = _of_classes(broken[:_SHOWN_EXAMPLES], images, counts)
    return RuleResult("known_classes", known.level, passed, value, limit, broken[:_SHOWN_EXAMPLES], len(broken), shown)


def _check_drift(images: "pd.DataFrame", baseline: Profile, settings: QualitySettings) -> list[RuleResult]:
    import pandas as pd

    found = drift(profile_of(images), baseline)
    results = []
    for name, rule, columns, most in (
        ("drift", settings.drift, [column for column in found if column != "label"], 1),
        ("class_drift", settings.class_drift, ["label"], _SHOWN_GROWN_CLASSES),
    ):
        if rule is not None and columns:
            table = pd.DataFrame({"column": columns, name: [found[column] for column in columns]})
            [result] = _validate(name, table, "column", {name: rule})
            growth = chain.from_iterable(grown(images, baseline, column, most=most) for column in result.examples)
            results.append(replace(result, shown=[Shown(one.title, _sample(images, one.rows)) for one in growth]))
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
    broken = _broken_rows(answer)
    values = table[column]
    if key is None:
        value, examples = _figure(values.iloc[0]), []
    else:
        spread = f"{_figure(values.min())} to {_figure(values.max())}" if len(values) else "no rows"
        value = f"{spread}; {len(broken)} of {len(values)} outside"
        examples = [str(table[key].iloc[row]) for row in broken[:_SHOWN_EXAMPLES]]
    passed = bool(answer.success) and (key is None or len(values) > 0)
    return RuleResult(column, rule.level, passed, value, _limit(rule), examples, len(broken))


def _figure(value: float) -> str:
    """Four digits; a whole number, and the whole part of a large one, in full."""
    needs_no_decimals = math.isfinite(value) and (value == math.floor(value) or abs(value) >= 1000)
    return f"{value:.0f}" if needs_no_decimals else f"{value:.4g}"


def _broken_rows(answer: Any) -> list[int]:
    return list(answer.result.get("unexpected_index_list") or [])


def _limit(rule: Rule) -> str:
    sides = []
    if rule.at_least is not None:
        sides.append(f"at least {rule.at_least:g}")
    if rule.at_most is not None:
        sides.append(f"at most {rule.at_most:g}")
    return _of_share(" and ".join(sides), rule)


def _of_share(limit: str, demand: Demand) -> str:
    return limit if demand.share == 1 else f"{limit}, for {100 * demand.share:g}% of them"
