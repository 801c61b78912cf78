"""The page alone: hand-made contents in, HTML out; no run, no server."""

import io
import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest
from epochs import epoch_report
from PIL import Image

from components.records.scores import ConfusedPair
from components.reporting.analysis_section import AnalysisSection, SliceLine
from components.reporting.evaluation_section import ClassLine, Confusion, EvaluationSection, ScoreLine
from components.reporting.inline_pictures import Picture, embedded
from components.reporting.leak_proof_section import LeakingPair, LeakLine, LeakProofSection
from components.reporting.report_page import (
    ClassCounts,
    DataSection,
    DecisionLine,
    Fact,
    FormatLine,
    FormatSection,
    GateSection,
    Headline,
    LineageSection,
    PageContents,
    Quarantined,
    RuleLine,
    TrainingSection,
    render_page,
)
from components.reporting.score_estimates import Estimate
from components.reporting.training_section import Phase, training_section
from components.training.epoch_report import EpochReport

_EVIL = '<script>alert("x")</script>'
_EVIL_ATTRIBUTE = '"onerror="alert(1)'


class Elements(HTMLParser):
    """Every tag with its attributes, and the text, as a browser reads them."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


def picture(alt: str = "a grey square", caption: str = "3, predicted as 8 with 97.0% confidence") -> Picture:
    stream = io.BytesIO()
    Image.new("RGB", (4, 4), "grey").save(stream, "PNG")
    return Picture(embedded(stream.getvalue(), "png"), alt, caption, small=True)


def history(*losses: float) -> list[EpochReport]:
    return [epoch_report(number, train_loss=loss, val_loss=loss) for number, loss in enumerate(losses, start=1)]


OUTCOMES = (1, 1, 0, 2)


@pytest.fixture
def contents() -> PageContents:
    return PageContents(
        headline=Headline(
            name="digits",
            version="3",
            verdict="refused",
            status="Version 2 is @champion.",
            decided="by somebody@somewhere, 2026-01-02 03:04:05 UTC",
            reasons=["macro F1 of the served file: 0.9312, should be at least 0.97"],
            aliases=[],
            served="int8",
            scored="the int8 file",
            accuracy=Estimate(0.9345, 0.9, 0.96),
            macro_f1=Estimate(0.9312),
            test_images=268,
            size_bytes=312_413,
            latency_p50_ms=0.27,
            latency_p95_ms=0.3,
        ),
        written="Written 2026-01-02 03:04 UTC by darkroom 0.1.0",
        others="Other versions: `darkroom report digits/1` writes the page of one.",
        gate=GateSection(
            rules=[
                RuleLine("accuracy of the served file", "0.9345", "at least 0.9", True),
                RuleLine("macro F1 of the served file", "0.9312", "at least 0.97", False),
                RuleLine("logit difference of torch and the fp32 file", None, "at most 0.001", None),
            ],
            decisions=[DecisionLine(4, "2026-01-02 03:04:05 UTC", "somebody@somewhere", "refused", ["too low"])],
        ),
        data=DataSection(
            splits=("train", "val", "test"),
            counts=[ClassCounts("three", (10, 3, 2)), ClassCounts("eight", (1000, 4, 2))],
            rules=[
                RuleLine(
                    "sharpness", "2 to 9; 1 of 1021 outside", "at least 5", False, warns=True, examples=["a/b.png"]
                )
            ],
            quarantined=[Quarantined("three/broken.png", "the file is empty (0 bytes)")],
            num_quarantined=7,
            leak=LeakProofSection(
                [LeakLine("identical files", 5, 0, 3), LeakLine("near duplicates", 9, 2, 4)],
                leaking_as_given=[LeakingPair("identical files", "train/a.png", "test/b.png", [picture(), picture()])],
                same_split=True,
            ),
            preview=picture("a preview grid of augmented images"),
            augmentation="Policy basic.",
        ),
        training=training_section(
            [Phase("training", history(2.0, 1.0), 2), Phase("fine-tuning", history(0.5), None)], params={}, classes=2
        ),
        evaluation=EvaluationSection(
            model="the int8 file",
            images=268,
            scores=[
                ScoreLine("Accuracy", Estimate(0.9345, 0.9012, 0.9578), Estimate(0.94, 0.91, 0.96)),
                ScoreLine("Log loss (nats)", Estimate(1.25, 1.1, 1.4), Estimate(None)),
            ],
            classes=[
                ClassLine("three", 2, *(Estimate(value) for value in (0.5, 1.0, 0.6667, float("nan"), 0.75)), OUTCOMES),
                ClassLine("eight", 2, *(Estimate(value) for value in (1.0, 0.5, 0.6667, None, None)), OUTCOMES),
            ],
            confusion=Confusion(["three", "eight"], [[2, 0], [1, 1]]),
            confused=[ConfusedPair("eight", "three", 1, 0.5)],
            num_errors=1,
            errors=[picture()],
            analysis=AnalysisSection(
                slices=[SliceLine("blur", "0.1 to 0.3", 40, Estimate(0.75, 0.6, 0.85), Estimate(0.7, 0.5, 0.9), 0.01)]
            ),
        ),
        formats=FormatSection(
            [
                FormatLine(
                    "fp32",
                    False,
                    1_207_115,
                    Estimate(0.94),
                    Estimate(0.93),
                    1.0,
                    0.51,
                    0.6,
                    0.7,
                    2512.6,
                    8,
                    61.2,
                    "ab" * 32,
                ),
                FormatLine(
                    *("int8", True, 312_413, Estimate(0.9345, 0.9, 0.96), Estimate(0.9312), 0.99),
                    *(0.27, None, None, None, None, None, "cd" * 32),
                ),
            ],
            reasons=["int8 would be served"],
            picture=picture("bars of each form"),
        ),
        lineage=LineageSection(
            [Fact("Git revision", "0123abcd", "with changes that were not committed"), Fact("Data version", None)],
            packages=[Fact("torch", "2.14.1")],
            params={"train": [Fact("epochs", "8"), Fact("optimizer", "adamw")]},
        ),
    )


def test_the_page_asks_for_nothing_from_outside(contents: PageContents) -> None:
    html = render_page(contents)
    found = Elements(html)
    assert not [tag for tag, _ in found.tags if tag in ("script", "link", "iframe", "object", "embed", "base")]
    addresses = [value for _, attributes in found.tags for name, value in attributes.items() if name in ("src", "href")]
    assert addresses
    assert all(address and address.startswith(("data:image/", "#")) for address in addresses)
    assert "url(" not in html
    assert "@import" not in html
    assert "default-src 'none'" in str(found.all("meta"))


def test_every_link_of_the_page_leads_somewhere(contents: PageContents) -> None:
    found = Elements(render_page(contents))
    places = {attributes.get("id") for _, attributes in found.tags}
    targets = [str(link["href"]).removeprefix("#") for link in found.all("a")]
    assert len(targets) >= 6
    assert set(targets) <= places


def test_every_rule_stands_there_with_value_limit_and_a_verdict_in_words(contents: PageContents) -> None:
    html = render_page(contents)
    assert contents.gate is not None
    gate = html[html.index('id="gate"') : html.index('id="data"')]
    rows = re.findall(r"<tr>(.*?)</tr>", gate, flags=re.S)
    for rule, word in zip(contents.gate.rules, ("passed", "broken", "unknown"), strict=True):
        row = Elements(next(row for row in rows if rule.rule in row)).text
        assert (rule.value or "unknown") in row
        assert str(rule.limit) in row
        assert word in row
    warning = next(row for row in re.findall(r"<tr>(.*?)</tr>", html, flags=re.S) if "sharpness" in row)
    assert "warning" in Elements(warning).text
    assert "a/b.png" in Elements(warning).text


@pytest.mark.parametrize(
    ("verdict", "words"),
    [
        ("promoted", "Promoted"),
        ("refused", "Not promoted"),
        ("rolled-back", "Rolled back"),
        ("undecided", "No decision yet"),
        ("unregistered", "Not registered yet"),
    ],
)
def test_the_verdict_is_said_in_words_with_its_reasons(contents: PageContents, verdict: str, words: str) -> None:
    headline = replace(contents.headline, verdict=verdict)  # type: ignore[arg-type]
    text = Elements(render_page(replace(contents, headline=headline))).text
    assert words in text
    assert "macro F1 of the served file: 0.9312, should be at least 0.97" in text
    assert "Decided by somebody@somewhere, 2026-01-02 03:04:05 UTC" in text
    assert "Other versions: darkroom report digits/1 writes the page of one." in text


@pytest.mark.parametrize(("p95_ms", "unsteady"), [(0.3, False), (0.6, True)])
def test_a_latency_that_swung_is_marked(contents: PageContents, p95_ms: float, unsteady: bool) -> None:
    text = Elements(render_page(replace(contents, headline=replace(contents.headline, latency_p95_ms=p95_ms)))).text
    assert f"95% of images within {p95_ms:.2f} ms" in text
    assert ("unreliable: the machine was busy" in text) == unsteady


def test_names_that_users_gave_are_escaped_wherever_they_stand(contents: PageContents) -> None:
    evil = [_EVIL, _EVIL_ATTRIBUTE]
    assert contents.data is not None
    assert contents.evaluation is not None
    assert contents.gate is not None
    hostile = replace(
        contents,
        headline=replace(contents.headline, name=_EVIL, reasons=[f"`{_EVIL}`"], status=_EVIL),
        gate=replace(contents.gate, rules=[RuleLine(_EVIL, _EVIL, _EVIL, False)]),
        data=replace(
            contents.data,
            counts=[ClassCounts(name, (1, 2, 3)) for name in evil],
            quarantined=[Quarantined(name, name) for name in evil],
            leak=LeakProofSection([], [LeakingPair("identical files", _EVIL, _EVIL_ATTRIBUTE)], same_split=False),
            rules=[RuleLine("side", "1", "2", False, examples=evil)],
        ),
        evaluation=replace(
            contents.evaluation,
            classes=[ClassLine(name, 1, *[Estimate(1.0)] * 5, OUTCOMES) for name in evil],
            confusion=Confusion(evil, [[1, 0], [0, 1]]),
            confused=[ConfusedPair(*evil, 1, 0.5)],
            errors=[picture(_EVIL, _EVIL), picture(_EVIL_ATTRIBUTE, _EVIL_ATTRIBUTE)],
        ),
        lineage=LineageSection([Fact(_EVIL, _EVIL, _EVIL)], params={_EVIL: [Fact(_EVIL, _EVIL)]}),
        problems=[_EVIL],
    )
    html = render_page(hostile)
    found = Elements(html)
    assert not found.all("script")
    assert not [name for _, attributes in found.tags for name in attributes if name.startswith("on")]
    assert html.count("&lt;script&gt;") > 15
    assert _EVIL in found.text
    assert _EVIL_ATTRIBUTE in [image.get("alt") for image in found.all("img")]


def lines_of(section: str) -> list[list[str]]:
    return [re.sub("<[^>]+>", " ", row).split() for row in re.findall("<tr.*?</tr>", section)]


def test_every_format_has_a_line(contents: PageContents) -> None:
    html = render_page(contents)
    section = html[html.index('<section id="formats"') : html.index('<section id="lineage"')]
    (fp32,) = [line for line in lines_of(section) if line[:1] == ["fp32"]]
    expected = "abababababab 1,207,115 0.9400 0.9300 1.0000 0.51 / 0.60 / 0.70 2,513 batch of 8 61"
    assert " ".join(fp32[1:]) == expected
    assert 'alt="bars of each form"' in section


def test_scores_of_the_served_file_have_intervals_and_stand_beside_those_of_pytorch(contents: PageContents) -> None:
    html = render_page(contents)
    section = html[html.index('<section id="evaluation"') : html.index('<section id="formats"')]
    lines = lines_of(section)
    assert "Scores of the int8 file on 268 test images" in section
    assert ["Accuracy", "0.9345", "0.901", "to", "0.958", "0.9400", "0.910", "to", "0.960"] in lines
    slices = "blur 0.1 to 0.3 40 0.7500 0.600 to 0.850 0.7000 0.500 to 0.900 0.0100"
    assert slices.split() in lines
    # A log loss has no place between 0 and 1.
    assert section.count('class="whisker"') == 2
    alone = replace(contents.evaluation, model="the PyTorch model", scores=[ScoreLine("Accuracy", Estimate(0.5), None)])
    text = Elements(render_page(replace(contents, evaluation=alone))).text
    assert "Scores of the PyTorch model on 268 test images." in " ".join(text.split())
    assert "exported from" not in text


def test_pictures_are_embedded_with_a_text_for_who_cannot_see_them(contents: PageContents) -> None:
    found = Elements(render_page(contents))
    images = found.all("img")
    assert len(images) == 5
    assert all(str(image["src"]).startswith("data:image/png;base64,") and image["alt"] for image in images)
    charts = [chart for chart in found.all("svg") if chart.get("role") == "img"]
    assert len(charts) == 2
    assert "training from 2.0000 at epoch 1 to 0.5000 at epoch 3" in str(charts[0]["aria-label"])


def test_every_table_header_says_what_it_heads(contents: PageContents) -> None:
    headers = Elements(render_page(contents)).all("th")
    assert len(headers) > 30
    assert {header.get("scope") for header in headers} == {"col", "row"}


def test_what_is_not_known_is_written_as_unknown(contents: PageContents) -> None:
    html = render_page(contents)
    lineage = Elements(html[html.index('id="lineage"') :]).text
    assert re.search(r"Data version\s*unknown", lineage)
    formats = Elements(html[html.index('id="formats"') : html.index('id="lineage"')]).text
    assert formats.count("unknown") == 5
    assert "None" not in Elements(html).text
    assert "nan" not in Elements(html).text.split()
    assert "not defined" in Elements(html).text


def test_splits_that_do_not_exist_yet_are_said_in_a_sentence(contents: PageContents) -> None:
    bare = PageContents(
        headline=replace(contents.headline, version=None, verdict="unregistered", reasons=[], accuracy=Estimate(None)),
        written=contents.written,
        missing={"gate": "This model isn't registered yet; `darkroom register` registers it."},
    )
    html = render_page(bare)
    assert "This model isn't registered yet; darkroom register registers it." in Elements(html).text.replace(
        "&#39;", "'"
    )
    assert "<code>darkroom register</code>" in html
    assert Elements(html).text.count("There is no information for this section.") == 5


def test_a_few_of_many_quarantined_files_are_named_and_all_are_counted(contents: PageContents) -> None:
    text = " ".join(Elements(render_page(contents)).text.split())
    assert "7 files were quarantined because they can't be decoded, and not used; the first 1 are listed here." in text
    assert "three/broken.png" in text


def test_totals_of_the_splits_are_sums_over_the_classes(contents: PageContents) -> None:
    assert contents.data is not None
    assert contents.data.totals == [1010, 7, 4]
    assert "1,021" in render_page(contents)


def test_a_training_without_history_still_makes_a_page(contents: PageContents) -> None:
    page = replace(contents, training=TrainingSection([Fact("Training", None)]))
    assert "has no history of its epochs" in render_page(page)


def test_a_file_name_that_is_no_text_does_not_stop_the_page(contents: PageContents) -> None:
    assert contents.data is not None
    data = replace(contents.data, quarantined=[Quarantined("three/\udcff.png", "not an image")])
    assert "three/?.png" in render_page(replace(contents, data=data)).encode("utf-8").decode("utf-8")


def test_a_leak_proof_that_audited_nothing_proves_nothing(contents: PageContents) -> None:
    assert contents.data is not None
    data = replace(contents.data, leak=LeakProofSection([], same_split=True))
    assert "No type of pair was searched for" in render_page(replace(contents, data=data))
