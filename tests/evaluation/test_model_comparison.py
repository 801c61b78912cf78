"""Models beside each other on the same images."""

from dataclasses import replace

import numpy as np
import pytest
from scored_predictions import leaning

from components.evaluation.metrics import score
from components.evaluation.model_comparison import beside_members, compare_models, holm
from components.shared.errors import DataError, SettingsError


def test_a_better_model_is_distinguished_from_one_that_only_differs() -> None:
    models = {
        "old": leaning(400, 5, lean=1.5),
        "equal": leaning(400, 5, lean=1.5, seed=1),
        "good": leaning(400, 5, lean=3),
    }
    found = compare_models(models, reference="old", num_resamples=300)
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
    found = compare_models({"a": model, "b": replace(model)}, reference="a", metric="log_loss", num_resamples=100)
    assert found.candidates[0].interval == (0, 0)
    assert found.candidates[0].p_corrected == 1


def test_of_a_loss_the_lowest_is_the_best() -> None:
    models = {f"lean {lean}": leaning(200, 4, lean=lean) for lean in (1, 2, 3)}
    found = compare_models(models, reference="lean 2", metric="log_loss", num_resamples=50)
    assert [one.name for one in found.candidates] == ["lean 3", "lean 1"]


def test_holm_multiplies_by_what_is_left_and_never_falls() -> None:
    assert holm(np.array([0.01, 0.04, 0.03, 0.9])) == pytest.approx([0.04, 0.09, 0.09, 0.9])
    assert holm(np.array([0.6, 0.6])).tolist() == [1, 1]


def test_other_images_an_unknown_model_and_an_unknown_score_are_refused() -> None:
    models = {"a": leaning(30, 3, lean=1), "b": leaning(31, 3, lean=1)}
    with pytest.raises(DataError, match="b and a were not evaluated on the same images and classes"):
        compare_models(models, reference="a")
    with pytest.raises(SettingsError, match="no model is called aa; did you mean a"):
        compare_models(models, reference="aa")
    with pytest.raises(SettingsError, match="acuracy is no score; did you mean accuracy"):
        compare_models({"a": models["a"]}, reference="a", metric="acuracy")
    with pytest.raises(DataError, match="b and the ensemble were not evaluated on the same images and classes"):
        beside_members(models["a"], {"b": models["b"]}, top_k=2, num_resamples=1)


def test_members_stand_beside_their_ensemble_in_the_order_given() -> None:
    ensemble = leaning(400, 5, lean=3)
    members = {"first": leaning(400, 5, lean=1, seed=1), "second": replace(ensemble)}
    first, second = beside_members(ensemble, members, top_k=2, num_resamples=100)
    assert (first.name, second.name) == ("first", "second")
    assert first.accuracy == members["first"].correct_N.mean()
    assert first.difference == pytest.approx(first.accuracy - ensemble.correct_N.mean())
    assert first.interval[1] < 0
    assert first.p_corrected < 0.001
    assert (second.difference, second.p_corrected) == (0, 1)
    assert second.macro_f1 == score(ensemble, top_k=2).macro_f1
