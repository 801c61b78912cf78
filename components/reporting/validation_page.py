"""The page on the data's validation: each rule with its outcome, and the images that broke it.

One HTML file that loads nothing from outside. Paths, labels and reasons are untrusted: all of them are escaped, and a
content policy forbids scripts and requests.
"""

from collections.abc import Mapping
from typing import Any

from components.data.quality.rules import meaning
from components.reporting.page_template import render_template

_MOST_QUARANTINED, _MOST_CLASSES_OPEN = 200, 30
_OUTCOMES = ("stops", "warns", "passes")
_SIGNS = {"stops": "✕", "warns": "!", "passes": "✓"}


def validation_page(record: Mapping[str, Any], pictures: Mapping[str, str]) -> str:
    """The HTML; `record` is the content of validation.json, `pictures` has a data: URI for each path to show."""
    rules = [result | {"outcome": _outcome(result), "meaning": meaning(result["rule"])} for result in record["results"]]
    suspects = record.get("suspected_label_errors", [])
    return render_template(
        "validation.html.j2",
        record=record,
        pictures=pictures,
        rules=sorted(rules, key=lambda rule: _OUTCOMES.index(rule["outcome"])),
        signs=_SIGNS,
        broken=[rule for rule in rules if not rule["passed"] and rule["examples"]],
        classes=sorted(record["images_per_class"].items(), key=lambda one: (-one[1], one[0])),
        largest_class=max(record["images_per_class"].values(), default=0),
        most_classes_open=_MOST_CLASSES_OPEN,
        suspects=suspects,
        num_suspected=record.get("num_suspected", 0),
        skipped_classes=record.get("classes_not_searched", []),
        corrected=record.get("corrected_labels", []),
        quarantined=record["quarantined"][:_MOST_QUARANTINED],
    )


def _outcome(result: Mapping[str, Any]) -> str:
    return "passes" if result["passed"] else "warns" if result["level"] == "warn" else "stops"
