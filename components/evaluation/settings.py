"""What is evaluated: the section `evaluate` of params.yaml."""

from pydantic import Field

from components.settings import Settings


class EvaluateSettings(Settings):
    """params.yaml: evaluate."""

    top_k: int = Field(ge=2)
    """A hit when the true class is among the k most probable ones."""
    worst_errors: int = Field(ge=0)
    """Most confident mistakes to show as pictures."""
