"""Fits the rule by which a model's logits become predictions, on the validation split.

Letters: N images, K classes.
"""

from components.evaluation.calibration import fit_temperature
from components.evaluation.ood import fit_ood_threshold
from components.evaluation.predictions import Predictions
from components.task.task import DecisionRule


def fit_decision_rule(validation: Predictions) -> DecisionRule:
    """The temperature with the least log loss, the OOD score that 95% of the images stay below, and in multi-label
    tasks the threshold of each label with the highest F1 at that temperature."""
    logits_NT, task = validation.logits_NT, validation.task
    rule = DecisionRule(
        temperature=fit_temperature(logits_NT, validation.target, task),
        ood_threshold=fit_ood_threshold(logits_NT, task),
    )
    probability_NK = task.probabilities(logits_NT, temperature=rule.temperature)
    return rule.model_copy(update={"thresholds": task.best_thresholds(probability_NK, validation.target)})
