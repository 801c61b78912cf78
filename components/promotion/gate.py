"""Whether the file that would be served may become champion: one verdict from a list of rules with numbers."""

from dataclasses import asdict, dataclass
from typing import Any

from pydantic import Field

from components.evaluation.significance import PairedComparison
from components.settings import Settings


class PromoteSettings(Settings):
    """params.yaml: promote. With neither floor configured nothing is promoted."""

    min_accuracy: float | None = Field(ge=0, le=1)
    """Floor on the served file's accuracy over the test part; null: none."""
    min_macro_f1: float | None = Field(ge=0, le=1)
    """Floor on its macro F1; null: none."""
    max_loss_against_champion: float = Field(ge=0, le=1)
    """Accuracy and macro F1 may be so much lower than the champion's on the same images; larger lets more through."""
    confidence: float = Field(gt=0.5, lt=1)
    """The paired test calls the candidate worse at this confidence; larger asks for more proof of a loss."""


@dataclass(frozen=True)
class ServedScores:
    """Of one file on the test images."""

    accuracy: float
    macro_f1: float


@dataclass(frozen=True)
class Candidate:
    """What the gate knows of the file that would be served."""

    format: str
    """fp32 or int8."""
    sha256: str
    scores: ServedScores
    parity_difference: float
    """Largest logit difference between torch and ONNX fp32."""
    max_parity_difference: float
    pairs_across_parts: dict[str, int]
    """From the leak proof."""
    split_digest: str
    proof_digest: str
    """Digest that the leak proof was made for."""


@dataclass(frozen=True)
class ChampionComparison:
    """The champion on the same images, without those that it was trained on."""

    version: str
    champion: ServedScores
    challenger: ServedScores
    paired: PairedComparison


@dataclass(frozen=True)
class RuleVerdict:
    rule: str
    value: str
    limit: str
    passed: bool


@dataclass(frozen=True)
class Decision:
    promoted: bool
    reasons: list[str]
    """One sentence a rule that was broken, or one that says why the file passed."""
    rules: list[RuleVerdict]

    def as_record(self) -> dict[str, Any]:
        return asdict(self)


def decide(candidate: Candidate, champion: ChampionComparison | None, settings: PromoteSettings) -> Decision:
    rules = [
        *_floors(candidate.scores, settings),
        RuleVerdict(
            "parity of torch and ONNX",
            f"{candidate.parity_difference:.2g}",
            f"at most {candidate.max_parity_difference:g}",
            candidate.parity_difference <= candidate.max_parity_difference,
        ),
        *_leakage(candidate),
        *(_against(champion, settings) if champion is not None else []),
    ]
    broken = [f"{rule.rule}: {rule.value}, should be {rule.limit}" for rule in rules if not rule.passed]
    if settings.min_accuracy is None and settings.min_macro_f1 is None:
        broken.insert(0, "no floor is configured; set promote.min_accuracy or promote.min_macro_f1")
    passed = f"the {candidate.format} file passes all {len(rules)} rules"
    return Decision(promoted=not broken, reasons=broken or [passed], rules=rules)


def _floors(scores: ServedScores, settings: PromoteSettings) -> list[RuleVerdict]:
    floors = (
        ("accuracy", scores.accuracy, settings.min_accuracy),
        ("macro F1", scores.macro_f1, settings.min_macro_f1),
    )
    return [
        RuleVerdict(f"{name} of the served file", f"{value:.4f}", f"at least {floor:g}", value >= floor)
        for name, value, floor in floors
        if floor is not None
    ]


def _leakage(candidate: Candidate) -> list[RuleVerdict]:
    counts = candidate.pairs_across_parts.values()
    found = str(sum(counts)) if counts else "not audited"
    same = candidate.split_digest == candidate.proof_digest
    return [
        RuleVerdict("pairs leaking across parts", found, "0", bool(counts) and not any(counts)),
        RuleVerdict("leak proof is for this split", "yes" if same else "no", "yes", same),
    ]


def _against(comparison: ChampionComparison, settings: PromoteSettings) -> list[RuleVerdict]:
    rules = []
    for name in ("accuracy", "macro_f1"):
        change = getattr(comparison.challenger, name) - getattr(comparison.champion, name)
        rules.append(
            RuleVerdict(
                f"{name.replace('_f1', ' F1')} against champion v{comparison.version}",
                f"{change:+.4f}",
                f"at least {-settings.max_loss_against_champion:+g}",
                # Sums of many 1/N differ in the last bits.
                change >= -settings.max_loss_against_champion - 1e-9,
            )
        )
    paired = comparison.paired
    rules.append(
        RuleVerdict(
            f"paired test against champion v{comparison.version}",
            f"won {paired.only_challenger_right}, lost {paired.only_champion_right} of {paired.images} images, "
            f"p = {paired.p_worse:.3f}",
            f"p above {1 - settings.confidence:g}",
            paired.images > 0 and paired.p_worse > 1 - settings.confidence,
        )
    )
    return rules
