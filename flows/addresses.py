"""How a registered model is named: models:/NAME@ALIAS or models:/NAME/VERSION."""

from components.errors import SettingsError
from components.models.catalogue import REGISTERED


def parse_address(address: str, *, setting: str) -> tuple[str, str]:
    """Its name, and the alias or version; raises SettingsError naming the setting where it can't be read."""
    text = address.removeprefix(REGISTERED)
    name, separator, wanted = text.partition("@") if "@" in text else text.partition("/")
    if not address.startswith(REGISTERED) or not separator or not name or not wanted:
        raise SettingsError(
            f"params.yaml: {setting}: is {address!r}, should read models:/NAME@ALIAS or models:/NAME/VERSION"
        )
    return name, wanted
