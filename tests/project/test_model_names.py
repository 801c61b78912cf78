"""How versions are named on the command line and in params.yaml."""

import pytest

from components.shared.errors import SettingsError
from flows.project.model_names import is_version, parse_address, parse_version, require_same_model


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("clothes@champion", ("clothes", "champion")),
        ("clothes/3", ("clothes", "3")),
        ("models:/clothes@champion", ("clothes", "champion")),
        ("models:/my clothes/3", ("my clothes", "3")),
        ("@champion", ("digits", "champion")),
        ("champion", ("digits", "champion")),
        ("digits@champion", ("digits", "champion")),
        ("3", ("digits", "3")),
    ],
)
def test_a_version_is_named_alike_everywhere(text: str, meant: tuple[str, str]) -> None:
    assert parse_version(text, own="digits") == meant


@pytest.mark.parametrize(
    "text",
    ["", "digits", "models:/digits", "models:/", "digits@", "digits/", "/3", "a/b/3", "a@b@c", "a@b/3", " @x", "a@ "],
)
def test_what_names_no_version_is_one_sentence(text: str) -> None:
    with pytest.raises(SettingsError) as refused:
        parse_version(text, own="digits")
    assert str(refused.value) == (
        f"{text}: should read NAME@ALIAS or NAME/VERSION, or ALIAS or VERSION alone for digits; such as "
        "digits@champion (models:/ may stand before it)"
    )


@pytest.mark.parametrize("text", ["3", "source@champion", "models:/source", "models:/@champion"])
def test_a_setting_takes_a_whole_address_alone(text: str) -> None:
    with pytest.raises(SettingsError, match=r"params.yaml: model.weights: is '.*', should read models:/NAME@ALIAS"):
        parse_address(text, setting="model.weights")


def test_an_architecture_is_no_version() -> None:
    assert not any(map(is_version, ("plain", "resnet18", "timm/resnet18.a1_in1k")))
    assert all(map(is_version, ("models:/a/1", "a/1", "a@champion", "@champion", "1")))


def test_a_version_of_another_model_is_refused() -> None:
    assert require_same_model("digits@champion", own="digits", where="NAME") == "champion"
    with pytest.raises(SettingsError, match="clothes/3: is a version of clothes, and NAME says digits"):
        require_same_model("clothes/3", own="digits", where="NAME")
