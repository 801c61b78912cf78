"""The model card: its content, its length, and names that must not become markup."""

from dataclasses import replace

from components.promotion.gate import RuleVerdict
from components.reporting.model_card import CardContents, CardPicture, CorruptedAccuracy, WeakClass, model_card

CARD = CardContents(
    name="digits",
    version="3",
    format="int8",
    architecture="resnet18",
    classes=["cat", "<b>dog|"],
    num_classes=40,
    image_size_px=32,
    verdict="awaiting approval",
    decided="ada@host, 2026-01-02",
    reasons=["the int8 file passes all 2 rules"],
    rules=[
        RuleVerdict("accuracy of the served file", "0.9", "at least 0.8", passed=True),
        RuleVerdict("lowest recall", "0.1 (<b>dog|)", "at least 0.5", passed=False),
    ],
    top_k=3,
    scores={"kind.accuracy": 0.95, "log_loss": 0.3, "macro_f1": 0.85, "top_k_accuracy": 0.99, "accuracy": 0.9},
    intervals={"accuracy": (0.85, 0.94)},
    test_images=200,
    weakest=[WeakClass("<b>dog|", 0.1, 10)],
    size_bytes=1_234_567,
    latency_p50_ms=1.0,
    latency_p95_ms=1.5,
    processor="a processor with avx512_vnni",
    lineage={"data version": "abc.dir", "decided on": "avx512_vnni|2"},
    pictures=[CardPicture("Rows: the true class", "confusion.png")],
    corrupted=CorruptedAccuracy(50, 0.92, 0.7, (0.6, 0.8)),
)


def test_the_card_shows_what_is_known() -> None:
    text = model_card(CARD)
    for sentence in (
        "# digits version 3",
        "**Awaiting approval**",
        "one int8 ONNX file of 1,234,567 bytes",
        "40 classes: cat, \\<b\\>dog\\| and 38 more",
        "| accuracy | 0.9000 | 0.8500 to 0.9400 |",
        "| macro F1 | 0.8500 |  |",
        "| accuracy of the served file | 0.9 | at least 0.8 | passed |",
        "| at least 0.5 | **broken** |",
        "Rows: the true class:\n\n![Rows: the true class](confusion.png)",
        "| top-3 accuracy | 0.9900 |",
        "| log loss (nats) | 0.3000 |",
        "its mean accuracy is 0.7000 (95%: 0.6000 to 0.8000); on the original images it is 0.9200",
        "recall 10.0% (95%: 1.8% to 40.4%; 10 test images)",
        "1.00 ms (95% within 1.50) on a processor with avx512_vnni;",
        "| decided on | `avx512_vnni\\|2` |",
        "| data version | `abc.dir` |",
        "MLFLOW_TRACKING_URI=sqlite:///.darkroom/mlflow/mlflow.db mlflow models serve -m "
        '"models:/digits/3" --env-manager local',
    ):
        assert sentence in text
    assert "<b>" not in text
    order = ["| accuracy |", "| top-3", "| macro F1 |", "| log loss", "| kind.accuracy |"]
    assert sorted(order, key=text.index) == order


def test_the_card_names_quantization_aware_fine_tuning() -> None:
    sentence = "after 3 epochs of quantization-aware fine-tuning. It takes an RGB image"
    assert sentence in model_card(replace(CARD, qat_epochs=3))
    assert "fine-tuning" not in model_card(CARD)


def test_the_card_says_how_often_the_model_is_not_sure() -> None:
    of_sets = {"coverage": 0.951, "answered": 0.8, "answered_accuracy": 0.97}
    card = replace(CARD, scores={**CARD.scores, **of_sets}, intervals={"coverage": (0.91, 0.97)})
    assert "| coverage of the prediction sets | 0.9510 | 0.9100 to 0.9700 |" in model_card(card)
    assert "- 80.0% of its answers on the test images are sure, and 97.0% of those are right. Otherwise" in model_card(
        card
    )
    nothing = replace(card, scores={**card.scores, "answered": 0.0, "answered_accuracy": float("nan")})
    assert "- 0.0% of its answers on the test images are sure. Otherwise" in model_card(nothing)
    assert "are sure" not in model_card(CARD)


def test_what_is_not_known_is_left_out() -> None:
    text = model_card(
        replace(CARD, size_bytes=None, latency_p50_ms=None, pictures=[], weakest=[], intervals={}, corrupted=None)
    )
    assert "None" not in text
    assert "## Pictures" not in text


def test_a_page_with_less_room_gets_the_main_sections_and_says_where_the_rest_is() -> None:
    whole = model_card(CARD)
    assert model_card(CARD, most_characters=len(whole)) == whole
    for room in range(700, len(whole), 100):
        short = model_card(CARD, most_characters=room)
        assert len(short) <= room
        assert short.startswith("# digits version 3")
        assert "The complete card is stored with the run" in short
