"""`darkroom architectures`: the table, and advice for a purpose."""

import pytest

from components.models.catalogue import COMPOUND, OWN_ARCHITECTURES
from components.models.zoo import torchvision_names
from components.shared.errors import SettingsError
from flows.cli.architectures import ArchitectureTable, advised, list_architectures


def table(*names: str, compound: float | None = None) -> ArchitectureTable:
    return list_architectures(
        list(names), image_size_px=32, num_classes=10, latency=False, show=True, compound=compound
    )


def test_the_cheapest_comes_first_with_all_that_it_costs(capsys: pytest.CaptureFixture[str]) -> None:
    rows = table("resnet18", "lenet5").architectures
    assert [row.architecture for row in rows] == ["lenet5", "resnet18"]
    printed = capsys.readouterr().out
    assert "weights, MB" in printed
    assert "not measured" in printed


def test_efficientnet_is_that_of_the_compound_coefficient(capsys: pytest.CaptureFixture[str]) -> None:
    (base,), (larger,) = (table(COMPOUND, compound=value).architectures for value in (None, 1.0))
    assert (base.compound, larger.compound) == (0.0, 1.0)
    assert 1.5 * base.macs < larger.macs < 3 * base.macs
    assert "efficientnet, compound 1" in capsys.readouterr().out


def test_the_whole_list_names_every_architecture(monkeypatch: pytest.MonkeyPatch) -> None:
    def unfit(name: str, **_: object) -> None:
        raise SettingsError(name)

    monkeypatch.setattr("components.models.costs.costs", unfit)
    listed = {one.architecture for one in table().refused}
    assert listed == {*OWN_ARCHITECTURES, *torchvision_names()}


@pytest.mark.parametrize(
    ("names", "compound", "sentence"),
    [
        ([COMPOUND], 9.0, "--compound: is 9, should be from -4 to 8"),
        (["resnet18"], 1.0, "--compound: belongs to efficientnet alone; name it too, or leave --compound out"),
    ],
)
def test_a_compound_that_means_nothing_is_refused(names: list[str], compound: float, sentence: str) -> None:
    with pytest.raises(SettingsError) as refused:
        table(*names, compound=compound)
    assert str(refused.value) == sentence


def test_an_unknown_name_is_refused_with_the_nearest() -> None:
    with pytest.raises(SettingsError, match=r"resnet81.*did you mean resnet18"):
        table("resnet81")


def test_a_purpose_is_answered_with_a_name_and_a_reason(capsys: pytest.CaptureFixture[str]) -> None:
    advice = advised("mobile", image_size_px=64, with_weights=True, show=True)
    assert capsys.readouterr().out == f"model.architecture={advice.architecture}: {advice.reason}\n"
    with pytest.raises(SettingsError, match="mobil"):
        advised("mobil", image_size_px=64, with_weights=False, show=False)
