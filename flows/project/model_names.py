"""How a registered version is named, alike wherever one is asked for: models:/NAME@ALIAS, NAME/VERSION, VERSION …"""

from components.models.catalogue import REGISTERED, TIMM_PREFIX
from components.shared.errors import SettingsError

FORMS = "NAME@ALIAS, NAME/VERSION, ALIAS or VERSION"
"""For the help of commands."""


def parse_version(text: str, *, own: str) -> tuple[str, str]:
    """Its name, and the number or alias; `own` is the model where none is named.

    Takes NAME@ALIAS, NAME/VERSION, each with or without models:/ before it, @ALIAS, ALIAS and VERSION. Raises
    SettingsError for anything else.
    """
    name, wanted = _split(text)
    if not wanted or text == own or (text.startswith(REGISTERED) and not name):
        raise SettingsError(
            f"{text}: should read NAME@ALIAS or NAME/VERSION, or ALIAS or VERSION alone for {own}; such as "
            f"{own}@champion (models:/ may stand before it)"
        )
    return name or own, wanted


def parse_address(address: str, *, setting: str) -> tuple[str, str]:
    """The same of a setting, where models:/ has to stand before it; raises SettingsError naming the setting."""
    name, wanted = _split(address)
    if not address.startswith(REGISTERED) or not name or not wanted:
        raise SettingsError(
            f"params.yaml: {setting}: is {address!r}, should read models:/NAME@ALIAS or models:/NAME/VERSION"
        )
    return name, wanted


def is_version(text: str) -> bool:
    """Whether a version is meant, where an architecture could be named as well."""
    return (
        text.startswith(REGISTERED)
        or (("@" in text or "/" in text) and not text.startswith(TIMM_PREFIX))
        or (text.isdigit())
    )


def require_same_model(text: str, *, own: str, where: str) -> str:
    """The number or alias of a version of `own`, the model that `where` names; SettingsError where it is another's."""
    name, wanted = parse_version(text, own=own)
    if name != own:
        raise SettingsError(f"{text}: is a version of {name}, and {where} says {own}; name a version of {own}")
    return wanted


def _split(text: str) -> tuple[str, str]:
    """Name and version or alias; both are empty where the text can't be read, the name alone where none is given."""
    bare = text.removeprefix(REGISTERED)
    separator = "@" if "@" in bare else "/"
    name, found, wanted = bare.partition(separator)
    if not found:
        name, wanted = "", bare
    readable = wanted.strip() and not set("/@") & set(wanted) and name == name.strip() and (name or found != "/")
    return (name, wanted) if readable else ("", "")
