"""Settings for reading the columns of a table, or the fields of a tar shard's records."""

from typing import Annotated

from pydantic import Field, field_validator

from components.shared.settings import Settings

Name = Annotated[str, Field(min_length=1)]


class IngestSettings(Settings):
    """params.yaml: ingest."""

    label_columns: list[Name] | None = None
    """null: the column `label`, or `labels` for many. One name: that column. More: a hierarchy, coarsest first."""
    separator: str = Field(default="|", min_length=1)
    """Between the names in a column `labels` of text; a column of lists needs none."""
    classes: list[Name] | None = None
    """Names that a label may have (in a hierarchy: on its finest level); null allows any."""

    @field_validator("label_columns", "classes")
    @classmethod
    def _not_empty_and_unique(cls, names: list[str] | None) -> list[str] | None:
        if names is not None and (not names or len(set(names)) != len(names)):
            raise ValueError("null or a list of names, each once")
        return names
