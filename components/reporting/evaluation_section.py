"""The part of the report on the scores: of the file that would be served, beside those of the torch model.

The records may be of an older release: whatever one of them lacks becomes None, which the page writes as `unknown`.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from components.reporting.analysis_section import AnalysisSection
from components.reporting.inline_pictures import Picture
from components.reporting.record_fields import Record, number_of, whole_of
from components.reporting.score_estimates import Estimate, estimate_of
from components.task.registry import task_type

TABLE_CLASSES = 20
"""Up to so many classes the confusion matrix is a table; above, the picture of it."""
_SHOWN_WEAKEST, _SHOWN_MIX_UPS, _MIX_UPS_BESIDE_TABLE = 15, 10, 5
_SCORES = (
    ("Accuracy", "accuracy"),
    ("Balanced accuracy", "balanced_accuracy"),
    ("Top-{k} accuracy", "top_k_accuracy"),
    ("Subset accuracy", "subset_accuracy"),
    ("Hamming loss", "hamming_loss"),
    ("Macro F1", "macro_f1"),
    ("Macro precision", "macro_precision"),
    ("Macro recall", "macro_recall"),
    ("Micro F1", "micro_f1"),
    ("Weighted F1", "weighted_f1"),
    ("Macro ROC AUC", "macro_roc_auc"),
    ("Micro ROC AUC", "micro_roc_auc"),
    ("Macro average precision", "macro_average_precision"),
    ("Micro average precision", "micro_average_precision"),
    ("Log loss (nats)", "log_loss"),
    ("Brier score", "brier"),
    ("Expected calibration error", "expected_calibration_error"),
    ("Expected calibration error before temperature scaling", "expected_calibration_error_before_scaling"),
)
"""Older releases and other kinds of labels have fewer of them."""
_OF_LEVELS = (("Accuracy", "accuracy"), ("Macro F1", "macro_f1"))


@dataclass(frozen=True)
class ScoreLine:
    name: str
    judged: Estimate
    torch: Estimate | None
    """None where the torch model itself is judged."""


@dataclass(frozen=True)
class ClassLine:
    label: str
    images: int | None
    precision: Estimate
    recall: Estimate
    f1: Estimate
    roc_auc: Estimate
    average_precision: Estimate
    two_by_two: Sequence[int] = ()
    """Images that have the class and were said to, were not said to; that haven't and were, were not."""


@dataclass(frozen=True)
class Confusion:
    labels: Sequence[str]
    counts: Sequence[Sequence[int]]
    """Rows: true classes; columns: predicted ones."""

    def share(self, row: int, column: int) -> float:
        """Of the images of the true class."""
        return self.counts[row][column] / max(1, sum(self.counts[row]))


@dataclass(frozen=True)
class MixUp:
    """How often images of one class were taken for another."""

    true: str
    predicted: str
    images: int
    share: float
    """Of the images of the true class, in [0, 1]."""


@dataclass(frozen=True)
class MemberLine:
    """A member of an ensemble beside it."""

    name: str
    accuracy: Estimate
    macro_f1: Estimate
    difference: Estimate
    """Of its accuracy to that of the ensemble."""
    p_corrected: float | None


@dataclass(frozen=True)
class EvaluationSection:
    judged: str
    """Whose scores these are, such as: the int8 file."""
    images: int | None = None
    scores: Sequence[ScoreLine] = ()
    members: Sequence[MemberLine] = ()
    """Of an ensemble."""
    classes: Sequence[ClassLine] = ()
    of_sets: bool = False
    """Whether an image has a set of labels, so that each label is confused with its own absence."""
    confusion: Confusion | None = None
    confusion_picture: Picture | None = None
    """Where there are too many classes for a table."""
    mix_ups: Sequence[MixUp] = ()
    num_errors: int | None = None
    errors: Sequence[Picture] = ()
    """One picture a mistake."""
    errors_sheet: Picture | None = None
    """All of them on one picture, where the images are out of reach."""
    analysis: AnalysisSection = field(default_factory=AnalysisSection)
    sheets: Sequence[tuple[str, Picture]] = ()
    """Heading and picture: mistakes with their neighbours, what the model looks at."""

    @property
    def weakest(self) -> Sequence[ClassLine]:
        """Of many classes those with the lowest F1."""
        known = [one for one in self.classes if one.f1.value is not None and one.images]
        return sorted(known, key=lambda one: (one.f1.value or 0.0, one.label))[:_SHOWN_WEAKEST]

    @property
    def labels_alone(self) -> Sequence[ClassLine]:
        """Of sets: each label with its two by two, where the record has it."""
        return [one for one in self.classes if one.two_by_two] if self.of_sets else ()


def evaluation_section(
    scores: Record,
    *,
    judged: str = "the torch model",
    torch: Record | None = None,
    confusion_picture: Picture | None = None,
    errors: Sequence[Picture] = (),
    errors_sheet: Picture | None = None,
    analysis: AnalysisSection | None = None,
    sheets: Sequence[tuple[str, Picture]] = (),
    members: Sequence[Record] = (),
) -> EvaluationSection:
    """`scores` is the scores.json of what is judged; `torch` that of the torch model, to stand beside it."""
    labels = [str(one.get("label")) for one in scores.get("classes", [])]
    matrix = scores.get("confusion")
    confusion = Confusion(labels, matrix) if matrix and len(matrix) == len(labels) else None
    table = confusion if confusion and len(labels) <= TABLE_CLASSES else None
    mix_ups = _confused(scores) if "confused" in scores else _mix_ups(confusion) if confusion else []
    return EvaluationSection(
        judged=judged,
        images=whole_of(scores, "images"),
        scores=score_lines(scores, torch),
        members=[_member_line(one) for one in members],
        classes=[_class_line(one) for one in scores.get("classes", [])],
        of_sets=not task_type(scores.get("task", "single_label")).exclusive,
        confusion=table,
        confusion_picture=confusion_picture,
        mix_ups=mix_ups[:_MIX_UPS_BESIDE_TABLE] if table else mix_ups,
        num_errors=_errors(confusion) if confusion else _wrong(scores),
        errors=errors,
        errors_sheet=errors_sheet,
        analysis=analysis or AnalysisSection(),
        sheets=sheets,
    )


def score_lines(scores: Record, torch: Record | None = None) -> list[ScoreLine]:
    """Those that the record holds, with those of its coarser levels."""
    lines = [
        _score_line(name.format(k=scores.get("top_k", "k")), scores, torch, key)
        for name, key in _SCORES
        if key in scores
    ]
    for level, of_level in (scores.get("levels") or {}).items():
        beside = ((torch or {}).get("levels") or {}).get(level, {}) if torch is not None else None
        lines += [
            _score_line(f"{name} at {level}", of_level, beside, key) for name, key in _OF_LEVELS if key in of_level
        ]
    return lines


def _score_line(name: str, scores: Record, torch: Record | None, key: str) -> ScoreLine:
    return ScoreLine(name, estimate_of(scores, key), None if torch is None else estimate_of(torch, key))


def _member_line(member: Record) -> MemberLine:
    return MemberLine(
        name=str(member.get("name")),
        accuracy=estimate_of(member, "accuracy", member.get("accuracy_interval")),
        macro_f1=estimate_of(member, "macro_f1", member.get("macro_f1_interval")),
        difference=estimate_of(member, "difference", member.get("interval")),
        p_corrected=number_of(member, "p_corrected"),
    )


def _class_line(one: Record) -> ClassLine:
    names = ("true_positives", "false_negatives", "false_positives", "true_negatives")
    scores = {key: estimate_of(one, key) for key in ("precision", "recall", "f1", "roc_auc", "average_precision")}
    return ClassLine(
        label=str(one.get("label")),
        images=whole_of(one, "images"),
        two_by_two=[int(one[name]) for name in names] if all(name in one for name in names) else (),
        **scores,
    )


def _confused(scores: Record) -> list[MixUp]:
    pairs = scores["confused"][:_SHOWN_MIX_UPS]
    return [MixUp(str(one["label"]), str(one["said"]), int(one["images"]), float(one["share"])) for one in pairs]


def _mix_ups(confusion: Confusion) -> list[MixUp]:
    found = [
        MixUp(confusion.labels[row], confusion.labels[column], number, confusion.share(row, column))
        for row, line in enumerate(confusion.counts)
        for column, number in enumerate(line)
        if row != column and number
    ]
    return sorted(found, key=lambda one: (-one.images, -one.share))[:_SHOWN_MIX_UPS]


def _errors(confusion: Confusion) -> int:
    right = sum(line[row] for row, line in enumerate(confusion.counts))
    return sum(sum(line) for line in confusion.counts) - right


def _wrong(scores: Record) -> int | None:
    """Images that aren't right, where no matrix tells it."""
    accuracy, images = number_of(scores, "accuracy"), whole_of(scores, "images")
    return None if accuracy is None or images is None else round((1 - accuracy) * images)
