"""The name of a model in the registry: the section `register` of params.yaml."""

import re

from pydantic import Field, field_validator

from components.shared.settings import Settings

LEDGER_SUFFIX = " ledger"
"""The ledger of a model is registered under the model's name and this suffix."""


class RegisterSettings(Settings):
    """params.yaml: register."""

    name: str = Field(min_length=1, max_length=120)
    """Name of the model in the registry.

    Letters, digits, dot, dash, underscore and space; registries refuse / : % and quotes.
    """

    @field_validator("name")
    @classmethod
    def _is_allowed(cls, name: str) -> str:
        if re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_. -]*", name) is None:
            raise ValueError(
                "it should begin with a letter or digit and hold letters, digits, dots, dashes, underscores and spaces "
                "alone"
            )
        return name

    @field_validator("name")
    @classmethod
    def _not_a_ledger(cls, name: str) -> str:
        if name.endswith(LEDGER_SUFFIX):
            raise ValueError(f"it should not end in{LEDGER_SUFFIX}, which marks the ledgers of models")
        return name
