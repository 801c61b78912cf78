"""What a registered model's page says."""

from collections.abc import Sequence

from components.promotion.ledger import Action, Draft, Entry, next_entry
from components.reporting.model_page import KEPT, model_page

_CLASSES = {"classes": ["cat", "<b>dog"], "num_classes": 3}


def entries(*decisions: tuple[Action, str, str | None]) -> Sequence[Entry]:
    made: list[Entry] = []
    for action, version, before in decisions:
        record = _CLASSES | ({"from": before} if before else {})
        draft = Draft(action, version, version, "ada@host", [f"why {version}"], record)
        made.append(next_entry(made, draft, when="2026-01-02T03:04:05+00:00"))
    return made


def test_it_says_what_the_model_is_who_serves_and_how_that_came() -> None:
    text = model_page("pets", entries(("promoted", "1", None), ("promoted", "2", None)))
    assert "of 3 classes (cat, \\<b\\>dog and 1 more)" in text
    assert "**Version 2 serves** (`@champion`): promoted by ada@host on 2026-01-02 03:04:05 UTC: why 2." in text
    assert text.endswith(KEPT)


def test_it_says_that_a_rollback_brought_the_champion_back() -> None:
    text = model_page("pets", entries(("promoted", "1", None), ("promoted", "2", None), ("rolled back", "1", "2")))
    assert "**Version 1 serves** (`@champion`): restored by a rollback from version 2 by ada@host" in text
    assert "No version serves" in model_page("pets", [])
