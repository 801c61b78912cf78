"""Report section on the scores of the served file, beside those of the PyTorch model that it was exported from."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from components.evaluation.metric_names import OF_SETS
from components.records.members import MemberScores
from components.records.scores import ClassScores, ConfusedPair, LevelScores, ScoresRecord
from components.reporting.analysis_section import AnalysisSection
from components.reporting.inline_pictures import Picture
from components.reporting.score_estimates import Estimate, estimate, named_estimate
from components.task.task_types import task_type

TABLE_CLASSES = 20
"""Up to this number of classes the confusion matrix is a table; above it is a picture."""
_SHOWN_WEAKEST, _SHOWN_PAIRS, _PAIRS_BESIDE_TABLE = 15, 10, 5
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
    *((heading.capitalize(), name) for name, heading in OF_SETS.items()),
)
"""Heading and name of each score; which of them exist depends on the task."""
_Scored = ScoresRecord | LevelScores
_LEVEL_SCORES = (("Accuracy", "accuracy"), ("Macro F1", "macro_f1"))
_LEVEL_SETS = tuple((heading.capitalize(), name) for name, heading in OF_SETS.items())


@dataclass(frozen=True)
class ScoreLine:
    name: str
    served: Estimate
    torch: Estimate | None
    """None where the PyTorch model itself is shown."""


@dataclass(frozen=True)
class ClassLine:
    label: str
    images: int
    precision: Estimate
    recall: Estimate
    f1: Estimate
    roc_auc: Estimate
    average_precision: Estimate
    outcomes: Sequence[int]
    """True positives, false negatives, false positives, true negatives."""


@dataclass(frozen=True)
class Confusion:
    labels: Sequence[str]
    counts: Sequence[Sequence[int]]
    """Rows: true classes; columns: predicted ones."""

    def fraction(self, row: int, column: int) -> float:
        """Fraction of the images of the true class."""
        return self.counts[row][column] / max(1, sum(self.counts[row]))


@dataclass(frozen=True)
class MemberLine:
    """A member of an ensemble compared with the ensemble."""

    name: str
    accuracy: Estimate
    macro_f1: Estimate
    difference: Estimate
    """Its accuracy minus that of the ensemble."""
    p_corrected: float


@dataclass(frozen=True)
class EvaluationSection:
    model: str
    """Whose scores these are, such as: the int8 file."""
    images: int = 0
    scores: Sequence[ScoreLine] = ()
    members: Sequence[MemberLine] = ()
    """Members of an ensemble."""
    classes: Sequence[ClassLine] = ()
    multi_label: bool = False
    """Whether an image has several labels, so that each label has a confusion of its own."""
    confusion: Confusion | None = None
    confusion_picture: Picture | None = None
    """Where there are too many classes for a table."""
    confused: Sequence[ConfusedPair] = ()
    num_errors: int = 0
    errors: Sequence[Picture] = ()
    """One picture per error."""
    errors_grid: Picture | None = None
    """All errors in one picture, where the raw data no longer holds the images."""
    analysis: AnalysisSection = field(default_factory=AnalysisSection)
    grids: Sequence[tuple[str, Picture]] = ()
    """Heading and picture: errors with their nearest training images, heat maps."""

    @property
    def weakest(self) -> Sequence[ClassLine]:
        """The classes with the lowest F1."""
        known = [one for one in self.classes if one.images]
        return sorted(known, key=lambda one: (one.f1.value or 0.0, one.label))[:_SHOWN_WEAKEST]


def evaluation_section(
    scores: ScoresRecord,
    *,
    model: str = "the PyTorch model",
    torch: ScoresRecord | None = None,
    confusion_picture: Picture | None = None,
    errors: Sequence[Picture] = (),
    errors_grid: Picture | None = None,
    analysis: AnalysisSection | None = None,
    grids: Sequence[tuple[str, Picture]] = (),
    members: Sequence[MemberScores] = (),
) -> EvaluationSection:
    """`scores` are those of the model that is shown; `torch` those of the PyTorch model, to compare with."""
    labels = [one.label for one in scores.classes]
    shown_as_table = scores.confusion is not None and len(labels) <= TABLE_CLASSES
    return EvaluationSection(
        model=model,
        images=scores.images,
        scores=score_lines(scores, torch),
        members=[_member_line(one) for one in members],
        classes=[_class_line(one) for one in scores.classes],
        multi_label=not task_type(scores.task).exclusive,
        confusion=Confusion(labels, scores.confusion) if scores.confusion is not None and shown_as_table else None,
        confusion_picture=confusion_picture,
        confused=scores.confused[: _PAIRS_BESIDE_TABLE if shown_as_table else _SHOWN_PAIRS],
        num_errors=round((1 - scores.values["accuracy"]) * scores.images),
        errors=errors,
        errors_grid=errors_grid,
        analysis=analysis or AnalysisSection(),
        grids=grids,
    )


def score_lines(scores: ScoresRecord, torch: ScoresRecord | None = None) -> list[ScoreLine]:
    """Scores of the classes, then those of the levels above them in a hierarchy."""
    lines = [
        _score_line(heading.format(k=scores.top_k), name, scores, torch)
        for heading, name in _SCORES
        if name in scores.values
    ]
    for level, of_level in scores.levels.items():
        of_torch = torch.levels.get(level) if torch is not None else None
        of_sets = [one for one in _LEVEL_SETS if one[1] in of_level.values]
        lines += [
            _score_line(f"{heading} at {level}", name, of_level, of_torch)
            for heading, name in (*_LEVEL_SCORES, *of_sets)
        ]
    return lines


def _score_line(heading: str, name: str, scores: _Scored, torch: _Scored | None) -> ScoreLine:
    return ScoreLine(
        heading,
        named_estimate(name, scores.values, scores.intervals),
        None if torch is None else named_estimate(name, torch.values, torch.intervals),
    )


def _member_line(member: MemberScores) -> MemberLine:
    return MemberLine(
        name=member.name,
        accuracy=estimate(member.accuracy, member.accuracy_interval),
        macro_f1=estimate(member.macro_f1, member.macro_f1_interval),
        difference=estimate(member.difference, member.interval),
        p_corrected=member.p_corrected,
    )


def _class_line(one: ClassScores) -> ClassLine:
    return ClassLine(
        label=one.label,
        images=one.images,
        precision=estimate(one.precision, one.intervals.get("precision")),
        recall=estimate(one.recall, one.intervals.get("recall")),
        f1=estimate(one.f1, one.intervals.get("f1")),
        roc_auc=estimate(one.roc_auc, one.intervals.get("roc_auc")),
        average_precision=estimate(one.average_precision, one.intervals.get("average_precision")),
        outcomes=(one.true_positives, one.false_negatives, one.false_positives, one.true_negatives),
    )
