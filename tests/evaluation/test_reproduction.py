"""What differs between two trainings is found, and what does not differ is said to be the same."""

from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from components.evaluation.reproduction import compare_records, compare_weights


def test_values_that_differ_are_named_by_their_place() -> None:
    then, now = {"train": {"epochs": 3, "seed": 7}}, {"train": {"epochs": 4, "seed": 7}, "new": 1}
    found = [(one.what, one.then, one.now) for one in compare_records("settings", then, now)]
    assert found == [("settings: new", "absent", "1"), ("settings: train.epochs", "3", "4")]
    (same,) = compare_records("settings", then, then)
    assert (same.what, same.same) == ("settings", True)


@pytest.mark.parametrize(
    ("change", "said"),
    [(0.0, "the same bit for bit"), (0.5, "apart by up to 0.5 (in b)"), (np.nan, "apart by up to inf (in b)")],
)
def test_weights_are_equal_bit_for_bit_or_so_far_apart(tmp_path: Path, change: float, said: str) -> None:
    weights = {"a": np.zeros(3, np.float32), "b": np.ones(2, np.float32)}
    save_file(weights, tmp_path / "then.safetensors")
    save_file(weights | {"b": weights["b"] + np.float32(change)}, tmp_path / "now.safetensors")
    found = compare_weights(tmp_path / "then.safetensors", tmp_path / "now.safetensors")
    assert (found.now, found.same) == (said, change == 0.0)


def test_weights_of_another_shape_are_not_the_same(tmp_path: Path) -> None:
    for name, shape in (("then", 3), ("now", 4)):
        save_file({"a": np.zeros(shape, np.float32)}, tmp_path / f"{name}.safetensors")
    assert not compare_weights(tmp_path / "then.safetensors", tmp_path / "now.safetensors").same
