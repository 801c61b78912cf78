"""All scores of 100,000 predictions over 1,000 classes, beside scikit-learn's own functions for the same scores.

    python benchmarks/evaluation.py [--images 100000] [--classes 1000] [--rounds 5] [--resamples 1000]

Both sides get the same logits. The peer computes what scikit-learn has a function for: accuracy, balanced accuracy,
macro, micro and weighted precision, recall and F1, top-k, log loss, Brier score, confusion matrix, ROC AUC and average
precision of each class and as means, each by one call on the whole matrix. Ours asks the same functions in forms that
cost less (docs/evaluation.md), and has the calibration error, the confused pairs and the standard error of each class's
ranks besides. The values are compared first; the bootstrap is timed alone, for the peer has none. scikit-learn needs
minutes a round at full size. Both sides get the threads of OMP_NUM_THREADS and the cores that the process may use: with
OMP_NUM_THREADS=1 under `taskset -c 0` both have one, and the CPU columns are theirs alone.
"""

import argparse
import resource
import time

import numpy as np
import sklearn.metrics as peer
import torch
from side_by_side import compare, machine, refuse_busy_machine, table

from components.evaluation.metrics import score
from components.evaluation.predictions import Predictions
from components.task.single_label import SingleLabel

TOP_K = 5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=100_000)
    parser.add_argument("--classes", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--resamples", type=int, default=1000)
    flags = parser.parse_args()
    refuse_busy_machine()
    print(machine("numpy", "scikit-learn", "torch", "torchmetrics"))
    print(f"{torch.get_num_threads()} threads of torch, {flags.rounds} rounds")
    scored = predictions(flags.images, flags.classes)
    ours, theirs = score(scored, top_k=TOP_K).values, by_scikit_learn(scored)
    worst = max(abs(ours[name] - value) for name, value in theirs.items())
    print(f"{len(theirs)} scores that both have differ by at most {worst:.1e} (accuracy {ours['accuracy']:.4f})")
    if worst > 1e-6:
        raise SystemExit("the values differ by more than 1e-6")
    sides = {"darkroom": lambda: score(scored, top_k=TOP_K), "scikit-learn": lambda: by_scikit_learn(scored)}
    # Both were run above.
    timings = compare(sides, rounds=flags.rounds, warm=False)
    print(table(timings, per_round=flags.images, unit="predictions/s", peer="scikit-learn"))
    began, cpu = time.perf_counter(), time.process_time()
    score(scored, top_k=TOP_K, num_resamples=flags.resamples)
    wall_s, cpu_s = time.perf_counter() - began, time.process_time() - cpu
    print(f"with {flags.resamples} bootstrap resamples: {wall_s:.1f} s, {cpu_s:.1f} s CPU")
    print(f"largest memory of the process, scikit-learn's included: {_peak_gb():.2f} GB")


def predictions(images: int, classes: int) -> Predictions:
    """Answers of which some 40% are right; their logits are distinct, so that ties are left to the tests."""
    random = np.random.default_rng(0)
    target_N = random.integers(0, classes, images)
    logits_NK = random.standard_normal((images, classes), np.float32)
    logits_NK[np.arange(images), target_N] += 3
    names = [f"{number}" for number in range(images)]
    task = SingleLabel(classes=[f"class {number:04d}" for number in range(classes)])
    return Predictions(names, names, target_N, logits_NK, task)


def by_scikit_learn(scored: Predictions) -> dict[str, float]:
    """The same scores by scikit-learn's functions, from the same logits."""
    probability_NK = scored.task.probabilities(scored.logits_NT).astype(np.float64)
    probability_NK /= probability_NK.sum(axis=1, keepdims=True)
    target_N, pred_N = scored.target, scored.logits_NT.argmax(axis=1)
    labels = np.arange(len(scored.classes))
    found = {
        "accuracy": peer.accuracy_score(target_N, pred_N),
        "balanced_accuracy": peer.balanced_accuracy_score(target_N, pred_N),
        "log_loss": peer.log_loss(target_N, probability_NK, labels=labels),
        "brier": peer.brier_score_loss(target_N, probability_NK, labels=labels),
        "top_k_accuracy": peer.top_k_accuracy_score(target_N, probability_NK, k=TOP_K, labels=labels),
    }
    for mean in ("macro", "micro", "weighted"):
        three = peer.precision_recall_fscore_support(target_N, pred_N, labels=labels, average=mean, zero_division=0)
        found |= {f"{mean}_{name}": value for name, value in zip(("precision", "recall", "f1"), three, strict=False)}
    peer.precision_recall_fscore_support(target_N, pred_N, labels=labels, zero_division=0)
    peer.confusion_matrix(target_N, pred_N, labels=labels)
    same_NK = target_N[:, None] == labels
    count_K = np.bincount(target_N, minlength=len(labels))
    for name, function in (("roc_auc", peer.roc_auc_score), ("average_precision", peer.average_precision_score)):
        value_K = function(same_NK, probability_NK, average=None)
        found |= {f"macro_{name}": value_K.mean(), f"weighted_{name}": value_K @ count_K / count_K.sum()}
        found[f"micro_{name}"] = function(same_NK, probability_NK, average="micro")
    return {name: float(value) for name, value in found.items()}


def _peak_gb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9


if __name__ == "__main__":
    main()
