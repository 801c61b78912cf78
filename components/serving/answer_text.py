"""What an answer is worth, in words: for the upload page, and for whoever asks the server about its model."""

from components.serving.onnx_classifier import ModelCard
from components.shared.plural import Sentence

UNLIKE = "unlike the photos it learned from"


def promise(card: ModelCard) -> Sentence | None:
    """How often the prediction sets hold the truth; None where the model makes none."""
    coverage = card.decision_rule.coverage
    if coverage is None:
        return None
    what = (
        "the right class is among those that it names"
        if card.labels.exclusive
        else "a label is decided rightly or left open"
    )
    return f"For photos like those it learned from, {what} {100 * coverage:.4g}% of the time."


def warning(card: ModelCard) -> Sentence | None:
    """What it means that an image is flagged as out-of-distribution; None where none is."""
    rule = card.decision_rule
    if rule.ood_threshold is None or rule.ood_keep is None:
        return None
    return (
        f"This image is {UNLIKE}, and probably shows none of its classes: {100 * rule.ood_keep:.4g}% of photos like "
        f"those have an OOD score below {rule.ood_threshold:.2f}."
    )
