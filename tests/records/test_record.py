"""A record is read by the class that wrote it; a broken or foreign file is one sentence with the remedy."""

from pathlib import Path
from typing import ClassVar

import pytest

from components.records.record import Record
from components.shared.errors import DataError


class Example(Record):
    TITLE: ClassVar[str] = "example"
    REMEDY: ClassVar[str] = "`darkroom run` writes it again"

    values: dict[str, float]
    pairs: list[tuple[str, int]]


def test_what_was_written_is_read_and_equal_records_are_equal_bytes(tmp_path: Path) -> None:
    record = Example(values={"b": 1.0, "a": float("inf")}, pairs=[("x", 1)])
    record.write(tmp_path / "one.json")
    assert Example.read(tmp_path / "one.json") == record
    Example(values={"a": float("inf"), "b": 1.0}, pairs=[("x", 1)]).write(tmp_path / "two.json")
    assert (tmp_path / "one.json").read_bytes() == (tmp_path / "two.json").read_bytes()


def test_an_undefined_score_survives(tmp_path: Path) -> None:
    Example(values={"a": float("nan")}, pairs=[]).write(tmp_path / "one.json")
    found = Example.read(tmp_path / "one.json").values["a"]
    assert found != found


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('{"version": 1, "pairs": [], "values": {"a": "high"}}', r"is broken \(values.a: "),
        ('{"version": 1, "pairs": [], "values": {}, "further": 3}', r"is broken \(further: "),
        ('{"version": 1, "pairs": []}', r"is broken \(values: Field required"),
        ('{"version": 2, "values": {}}', "has format version 2, and this release of Darkroom reads version 1"),
        ('{"values": {}}', "has format version None"),
        ("[1, 2]", "is not a JSON record"),
        ('{"version": 1, "val', "is not a JSON record"),
    ],
)
def test_a_broken_file_is_one_sentence_with_the_remedy(tmp_path: Path, text: str, reason: str) -> None:
    (tmp_path / "one.json").write_text(text)
    with pytest.raises(DataError, match=rf"the example .*one.json {reason}.*; `darkroom run` writes it again$"):
        Example.read(tmp_path / "one.json")


def test_a_missing_file_is_one_sentence_with_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"the example .*gone.json can't be read"):
        Example.read(tmp_path / "gone.json")
