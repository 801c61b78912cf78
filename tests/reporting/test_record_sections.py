"""Sections from the records that runs keep, whole ones and those of another release."""

import math

import pytest
from exports import export_record, exported_file, measured_file

from components.records.export import ExportedFile, Parity, ScoresOnTest
from components.reporting.format_section import format_section
from components.reporting.line_charts import Line, draw_chart
from components.reporting.record_sections import (
    Phase,
    class_counts,
    data_section,
    gate_section,
    lineage_section,
    training_section,
)
from components.reporting.report_page import score_text, size_text
from components.reporting.score_estimates import Estimate


def test_empty_records_give_sections_full_of_unknowns() -> None:
    assert gate_section({}, {}, []).rules == []
    lineage = lineage_section({}, run_id="r", trained_from=None, version=None, sha256=None, served=None)
    values = {fact.name: fact.value for fact in lineage.facts}
    assert values["Git revision"] is None
    assert values["Registered version"] == "not registered yet"
    data = data_section(counts=[], validation=None, proof=None, split_digest="a", augment={}, preview=None)
    assert data.num_quarantined is None
    assert data.leak is None


def test_a_file_made_by_quantization_aware_fine_tuning_says_so() -> None:
    int8 = exported_file(measured_file("u8s8", qat_epochs=1))
    section = format_section(
        export_record({"fp32": exported_file(measured_file()), "int8": int8}, served="fp32"), served="fp32"
    )
    assert [line.name for line in section.lines] == ["fp32", "int8 after 1 epoch of quantization-aware fine-tuning"]


def test_counts_stand_by_class_and_split_in_the_order_of_the_splits() -> None:
    counts = class_counts([("dog", "train"), ("cat", "test"), ("dog", "train"), ("dog", "val")])
    assert [(one.label, list(one.splits)) for one in counts] == [("cat", [0, 0, 1]), ("dog", [2, 1, 0])]


def test_fine_tuning_goes_on_where_training_ended() -> None:
    epochs = [
        {"epoch": 1, "train_loss": 1.0, "val_loss": 1.1},
        {"epoch": 2, "train_loss": 0.5, "val_loss": float("nan")},
    ]
    section = training_section(
        [Phase("training", epochs, 1), Phase("fine-tuning", epochs, None, "fine")], params={}, classes=2
    )
    assert [fact.value for fact in section.facts if fact.name.startswith("Curves")] == ["fine"]
    (loss,) = section.charts
    assert loss.mark is not None
    assert loss.mark.label == "fine-tuning"
    assert [tick.label for tick in loss.x_ticks] == ["1", "2", "3", "4"]
    assert [len(line.dots) for line in loss.lines] == [4, 2]
    assert [line.kept for line in section.epochs] == [True, False, None, None]


def test_a_chart_encloses_its_values_and_never_passes_the_ceiling() -> None:
    chart = draw_chart("scores", [Line("accuracy", [(1, 0.81), (2, 1.0)])], ceiling=1.0)
    assert chart is not None
    assert chart.y_ticks[-1].label == "1"
    places = [y for line in chart.lines for _, y in line.dots]
    assert all(chart.top <= place <= chart.bottom for place in places)


def test_one_equal_value_or_none_at_all_is_no_trouble_for_a_chart() -> None:
    single = draw_chart("loss", [Line("training", [(1, 0.0)])])
    assert single is not None
    assert all(math.isfinite(number) for line in single.lines for dot in line.dots for number in dot)
    assert draw_chart("loss", [Line("training", [(1, math.nan)])]) is None


@pytest.mark.parametrize(
    ("value", "text"), [(None, "unknown"), (float("nan"), "not defined"), (0.98765, "0.9877"), (1, "1.0000")]
)
def test_scores_have_four_decimals(value: float | None, text: str) -> None:
    assert score_text(value) == text


@pytest.mark.parametrize(
    ("value", "text"), [(None, "unknown"), (999, "999 bytes"), (312_413, "312.4 kB"), (5 * 10**6, "5.0 MB")]
)
def test_sizes_are_decimal(value: int | None, text: str) -> None:
    assert size_text(value) == text


def test_a_format_shows_all_that_was_measured_of_it() -> None:
    measured = measured_file("u8s8", size_bytes=10, agreement=0.99)
    test = ScoresOnTest("ab" * 32, {"accuracy": 0.5, "macro_f1": 0.4}, {"accuracy": (0.4, 0.6)})
    int8 = ExportedFile(measured, Parity(8, 0.25, 0.875), test)
    section = format_section(export_record({"int8": int8}, served="int8"), served="int8")
    (line,) = section.lines
    assert (line.chosen, line.agreement, line.images_per_second, line.best_batch) == (True, 0.99, 500.0, 8)
    assert (line.size_bytes, line.sha256) == (10, "ab" * 32)
    assert line.accuracy == Estimate(0.5, 0.4, 0.6)
    assert "87.5% of the predictions are the same" in section.parity[0]
