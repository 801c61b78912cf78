"""Settings for reading the columns of a table, or the fields of a tar shard's records."""

from typing import Annotated

from pydantic import Field, field_validator

from components.shared.settings import Settings

Name = Annotated[str, Field(min_length=1)]


class IngestSettings(Settings):
    """params.yaml: ingest."""

    label_columns: list[Name] | None = None
    """null: the column `label` or `labels` | [name]: that column | [super, coarse, fine]: a hierarchy."""
    separator: str = Field(default="|", min_length=1)
    """Separator of the names in a text column `labels`; a column of lists needs none."""
    classes: list[Name] | None = None
    """null: any label | [cat, dog]: no other; needed where names and numbers mix, or one is nan.

    In a hierarchy these are the names of the finest level, and levels are listed from the coarsest.
    """

    @field_validator("label_columns", "classes")
    @classmethod
    def _not_empty_and_unique(cls, names: list[str] | None) -> list[str] | None:
        if names is not None and (not names or len(set(names)) != len(names)):
            raise ValueError("null or a list of names, each once")
        return names
