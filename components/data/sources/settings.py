"""Settings for reading the columns of a table, or the fields of a tar shard's records."""

from typing import Annotated, Literal

from pydantic import Field, field_validator

from components.shared.settings import Settings

Name = Annotated[str, Field(min_length=1)]
ColumnName = Literal["path", "label", "labels", "group", "timestamp", "split", "weight"]


class IngestSettings(Settings):
    """params.yaml: ingest."""

    first_source: str | None = None
    """null | digits (embedded) | any source: what `darkroom run` ingests where no data were ingested yet."""
    columns: dict[ColumnName, Name] | None = None
    """null | {path: filename, label: class}: what the table calls its columns, by the names that Darkroom expects."""
    label_columns: list[Name] | None = None
    """null: the column `label` or `labels` | [name]: that column | [super, coarse, fine]: a hierarchy."""
    one_hot: list[Name] | Literal["auto"] | None = None
    """null | [cat, dog]: a column of 0 and 1 for each class, in place of labels | auto: all columns of 0 and 1.

    Where each row has exactly one 1 the data is single-label, else multi-label.
    """
    separator: str = Field(default="|", min_length=1)
    """Separator of the names in a text column `labels`; a column of lists needs none."""
    classes: list[Name] | None = None
    """null: any label | [cat, dog]: no other; needed where names and numbers mix, two are alike, or one is nan.

    In a hierarchy these are the names of the finest level, and levels are listed from the coarsest.
    """

    merge_alike_classes: bool = False
    """true: classes that differ only in case, blanks or Unicode form become one; false: they are refused."""
    follow_links: bool = False
    """true: links out of the data folder and links to folders are followed; false: they are not."""

    @field_validator("label_columns", "classes", "one_hot")
    @classmethod
    def _not_empty_and_unique(cls, names: list[str] | str | None) -> list[str] | str | None:
        if isinstance(names, list) and (not names or len(set(names)) != len(names)):
            raise ValueError("null or a list of names, each once")
        return names
