"""`darkroom architectures`: the table, and advice for a purpose."""

from typing import Any

import pytest

from components.errors import SettingsError
from flows.architectures import advised, list_architectures


def table(*names: str) -> dict[str, Any]:
    return list_architectures(list(names), image_size_px=32, num_classes=10, latency=False, show=True)


def test_the_cheapest_comes_first_with_all_that_it_costs(capsys: pytest.CaptureFixture[str]) -> None:
    rows = table("resnet18", "lenet5")["architectures"]
    assert [row["architecture"] for row in rows] == ["lenet5", "resnet18"]
    printed = capsys.readouterr().out
    assert "weights, MB" in printed
    assert "not measured" in printed


def test_an_unknown_name_is_refused_with_the_nearest() -> None:
    with pytest.raises(SettingsError, match=r"resnet81.*did you mean resnet18"):
        table("resnet81")


def test_a_purpose_is_answered_with_a_name_and_a_reason(capsys: pytest.CaptureFixture[str]) -> None:
    advice = advised("mobile", image_size_px=64, with_weights=True, show=True)
    assert capsys.readouterr().out == f"model.architecture={advice['architecture']}: {advice['reason']}\n"
    with pytest.raises(SettingsError, match="mobil"):
        advised("mobil", image_size_px=64, with_weights=False, show=False)
