"""Report section on the data: counts, quarantine, validation, leakage between splits, augmentation."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from components.data.quality.rules import meaning
from components.data.split.names import SPLITS
from components.records.leak_proof import LeakProof
from components.reporting.inline_pictures import Picture
from components.reporting.leak_proof_section import leak_proof_section
from components.reporting.report_page import ClassCounts, DataSection, Quarantined, RuleLine

_SHOWN_QUARANTINED = 50


def class_counts(labels_and_splits: Iterable[tuple[str, str]]) -> list[ClassCounts]:
    """One line per class, in the order of the labels."""
    counts = Counter(labels_and_splits)
    labels = sorted({label for label, _ in counts})
    return [ClassCounts(label, [counts[label, split] for split in SPLITS]) for label in labels]


def data_section(
    *,
    counts: Sequence[ClassCounts],
    validation: Mapping[str, Any] | None,
    proof: LeakProof | None,
    split_digest: str,
    augment: Mapping[str, Any],
    preview: Picture | None,
    pictures: Mapping[str, Picture] | None = None,
) -> DataSection:
    """`validation` is validation.json; `pictures` by path, of images in leaking pairs."""
    quarantined = validation["quarantined"] if validation else []
    return DataSection(
        splits=SPLITS if counts else (),
        counts=counts,
        rules=[_rule(rule) for rule in validation["results"]] if validation else [],
        quarantined=[Quarantined(one["path"], one["reason"]) for one in quarantined[:_SHOWN_QUARANTINED]],
        num_quarantined=validation["num_quarantined"] if validation else None,
        leak=leak_proof_section(proof, split_digest, pictures) if proof else None,
        preview=preview,
        augmentation=_augmentation(augment) if augment else "",
    )


def _rule(rule: Mapping[str, Any]) -> RuleLine:
    return RuleLine(
        rule=rule["rule"].replace("_", " "),
        value=rule["value"],
        limit=rule["limit"],
        passed=rule["passed"],
        warns=rule["level"] == "warn",
        examples=rule["examples"],
        meaning=meaning(rule["rule"]),
    )


def _augmentation(augment: Mapping[str, Any]) -> str:
    policy, copies = augment["policy"], augment["copies"]
    if policy == "none":
        return "No augmentation: the training images are used unchanged."
    stored = {0: "no augmented copies", 1: "one augmented copy"}.get(copies, f"{copies} augmented copies")
    return f"Policy {policy}, flips: {augment['flips']}, {stored} of each training image stored on disk."
