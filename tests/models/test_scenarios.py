"""Advice holds what its scenario promises, by what the architectures cost."""

import pytest

from components.models.costs import costs
from components.models.scenarios import advise, resolve_scenario
from components.shared.errors import SettingsError


def macs(scenario: str, side: int, *, weights: bool) -> int:
    name = advise(scenario, image_size_px=side, with_weights=weights).architecture
    return costs(name, image_size_px=side).macs


@pytest.mark.parametrize("weights", [True, False])
def test_a_phone_computes_less_than_a_board_and_a_board_less_than_a_server(weights: bool) -> None:
    found = [macs(name, 64, weights=weights) for name in ("mobile", "edge", "server", "max_accuracy")]
    assert found == sorted(set(found))


def test_the_reason_says_what_it_costs_here() -> None:
    advice = advise("real_time", image_size_px=32, with_weights=False)
    assert advice.architecture == "plain"
    assert "million parameters" in advice.reason
    assert "million multiply-adds an image of 32 px" in advice.reason


def test_what_can_not_be_advised_is_refused() -> None:
    with pytest.raises(SettingsError, match="transfer needs weights to start from"):
        advise("transfer", image_size_px=64, with_weights=False)
    with pytest.raises(SettingsError, match=r"scenario moble: unknown; did you mean mobile\?"):
        advise("moble", image_size_px=64, with_weights=True)


def test_a_scenario_chooses_by_the_size_of_the_images_and_by_weights() -> None:
    section = {"architecture": None, "scenario": "real_time", "weights": None}
    assert resolve_scenario(section, image_size_px=32) == {**section, "architecture": "plain"}
    assert resolve_scenario(section, image_size_px=64)["architecture"] == "resnet18"
    assert resolve_scenario(section | {"weights": "imagenet"}, image_size_px=32)["architecture"] == "resnet18"
    given = {"architecture": "lenet5", "scenario": None}
    assert resolve_scenario(given, image_size_px=32) == given


@pytest.mark.parametrize(
    ("architecture", "scenario", "sentence"),
    [
        (None, None, "model: neither architecture nor scenario is set; set architecture to a name"),
        (
            "plain",
            "edge",
            r"model: architecture \(plain\) and scenario \(edge\) are both set; set architecture to null",
        ),
        (None, "egde", r"params.yaml: model: scenario egde: unknown; did you mean edge\?"),
        (None, 3, "params.yaml: model: scenario 3: unknown"),
        (None, "transfer", "params.yaml: model: transfer needs weights to start from: set model.weights"),
    ],
)
def test_a_section_that_leaves_the_choice_open_is_refused(architecture: str, scenario: str, sentence: str) -> None:
    with pytest.raises(SettingsError, match=sentence):
        resolve_scenario({"architecture": architecture, "scenario": scenario, "weights": None}, image_size_px=32)
