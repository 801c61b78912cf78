"""The rule by which a model's logits become answers, fitted on the validation split.

Letters: N images, K classes.
"""

from components.evaluation.calibration import fit_temperature
from components.evaluation.ood import fit_ood_threshold
from components.evaluation.predictions import Predictions
from components.task.task import DecisionRule


def fit_answers(validation: Predictions) -> DecisionRule:
    """The temperature with the least log loss, the score that 95% of the images stay below, and of sets of labels the
    threshold of each label that has the highest F1 at that temperature."""
    logits_NT, task = validation.logits_NT, validation.task
    rule = DecisionRule(
        temperature=fit_temperature(logits_NT, validation.target, task),
        ood_threshold=fit_ood_threshold(logits_NT, task),
    )
    probability_NK = task.probabilities(logits_NT, temperature=rule.temperature)
    return rule.model_copy(update={"thresholds": task.best_thresholds(probability_NK, validation.target)})
