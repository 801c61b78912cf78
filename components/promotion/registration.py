"""How a model is called in the registry."""

import re

from pydantic import Field, field_validator

from components.shared.settings import Settings

LEDGER_SUFFIX = " ledger"
"""The ledger of a model stands in the registry under the model's name and this."""


class RegisterSettings(Settings):
    """params.yaml: register."""

    name: str = Field(min_length=1, max_length=120)
    """Letters, digits, dot, dash, underscore and space; registries refuse / : % and quotes."""

    @field_validator("name")
    @classmethod
    def _can_be_held(cls, name: str) -> str:
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
            raise ValueError(f"it should not end in{LEDGER_SUFFIX}, which is how the ledgers of models are called")
        return name
