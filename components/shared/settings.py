"""The base class of all sections of params.yaml: frozen and typed; wrong values raise errors that name the fix."""

from typing import Any, Self

from pydantic import BaseModel, ConfigDict, ValidationError

from components.shared.errors import SettingsError, nearest


class Settings(BaseModel):
    """One section of params.yaml; each subclass lives beside the code that reads it."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, use_attribute_docstrings=True)

    @classmethod
    def from_section(cls, name: str, values: dict[str, Any]) -> Self:
        """The section called `name`; raises SettingsError naming each key that is unknown or out of range."""
        try:
            return cls.model_validate(values)
        except ValidationError as problem:
            lines = [_sentence(name, error, cls) for error in problem.errors()]
            raise SettingsError("; ".join(lines)) from None


def _sentence(section: str, error: Any, settings: type[BaseModel]) -> str:
    name = ".".join([section, *map(str, error["loc"])])
    if error["type"] == "extra_forbidden":
        return f"params.yaml: {name}: unknown{nearest(str(error['loc'][-1]), _names_at(settings, error['loc'][:-1]))}"
    if error["type"] == "missing":
        return f"params.yaml: {name}: missing; add it"
    reason = str(error["msg"]).removeprefix("Value error, ")
    # pydantic says "Input should be …", "String should match …"; our own validators only what it should be.
    expected = reason.partition(" should ")[2] or f"be {reason}"
    # Where fields contradict each other the input is the whole section: too long to repeat.
    value = "" if error["type"] == "value_error" and isinstance(error["input"], dict) else f"is {error['input']!r}, "
    return f"params.yaml: {name}: {value}should {expected}"


def _names_at(settings: type[BaseModel], path: tuple[int | str, ...]) -> list[str]:
    for step in path:
        field = settings.model_fields.get(str(step))
        if field is None or not (isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel)):
            return []
        settings = field.annotation
    return list(settings.model_fields)
