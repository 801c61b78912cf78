"""A latency that swung while it was measured is shown as unreliable."""

from components.reporting.latency_text import latency_text


def test_a_steady_latency_is_shown_with_its_spread_and_an_unsteady_one_with_a_warning() -> None:
    assert latency_text(0.16, 0.18) == "0.16 ms (95% within 0.18)"
    assert latency_text(0.16, 0.31) == "0.16 ms (95% within 0.31, unreliable: the machine was busy)"
    assert (latency_text(0.16, None), latency_text(None, None)) == ("0.16 ms", "unknown")
