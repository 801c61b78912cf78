"""The model card in Markdown: what a version is, how it scores, what the gate decided, where it comes from.

The sections are those of Mitchell et al. 2019, "Model Cards for Model Reporting", as far as they are known.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from components.evaluation.bootstrap import fraction_interval
from components.evaluation.metric_names import LARGER_IS_BETTER, SMALLER_IS_BETTER, title, without_level
from components.export.settings import after_epochs
from components.promotion.gate import RuleVerdict
from components.reporting.latency_text import latency_text
from components.reporting.markdown import code, plain, table

_REGISTRY = "sqlite:///.darkroom/mlflow/mlflow.db"
"""From the project's folder, where no server keeps the models."""


@dataclass(frozen=True)
class CardPicture:
    caption: str
    address: str
    """Where a page finds it: a path beside the card, or an address on the tracking server."""


@dataclass(frozen=True)
class WeakClass:
    label: str
    recall: float
    images: int


@dataclass(frozen=True)
class CorruptedAccuracy:
    """Accuracy of this file under the common corruptions, averaged over all of them and their strengths."""

    images: int
    clean: float
    """Accuracy on the same images, uncorrupted."""
    accuracy: float
    interval: Sequence[float] | None


@dataclass(frozen=True)
class CardContents:
    name: str
    version: str
    format: str
    """fp32 or int8."""
    architecture: str
    classes: Sequence[str]
    """The first of the class names."""
    num_classes: int
    image_size_px: int
    verdict: str
    """promoted, refused, awaiting approval, rolled back."""
    decided: str
    """By whom and when."""
    reasons: Sequence[str]
    rules: Sequence[RuleVerdict]
    top_k: int
    """The k of the top-k accuracy."""
    scores: Mapping[str, float]
    """Scores of the served file on the test split."""
    intervals: Mapping[str, Sequence[float]]
    """95% bootstrap interval of each score; empty without resamples."""
    test_images: int
    weakest: Sequence[WeakClass]
    """Classes with the lowest recall."""
    size_bytes: int | None
    latency_p50_ms: float | None
    """Of one image, in milliseconds."""
    latency_p95_ms: float | None
    processor: str
    lineage: Mapping[str, str]
    """Links from the data to the file, by name."""
    pictures: Sequence[CardPicture]
    corrupted: CorruptedAccuracy | None = None
    """None where it was not measured."""
    qat_epochs: int = 0
    """Epochs of quantization-aware fine-tuning, after which the file differs from the model of its run."""


def model_card(card: CardContents, *, most_characters: int | None = None) -> str:
    """Markdown; where it would be longer than `most_characters`, sections are left out, and a note says so."""
    sections = [
        _head(card),
        _scores(card),
        _gate(card),
        _pictures(card),
        _limits(card),
        _lineage(card),
        _usage(card),
    ]
    whole = "\n".join(section for section in sections if section)
    if most_characters is None or len(whole) <= most_characters:
        return whole
    note = "\nThe complete card is stored with the run, under `card`.\n"
    kept: list[str] = []
    for section in sections:
        if sum(map(len, kept)) + len(kept) + len(section) + len(note) <= most_characters:
            kept.append(section)
    return "\n".join(section for section in kept if section) + note


def _head(card: CardContents) -> str:
    shown = ", ".join(plain(name) for name in card.classes)
    more = f" and {card.num_classes - len(card.classes)} more" if card.num_classes > len(card.classes) else ""
    reasons = "; ".join(plain(reason) for reason in card.reasons)
    return (
        f"# {plain(card.name)} version {card.version}\n\n"
        f"**{card.verdict.capitalize()}** ({plain(card.decided)}): {reasons}\n\n"
        f"An image classifier: {plain(card.architecture)}, one {card.format} ONNX file"
        f"{f' of {card.size_bytes:,} bytes' if card.size_bytes is not None else ''}{after_epochs(card.qat_epochs)}. "
        f"It takes an RGB image, resizes it to {card.image_size_px} × {card.image_size_px} pixels and predicts among "
        f"{card.num_classes} classes: {shown}{more}.\n"
    )


def _scores(card: CardContents) -> str:
    rows = [
        (plain(_score_name(name, card.top_k)), f"{value:.4f}", _interval(card.intervals.get(name)))
        for name, value in sorted(card.scores.items(), key=lambda one: _rank(one[0]))
    ]
    return f"## Scores of this file on {card.test_images} test images\n\n" + table(
        ("score", "value", "95% interval"), rows, numbers=(1, 2)
    )


def _rank(score: str) -> tuple[bool, int]:
    """The most important scores first, those of coarser levels last."""
    known, name = (*LARGER_IS_BETTER, *SMALLER_IS_BETTER), without_level(score)
    return score != name, known.index(name) if name in known else len(known)


def _score_name(score: str, top_k: int) -> str:
    names = {"top_k_accuracy": f"top-{top_k} accuracy", "log_loss": "log loss (nats)"}
    name = without_level(score)
    return names[name] if score == name and name in names else title(score)


def _gate(card: CardContents) -> str:
    rows = [
        (*(plain(text) for text in (rule.rule, rule.value, rule.limit)), "passed" if rule.passed else "**broken**")
        for rule in card.rules
    ]
    return "## The gate\n\n" + table(("rule", "measured", "limit", "result"), rows)


def _pictures(card: CardContents) -> str:
    if not card.pictures:
        return ""
    lines = [
        f"{plain(picture.caption)}:\n\n![{plain(picture.caption)}]({picture.address})" for picture in card.pictures
    ]
    return "## Pictures\n\n" + "\n\n".join(lines) + "\n"


def _limits(card: CardContents) -> str:
    weakest = [
        f"- {plain(one.label)}: recall {one.recall:.1%} ({_reach(one)}{one.images} test images)" for one in card.weakest
    ]
    latency = (
        f"- One image took {latency_text(card.latency_p50_ms, card.latency_p95_ms)} on {plain(card.processor)}; "
        "another processor differs in speed and, for an int8 file, slightly in its predictions.\n"
        if card.latency_p50_ms is not None
        else ""
    )
    return (
        "## Limits\n\n"
        "- An image that shows none of these classes still gets one of them; `out_of_distribution` may mark it.\n"
        f"{_answers(card.scores)}"
        "- The scores hold for images like the ones it was trained on; other cameras or places may lower them.\n"
        f"{latency}{_corrupted(card)}"
        + ("- Its weakest classes:\n" if weakest else "")
        + "".join(f"  {line}\n" for line in weakest)
    )


def _answers(scores: Mapping[str, float]) -> str:
    """How often it isn't sure, where it makes prediction sets."""
    if "answered" not in scores:
        return ""
    right = f", and {scores['answered_accuracy']:.1%} of those are right" if scores["answered"] else ""
    return (
        f"- {scores['answered']:.1%} of its answers on the test images are sure{right}. Otherwise it says that it "
        "isn't sure, and names what the image may show; "
        f"{scores['coverage']:.1%} of its prediction sets hold the truth.\n"
    )


def _corrupted(card: CardContents) -> str:
    if card.corrupted is None:
        return ""
    found = card.corrupted
    reach = f" (95%: {found.interval[0]:.4f} to {found.interval[1]:.4f})" if found.interval is not None else ""
    return (
        f"- On {found.images} of the test images under corruptions (noise, blur, brightness, contrast, JPEG, pixels, "
        f"at five strengths) its mean accuracy is {found.accuracy:.4f}{reach}; on the original images it is "
        f"{found.clean:.4f}.\n"
    )


def _reach(one: WeakClass) -> str:
    """The 95% interval of its recall."""
    if not one.images:
        return ""
    low, high = fraction_interval(round(one.recall * one.images), one.images)
    return f"95%: {low:.1%} to {high:.1%}; "


def _usage(card: CardContents) -> str:
    address = f"models:/{card.name}/{card.version}"
    return (
        "## How to use it\n\n```\n"
        f'darkroom predict PHOTOS --model "{address}" --out labels.csv\n'
        f'MLFLOW_TRACKING_URI={_REGISTRY} mlflow models serve -m "{address}" --env-manager local\n```\n\n'
        "Run both in the project's folder; if a server stores the models, set `MLFLOW_TRACKING_URI` to its address.\n"
    )


def _lineage(card: CardContents) -> str:
    return "## Lineage\n\n" + table(("link", "value"), [(name, _digest(value)) for name, value in card.lineage.items()])


def _digest(value: str) -> str:
    """As code, unless it is a sentence."""
    return plain(value) if " " in value else code(value)


def _interval(found: Sequence[float] | None) -> str:
    return f"{found[0]:.4f} to {found[1]:.4f}" if found is not None else ""
