"""How a model is called in the registry."""

from pydantic import Field

from components.settings import Settings


class RegisterSettings(Settings):
    """params.yaml: register."""

    name: str = Field(min_length=1, max_length=120, pattern=r"^[A-Za-z0-9][A-Za-z0-9_. -]*$")
    """Letters, digits, dot, dash, underscore and space; registries refuse / : % and quotes."""
