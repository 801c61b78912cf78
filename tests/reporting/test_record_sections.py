"""Sections of the report from the records of a run."""

import math

import pytest
from epochs import epoch_report
from exports import export_record, exported_file, measured_file

from components.evaluation.paired_test import PairedComparison
from components.promotion.gate import ChampionComparison, RuleVerdict
from components.records.export import ExportedFile, Parity, ScoresOnTest
from components.records.lineage import LineageRecord, Machine
from components.reporting.data_section import class_counts, data_section
from components.reporting.format_section import format_section
from components.reporting.gate_section import gate_section
from components.reporting.line_charts import Line, draw_chart
from components.reporting.lineage_section import lineage_section
from components.reporting.report_page import score_text, size_text
from components.reporting.score_estimates import Estimate
from components.reporting.training_section import Phase, training_section


def test_a_version_that_was_compared_with_no_champion_has_rules_alone() -> None:
    rule = RuleVerdict("accuracy", value="0.9", limit="at least 0.8", passed=True)
    section = gate_section([rule], None, [])
    assert [(line.rule, line.passed) for line in section.rules] == [("accuracy", True)]
    assert (section.champion, list(section.comparison)) == (None, [])


def test_scores_of_the_champion_stand_beside_those_of_the_version() -> None:
    comparison = ChampionComparison(
        version="3",
        images=40,
        taken_out=0,
        test_digest="t",
        challenger={"accuracy": 0.9, "macro_f1": 0.8},
        champion={"accuracy": 0.7, "macro_f1": 0.6},
        intervals={},
        paired=PairedComparison(40, 10, 2, 0.2),
    )
    section = gate_section([], comparison, [])
    assert (section.champion, section.compared_images) == ("3", 40)
    assert [(one.challenger, one.champion) for one in section.comparison] == [(0.9, 0.7), (0.8, 0.6)]


def test_the_lineage_of_an_unregistered_model_says_so() -> None:
    record = LineageRecord(
        git="abc+changes",
        code="c",
        data_version="d",
        raw_manifest="m",
        split_digest="s",
        machine=Machine("Linux", "p"),
        python="3.11",
        packages={"torch": "2.14"},
        params={"train": {"epochs": 3, "swa": {"start": None}}},
    )
    lineage = lineage_section(record, run_id="r", trained_from=None, version=None, sha256=None, served=None)
    facts = {fact.name: (fact.value, fact.note) for fact in lineage.facts}
    assert facts["Git revision"] == ("abc", "with changes that were not committed")
    assert facts["Registered version"] == ("not registered yet", "")
    assert [(fact.name, fact.value) for fact in lineage.params["train"]] == [("epochs", "3"), ("swa.start", "null")]


def test_data_without_validation_and_proof_says_that_they_are_unknown() -> None:
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


def test_fine_tuning_continues_the_curves_of_training() -> None:
    epochs = [epoch_report(1, train_loss=1.0), epoch_report(2, train_loss=0.5, val_loss=float("nan"))]
    section = training_section(
        [Phase("training", epochs, 1), Phase("fine-tuning", epochs, None, "fine")], params={}, classes=2
    )
    assert [fact.value for fact in section.facts if fact.name.startswith("Curves")] == ["fine"]
    loss, scores = section.charts
    assert len(scores.lines) == 2
    assert loss.mark is not None
    assert loss.mark.label == "fine-tuning"
    assert [tick.label for tick in loss.x_ticks] == ["1", "2", "3", "4"]
    assert [len(line.dots) for line in loss.lines] == [4, 2]
    assert [line.chosen for line in section.epochs] == [True, False, None, None]


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
