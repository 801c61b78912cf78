"""What a comparison shows: every score beside its interval, on the terminal and in the run's table."""

from dataclasses import asdict, replace

import pytest

from components.records.members import MemberScores
from flows.experiments.compare import ComparisonResult, ComparisonRow, show_comparison
from flows.steps.evaluate import columns_of

_CHOSEN = ComparisonRow(
    "plain", "1", 0.9, (0.8, 0.95), 0.875, (0.77, 0.93), 0.87, (0.76, 0.92), latency_ms=1.5, bytes=2000
)
_OTHER = replace(_CHOSEN, name="resnet18", difference=-0.05, difference_interval=(-0.1, 0.01), p_corrected=0.25)


def test_scores_are_shown_with_their_intervals(capsys: pytest.CaptureFixture[str]) -> None:
    lines = [_CHOSEN, _OTHER, ComparisonRow("lenet5", reason="no memory")]
    show_comparison(ComparisonResult("1", chosen="plain", test_images=40, models=lines, picture="c.png"))
    printed = capsys.readouterr().out
    for cell in ("0.8750 (0.7700 to 0.9300)", "0.9000 (0.8000 to 0.9500)", "-0.0500 (-0.1000 to +0.0100)", "no memory"):
        assert cell in printed


def test_the_table_of_a_run_has_the_ends_of_each_interval() -> None:
    columns = columns_of([asdict(_CHOSEN), asdict(_OTHER)])
    assert columns["accuracy_low"] == [0.77, 0.77]
    assert columns["difference_high"] == [None, 0.01]
    assert not any(name.endswith("interval") for name in columns)


def test_the_table_of_an_ensemble_has_the_ends_of_each_interval() -> None:
    member = MemberScores("a", 0.5, (0.4, 0.6), 0.45, (0.3, 0.55), -0.1, (-0.2, 0.0), 0.3)
    row = columns_of([asdict(member)])
    assert (row["difference_low"], row["difference_high"], row["accuracy_high"]) == ([-0.2], [0.0], [0.6])
