"""What scores are called, and which of them are better when larger; light, for settings are checked by it.

A coarser level of a hierarchy has scores of its own, called LEVEL.accuracy and the like.
"""

LARGER_IS_BETTER = (
    "accuracy",
    "balanced_accuracy",
    "subset_accuracy",
    "top_k_accuracy",
    *(
        f"{averaged}_{name}"
        for averaged in ("macro", "micro", "weighted")
        for name in ("precision", "recall", "f1", "roc_auc", "average_precision")
    ),
)
SMALLER_IS_BETTER = (
    "log_loss",
    "brier",
    "expected_calibration_error",
    "expected_calibration_error_before_scaling",
    "hamming_loss",
)
OF_SETS = {
    "coverage": "coverage of the prediction sets",
    "answered": "fraction of sure answers",
    "answered_accuracy": "accuracy of the sure answers",
}
"""Scores of prediction sets, where predict.coverage asks for them, and their titles; larger is better."""
OF_A_CLASS = ("precision", "recall", "f1", "roc_auc", "average_precision")
OF_A_SLICE = ("accuracy", "macro_f1")


def without_level(name: str) -> str:
    """superclass.accuracy is an accuracy."""
    return name.rpartition(".")[2]


def title(name: str) -> str:
    """As a person writes it: macro F1, ROC AUC."""
    if name in OF_SETS:
        return OF_SETS[name]
    words = {"f1": "F1", "roc": "ROC", "auc": "AUC", "brier": "Brier score"}
    return " ".join(words.get(word, word) for word in name.split("_"))
