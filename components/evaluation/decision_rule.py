"""Fits the rule by which a model's logits become predictions, on the validation split.

Letters: N images, K classes.
"""

from components.evaluation.calibration import fit_temperature
from components.evaluation.ood import fit_ood_threshold
from components.evaluation.prediction_sets import fit_set_thresholds, least_images
from components.evaluation.predictions import Predictions
from components.evaluation.settings import PredictSettings
from components.shared.plural import counted
from components.task.task import DecisionRule


def fit_decision_rule(validation: Predictions, settings: PredictSettings | None = None) -> DecisionRule:
    """The temperature with the least log loss; at that temperature the thresholds of prediction sets and in multi-label
    tasks the threshold of each label with the highest F1; the OOD score that most images stay below."""
    logits_NT, target, task = validation.logits_NT, validation.target, validation.task
    coverage, keep = (settings or PredictSettings()).coverage, (settings or PredictSettings()).ood_keep
    temperature = fit_temperature(logits_NT, target, task)
    probability_NK = task.probabilities(logits_NT, temperature=temperature)
    return DecisionRule(
        temperature=temperature,
        thresholds=task.best_thresholds(probability_NK, target),
        ood_threshold=None if keep is None else fit_ood_threshold(logits_NT, task, keep=keep),
        ood_keep=keep,
        coverage=coverage,
        set_thresholds=None
        if coverage is None
        else fit_set_thresholds(probability_NK, target, task, coverage=coverage),
    )


def shortcomings(rule: DecisionRule, images: int) -> list[str]:
    """What the rule can't promise because it was fitted on too few images, a sentence each."""
    found = []
    if rule.coverage is not None and images < least_images(rule.coverage):
        found.append(
            f"every prediction set holds all classes, no answer is sure: {counted(images, 'validation image')} can't "
            f"show a coverage of {rule.coverage:g}, for which {least_images(rule.coverage)} are needed; give more "
            "images, or lower predict.coverage"
        )
    if rule.ood_keep is not None and rule.ood_threshold is None:
        found.append(
            f"no image is flagged as out-of-distribution: {counted(images, 'validation image')} can't show which score "
            f"{rule.ood_keep:g} of them stay below, for which {least_images(rule.ood_keep)} are needed; give more "
            "images, or lower predict.ood_keep"
        )
    return found
