"""Scores of parts of the test images, the worst first."""

import json

import numpy as np
import pyarrow as pa
import pytest
import sklearn.metrics as reference
from scored_predictions import single_label_predictions

from components.evaluation.bootstrap import resamples
from components.evaluation.predictions import Predictions
from components.evaluation.slices import slice_scores
from components.task.hierarchy import Hierarchy
from components.task.multi_label import MultiLabel


@pytest.fixture(scope="module")
def dark_is_hard() -> tuple[Predictions, pa.Table]:
    """200 images; the dark half is right by chance, the bright half always. A table in another order."""
    random = np.random.default_rng(1)
    target_N = random.integers(0, 4, 200)
    brightness_N = random.permutation(np.linspace(0, 1, 200))
    guess_N = np.where(brightness_N < 0.5, random.integers(0, 4, 200), target_N)
    scored = single_label_predictions(target_N, 3.0 * np.eye(4)[guess_N])
    table = pa.table(
        {
            "path": scored.path_N,
            "sha256": scored.sha256_N,
            "brightness": brightness_N,
            "width_px": [32] * 200,
            "height_px": np.where(np.arange(200) < 100, 8, 32),
            "group": np.where(np.arange(200) % 2 == 0, "left", "right"),
            "rare": np.where(np.arange(200) < 5, "yes", "no"),
            "labels": [["x"]] * 200,
            "constant": ["same"] * 200,
        }
    )
    return scored, table.take(pa.array(random.permutation(200)))


def test_the_worst_slice_stands_first_with_its_scores(dark_is_hard: tuple[Predictions, pa.Table]) -> None:
    scored, table = dark_is_hard
    found = slice_scores(scored, table)
    assert {found[0].column, found[1].column} == {"brightness"}
    brightness_of = dict(zip(table["path"].to_pylist(), table["brightness"].to_pylist(), strict=True))
    low, high = map(float, found[0].value.split(" to "))
    rows = [row for row, path in enumerate(scored.path_N) if low - 1e-4 <= brightness_of[path] <= high + 1e-4]
    assert found[0].images == pytest.approx(50, abs=1)
    assert found[0].accuracy == pytest.approx(scored.correct_N[rows].mean(), abs=0.02)
    assert found[0].interval[0] < found[0].accuracy < found[0].interval[1]
    assert found[0].p_corrected < 0.01
    assert [one.accuracy for one in found] == sorted(one.accuracy for one in found)


def test_macro_f1_is_over_the_classes_of_the_slice(dark_is_hard: tuple[Predictions, pa.Table]) -> None:
    scored, table = dark_is_hard
    left = next(one for one in slice_scores(scored, table) if one.value == "left")
    rows = np.arange(0, 200, 2)
    expected = reference.f1_score(scored.target[rows], scored.predicted[rows], average="macro")
    assert (left.images, left.macro_f1) == (100, pytest.approx(expected))


def test_macro_f1_of_every_slice_has_the_interval_of_macro_f1_computed_again_in_each_resample(
    dark_is_hard: tuple[Predictions, pa.Table],
) -> None:
    scored, table = dark_is_hard
    found = {(one.column, one.value): one for one in slice_scores(scored, table, num_resamples=40, seed=3)}
    rows = np.arange(0, 200, 2)
    macro_f1s = []
    for weight_N in np.concatenate(list(resamples(200, count=40, seed=3))):
        chosen = np.repeat(rows, weight_N[rows].astype(int))
        macro_f1s.append(reference.f1_score(scored.target[chosen], scored.predicted[chosen], average="macro"))
    expected = np.percentile(macro_f1s, [2.5, 97.5])
    assert found["group", "left"].macro_f1_interval == pytest.approx(expected, abs=1e-6)
    for one in found.values():
        assert one.macro_f1_interval is not None
        assert one.macro_f1_interval[0] <= one.macro_f1_interval[1]
    assert all(one.macro_f1_interval is None for one in slice_scores(scored, table))


def test_macro_f1_of_slices_of_sets_is_that_of_scikit_learn() -> None:
    random = np.random.default_rng(5)
    target, said = random.random((120, 4)) < 0.4, random.random((120, 4)) < 0.4
    target[:30] = False
    task = MultiLabel.of([["a"], ["b"], ["c"], ["d"]])
    names = [f"{number}" for number in range(120)]
    scored = Predictions(names, names, target, np.where(said, 3, -3).astype(np.float32), task)
    table = pa.table({"path": names, "quarter": [f"{number // 30}" for number in range(120)]})
    found = {one.value: one for one in slice_scores(scored, table, num_resamples=10) if one.column == "quarter"}
    for quarter in (1, 2, 3):
        rows = slice(30 * quarter, 30 * quarter + 30)
        expected = reference.f1_score(target[rows], said[rows], average="macro")
        assert found[f"{quarter}"].macro_f1 == pytest.approx(expected)
    assert np.isnan(found["0"].macro_f1), "none of its images has a label"


def test_every_type_of_column_is_sliced_and_small_slices_are_left_out(
    dark_is_hard: tuple[Predictions, pa.Table],
) -> None:
    found = slice_scores(*dark_is_hard)
    assert {one.column for one in found} == {"class", "brightness", "size_px", "group", "rare"}
    assert {one.value for one in found if one.column == "size_px"} == {"16.0", "32.0"}
    assert {one.value for one in found if one.column == "rare"} == {"no"}
    assert {one.value for one in slice_scores(*dark_is_hard, min_images=5) if one.column == "rare"} == {"no", "yes"}


def test_further_columns_of_the_users_table_are_sliced_by_category_and_by_number(
    dark_is_hard: tuple[Predictions, pa.Table],
) -> None:
    scored, _ = dark_is_hard
    said = [
        None
        if number == 0
        else json.dumps({"camera": "phone" if number % 2 else "lab", "year": str(2000 + number % 3)})
        for number in range(200)
    ]
    exposure = [json.dumps({"exposure": str(number / 10), "brightness": "dull"}) for number in range(200)]
    columns = {"path": scored.path_N, "brightness": [0.5] * 200}
    found = slice_scores(scored, pa.table(columns | {"further": said}))
    assert {(one.column, one.value): one.images for one in found if one.column != "class"} == {
        ("camera", "phone"): 100,
        ("camera", "lab"): 99,
        ("year", "2000"): 66,
        ("year", "2001"): 67,
        ("year", "2002"): 66,
    }
    found = slice_scores(scored, pa.table(columns | {"further": exposure}))
    assert {one.value for one in found if one.column == "exposure"} >= {"0 to 4.975"}
    assert len([one for one in found if one.column == "exposure"]) == 4


def test_chance_alone_is_not_called_worse() -> None:
    random = np.random.default_rng(2)
    target_N = random.integers(0, 3, 600)
    guess_N = np.where(random.random(600) < 0.8, target_N, (target_N + 1) % 3)
    scored = single_label_predictions(target_N, 3.0 * np.eye(3)[guess_N])
    table = pa.table({"path": scored.path_N, **{f"noise{n}": random.random(600) for n in range(10)}})
    found = slice_scores(scored, table)
    assert len(found) == 43
    assert min(one.p_corrected for one in found) > 0.05


def test_images_that_the_table_lacks_are_in_no_slice_of_a_column() -> None:
    scored = single_label_predictions(np.zeros(60, int), np.tile([1.0, 0.0], (60, 1)))
    table = pa.table({"path": scored.path_N[:50], "group": ["a"] * 25 + ["b"] * 25})
    assert [(one.value, one.images) for one in slice_scores(scored, table)] == [("a", 25), ("b", 25)]


def test_times_are_sliced_in_stretches_named_by_their_days() -> None:
    scored = single_label_predictions(np.zeros(80, int), np.tile([1.0, 0.0], (80, 1)))
    days = [f"2026-01-{1 + number // 4:02d}T12:00:00+02:00" for number in range(80)]
    table = pa.table({"path": scored.path_N, "timestamp": [*days[:-1], None]})
    found = {one.value: one.images for one in slice_scores(scored, table, min_images=10)}
    assert len(found) == 4
    assert "2026-01-01 to 2026-01-05" in found
    assert sum(found.values()) == 79, "an unknown time is in no stretch"
    no_times = pa.table({"path": scored.path_N, "timestamp": pa.nulls(80, pa.string())})
    assert slice_scores(scored, no_times) == []


def test_a_hierarchy_is_sliced_at_its_coarser_levels_too() -> None:
    leaves = [("plant", "tree"), ("plant", "moss"), ("beast", "cat")]
    task = Hierarchy.of(leaves, ["kingdom", "kind"])
    target_N = np.arange(90) % 3
    scored = Predictions(
        path_N=[f"{number}.png" for number in range(90)],
        sha256_N=[f"{number:064x}" for number in range(90)],
        target=target_N,
        logits_NT=np.zeros((90, task.num_logits), np.float32),
        task=task,
    )
    found = {(one.column, one.value): one.images for one in slice_scores(scored, pa.table({"path": scored.path_N}))}
    assert found[("kingdom", "plant")] == 60
    assert found[("kingdom", "beast")] == found[("class", "plant/tree")] == 30
