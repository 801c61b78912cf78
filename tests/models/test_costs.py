"""What is counted without weights is what the papers and a hand count say."""

import pytest

from components.models.costs import costs
from components.shared.errors import SettingsError


@pytest.mark.parametrize(
    ("name", "parameters", "gmacs"),
    [
        # He et al. 2016, table 1, and torchvision's published counts: 1.81 and 0.06 GMAC.
        ("resnet18", 11_689_512, 1.814),
        ("mobilenet_v3_small", 2_542_856, 0.057),
    ],
)
def test_counts_are_the_published_ones(name: str, parameters: int, gmacs: float) -> None:
    found = costs(name, image_size_px=224)
    assert found.parameters == parameters
    # Buffers of batch norms beside the parameters.
    assert 4 * parameters < found.weight_bytes < 4.1 * parameters
    assert found.macs / 1e9 == pytest.approx(gmacs, rel=0.02)
    assert found.latency_ms is None


def test_activations_are_those_that_a_hand_counts() -> None:
    """LeNet-5 at 32 px keeps each layer's input, and of tanh its output too."""
    maps = [3 * 32 * 32, 6 * 28 * 28, 6 * 14 * 14, 16 * 10 * 10, 16 * 5 * 5, 120, 84]
    least, most = 4 * sum(maps), 4 * 3 * sum(maps)
    assert least <= costs("lenet5", image_size_px=32, num_classes=10).activation_bytes <= most


def test_four_times_the_pixels_keep_four_times_the_activations() -> None:
    small, large = (costs("plain", image_size_px=side, num_classes=10).activation_bytes for side in (64, 128))
    assert large / small == pytest.approx(4, rel=0.01)


def test_the_latency_is_measured_where_it_is_asked_for() -> None:
    latency = costs("lenet5", image_size_px=32, latency_runs=5).latency_ms
    assert latency is not None
    assert 0 < latency < 1000


def test_the_first_runs_are_left_out_of_the_latency(monkeypatch: pytest.MonkeyPatch) -> None:
    took = iter([9.0, 9.0, 9.0, 0.25, 0.5, 0.75])
    monkeypatch.setattr("components.models.costs._seconds", lambda _: next(took))
    assert costs("lenet5", image_size_px=32, latency_runs=3).latency_ms == 500


def test_a_size_that_the_network_can_not_take_is_refused() -> None:
    with pytest.raises(SettingsError, match="vgg11 doesn't take images of 16 px"):
        costs("vgg11", image_size_px=16)
