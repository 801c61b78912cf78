"""Models beside each other on the same images."""

from dataclasses import replace

import numpy as np
import pytest
from judged import leaning

from components.errors import DataError, SettingsError
from components.evaluation.comparison import compare_models, ensemble, holm
from components.evaluation.metrics import score
from components.evaluation.predictions import Predictions
from components.labels import AnswerRule, LabelSpace


def test_a_better_model_is_told_from_one_that_only_differs() -> None:
    models = {
        "old": leaning(400, 5, lean=1.5),
        "equal": leaning(400, 5, lean=1.5, seed=1),
        "good": leaning(400, 5, lean=3),
    }
    found = compare_models(models, reference="old", num_draws=300)
    assert [one.name for one in found.candidates] == ["good", "equal"]
    good, equal = found.candidates
    assert good.difference == pytest.approx(models["good"].correct_N.mean() - models["old"].correct_N.mean())
    assert good.interval[0] > 0
    assert good.p_corrected < 0.001
    assert good.p_mcnemar < 0.001
    assert equal.interval[0] < 0 < equal.interval[1]
    assert equal.p_corrected > 0.05


def test_the_same_images_are_drawn_for_both_so_a_model_never_differs_from_itself() -> None:
    model = leaning(100, 3, lean=1)
    found = compare_models({"a": model, "b": replace(model)}, reference="a", metric="log_loss", num_draws=100)
    assert found.candidates[0].interval == (0, 0)
    assert found.candidates[0].p_corrected == 1


def test_of_a_loss_the_lowest_is_the_best() -> None:
    models = {f"lean {lean}": leaning(200, 4, lean=lean) for lean in (1, 2, 3)}
    found = compare_models(models, reference="lean 2", metric="log_loss", num_draws=50)
    assert [one.name for one in found.candidates] == ["lean 3", "lean 1"]


def test_holm_multiplies_by_what_is_left_and_never_falls() -> None:
    assert holm(np.array([0.01, 0.04, 0.03, 0.9])) == pytest.approx([0.04, 0.09, 0.09, 0.9])
    assert holm(np.array([0.6, 0.6])).tolist() == [1, 1]


def test_other_images_an_unknown_model_and_an_unknown_score_are_refused() -> None:
    models = {"a": leaning(30, 3, lean=1), "b": leaning(31, 3, lean=1)}
    with pytest.raises(DataError, match="b and a were not asked the same images"):
        compare_models(models, reference="a")
    with pytest.raises(SettingsError, match="no model is called aa; did you mean a"):
        compare_models(models, reference="aa")
    with pytest.raises(SettingsError, match="acuracy is no score; did you mean accuracy"):
        compare_models({"a": models["a"]}, reference="a", metric="acuracy")
    with pytest.raises(DataError, match="ensemble were not asked the same"):
        ensemble(list(models.values()))


def test_an_ensemble_has_the_mean_probability_of_its_members() -> None:
    members = [leaning(300, 6, lean=1.2, seed=seed) for seed in range(5)]
    together = ensemble(members)
    mean_NK = np.mean([one.probabilities_NK for one in members], axis=0)
    assert together.probabilities_NK == pytest.approx(mean_NK, abs=1e-5)
    accuracies = [score(one, top_k=2).accuracy for one in members]
    assert score(together, top_k=2).accuracy > max(accuracies)


@pytest.mark.parametrize("kind", ["multi", "hierarchy"])
def test_ensembles_of_sets_and_of_trees(kind: str) -> None:
    random = np.random.default_rng(3)
    if kind == "multi":
        space, target = LabelSpace(kind="multi", classes=list("abcd")), random.random((50, 4)) < 0.5
    else:
        space = LabelSpace.of("hierarchy", [("x", "a"), ("x", "b"), ("y", "c")], ["coarse", "fine"])
        target = random.integers(0, 3, 50)
    members = [
        Predictions(
            [f"{n}" for n in range(50)],
            [f"{n}" for n in range(50)],
            target,
            random.normal(size=(50, space.num_logits)).astype(np.float32),
            space,
            AnswerRule(temperature=1.0 + number),
        )
        for number in range(2)
    ]
    together = ensemble(members)
    if kind == "multi":
        mean_NK = np.mean([one.probabilities_NK for one in members], axis=0)
        assert together.probabilities_NK == pytest.approx(mean_NK, abs=1e-5)
    else:
        scaled = [one.logits_NT[:, :2] / one.answers.temperature for one in members]
        coarse = [np.exp(one) / np.exp(one).sum(axis=1, keepdims=True) for one in scaled]
        assert np.exp(together.logits_NT[:, :2]) == pytest.approx(np.mean(coarse, axis=0), abs=1e-5)
