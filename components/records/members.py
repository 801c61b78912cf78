"""members.json: the members of an ensemble compared with the ensemble."""

from dataclasses import dataclass
from typing import ClassVar

from components.records.record import Record
from components.records.scores import Interval

MEMBERS = "members.json"


@dataclass(frozen=True)
class MemberScores:
    """A member compared with the ensemble on the same test images."""

    name: str
    accuracy: float
    accuracy_interval: Interval
    """By the bootstrap."""
    macro_f1: float
    macro_f1_interval: Interval
    difference: float
    """The member's accuracy minus the ensemble's."""
    interval: Interval
    """Of the difference."""
    p_corrected: float
    """Two-sided McNemar test, corrected by Holm for the number of members."""


class MembersRecord(Record):
    TITLE: ClassVar[str] = "record of the ensemble's members"
    REMEDY: ClassVar[str] = "evaluate the ensemble again with `darkroom ensemble`"

    members: list[MemberScores]
