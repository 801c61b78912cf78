"""Description of a registered model in Markdown: what it is, which version serves, and why."""

from collections.abc import Sequence

from components.promotion.ledger import Entry, champions
from components.promotion.registration import LEDGER_SUFFIX
from components.reporting.markdown import plain

_MOST_CHARACTERS = 1000
"""Limit for the classes and for the reasons: a description has a limited length."""

KEPT = "*Darkroom keeps this text up to date.*"
"""Its last line; a description without it was written by a person and stays."""


def model_page(name: str, entries: Sequence[Entry]) -> str:
    """`entries` are those of the ledger that stand."""
    serving = next(reversed(champions(entries)), None)
    about = next((entry for entry in reversed(entries) if entry.version == serving and "classes" in entry.record), None)
    return "\n\n".join(
        (
            f"An image classifier{_classes(about)}. Each version is an ONNX file, packaged as a `pyfunc` model: "
            "image files (base64) in, labels and probabilities out.",
            _champion(serving, entries),
            f"Every decision is recorded in {plain(name + LEDGER_SUFFIX)}; `darkroom models` lists them.",
            KEPT,
        )
    )


def _classes(entry: Entry | None) -> str:
    if entry is None:
        return ""
    named, number = entry.record["classes"], entry.record["num_classes"]
    more = f" and {number - len(named)} more" if number > len(named) else ""
    return f" of {number} classes ({plain(', '.join(named)[:_MOST_CHARACTERS])}{more})"


def _champion(serving: str | None, entries: Sequence[Entry]) -> str:
    """By the decision that it serves by."""
    if serving is None:
        return "**No version serves**: none was promoted, or the promoted one was deleted."
    came = [entry for entry in entries if entry.champion == serving and entry.action in ("promoted", "rolled back")][-1]
    how = "promoted" if came.action == "promoted" else f"restored by a rollback from version {came.record.get('from')}"
    reasons = plain("; ".join(came.reasons)[:_MOST_CHARACTERS])
    return f"**Version {serving} serves** (`@champion`): {how} by {plain(came.who)} on {came.moment}: {reasons}."
