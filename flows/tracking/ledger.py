"""Where the ledger is kept, and the aliases that follow from it.

The server numbers the versions of a registered model without gaps, in one transaction of its database, and gives no
number twice, whoever asks at the same moment and from whichever machine. So an entry is a version of the model
`NAME ledger`, made with the number that it expects. Where it was given another one, somebody else was quicker: it
counts for nothing, its writer reads what came between and decides anew. No lock of files could do that across machines.

A deleted version leaves a gap in the numbers, and the model itself is marked with the number of entries and the last
seal: nothing can go missing unseen, not even at the end. Aliases move last, and only as the ledger says.
"""

import getpass
import json
import socket
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime

from components.promotion.ledger import (
    Draft,
    Entry,
    Mark,
    Status,
    challenger,
    champions,
    check_chain,
    mark_of,
    next_entry,
    standing,
    status_of,
)
from components.promotion.registration import LEDGER_SUFFIX
from components.shared.errors import DarkroomError, ServiceError
from flows.tracking.runs import Tracking

CHAMPION, CHALLENGER, PREVIOUS = "champion", "challenger", "previous"

_ENTRY, _EXPECTED, _MARK = "darkroom.entry", "darkroom.expected_version", "darkroom.ledger"
_PAGE = 1000
_NO_RUN = "0" * 32
_TRIES = 4


@dataclass(frozen=True)
class Ledger:
    entries: list[Entry]
    """Those that count, oldest first."""
    last_number: int
    """The highest number that the server gave out, also to entries that count for nothing."""
    standing: list[Entry]
    """Those about the versions as they are registered now: after a model was deleted its numbers are given again."""

    @property
    def champion(self) -> str | None:
        """The version that serves."""
        return next(reversed(champions(self.standing)), None)

    def status(self, version: str) -> Status:
        return status_of(self.standing, version)


def read_ledger(tracking: Tracking, name: str) -> Ledger:
    """Every decision about the model; raises DarkroomError where one was changed or removed."""
    # Read before the entries: another decision may be written meanwhile, and its mark must not be ahead of them.
    mark = _mark(tracking, name)
    kept = _pages(tracking, name + LEDGER_SUFFIX)
    for expected, number in enumerate(sorted(kept), start=1):
        if number != expected:
            raise DarkroomError(f"version {expected} of {name}{LEDGER_SUFFIX} was deleted; restore it from a backup")
    counting = [tags for number, tags in sorted(kept.items()) if tags.get(_EXPECTED) == str(number)]
    entries = [Entry(**json.loads(tags[_ENTRY])) for tags in counting]
    check_chain(entries, mark)
    digests = {str(number): tags.get("sha256", "") for number, tags in _pages(tracking, name).items()}
    return Ledger(entries, len(kept), standing(entries, digests))


def write(tracking: Tracking, name: str, make: Callable[[Ledger], Draft]) -> Entry:
    """Writes down what `make` decides in view of the ledger; moves no alias.

    `make` is asked again where another decision came between: the ledger that it sees is the one that its entry
    follows. What it raises is raised, with nothing written.
    """
    while True:
        ledger = read_ledger(tracking, name)
        entry = next_entry(ledger.entries, make(ledger), when=datetime.now(UTC).isoformat(timespec="seconds"))
        if append(tracking, name, ledger, entry) or _stands(tracking, name, entry):
            return entry


def append(tracking: Tracking, name: str, ledger: Ledger, entry: Entry) -> bool:
    """Whether the entry is the next one after this ledger; else somebody was quicker, and it counts for nothing."""
    from mlflow.exceptions import MlflowException

    expected = ledger.last_number + 1
    run_id = str(entry.record.get("run_id") or _NO_RUN)
    try:
        _make_model(tracking, name)
        made = tracking.client.create_model_version(
            name + LEDGER_SUFFIX,
            source=f"runs:/{run_id}/gate",
            run_id=run_id,
            tags={
                _ENTRY: json.dumps(asdict(entry)),
                _EXPECTED: str(expected),
                "action": entry.action,
                "version": entry.version,
                "who": entry.who,
            },
            description=_description(name, entry),
        )
    except MlflowException as problem:
        raise ServiceError(f"the ledger of {name} can't be written: {problem}") from None
    if int(made.version) != expected:
        return False
    mark = mark_of([entry])
    tracking.client.set_registered_model_tag(name, _MARK, f"{entry.number} {mark.seal}")
    return True


def sync_aliases(tracking: Tracking, name: str) -> None:
    """Brings the aliases to what the ledger says; doing it twice changes nothing.

    Read again after the move: whoever moves an alias late, by a ledger that has grown meanwhile, puts it right.
    """
    ledger = read_ledger(tracking, name)
    # Before the first decision aliases are whoever's set them.
    while ledger.entries:
        _move_aliases(tracking, name, ledger)
        now = read_ledger(tracking, name)
        if len(now.entries) == len(ledger.entries):
            return
        ledger = now


def _stands(tracking: Tracking, name: str, entry: Entry) -> bool:
    """A request that is repeated after a broken connection is refused, though the first one was heard."""
    return any(one.seal == entry.seal for one in read_ledger(tracking, name).entries)


def aliases(tracking: Tracking, name: str) -> dict[str, str]:
    """The version that holds each alias."""
    return {alias: str(number) for alias, number in tracking.client.get_registered_model(name).aliases.items()}


def who_decides() -> str:
    return f"{getpass.getuser()}@{socket.gethostname()}"


def _move_aliases(tracking: Tracking, name: str, ledger: Ledger) -> None:
    line = champions(ledger.standing)
    wanted = {
        # First: whoever reads between two moves never finds a champion without a way back.
        PREVIOUS: line[-2] if len(line) > 1 else None,
        CHAMPION: line[-1] if line else None,
        CHALLENGER: challenger(ledger.standing),
    }
    have = aliases(tracking, name)
    for alias, version in wanted.items():
        if have.get(alias) != version and not (version and _set_alias(tracking, name, alias, version)):
            tracking.client.delete_registered_model_alias(name, alias)


def _set_alias(tracking: Tracking, name: str, alias: str, version: str, tries: int = _TRIES) -> bool:
    """False where the version was deleted."""
    from mlflow.exceptions import MlflowException

    try:
        tracking.client.set_registered_model_alias(name, alias, version)
    except MlflowException as problem:
        if problem.error_code == "RESOURCE_DOES_NOT_EXIST":
            return False
        # Two that set a new alias at once insert the same row, which the server's database takes from one of them.
        if problem.error_code == "BAD_REQUEST" and tries > 1:
            return _set_alias(tracking, name, alias, version, tries - 1)
        raise
    return True


def _pages(tracking: Tracking, model: str) -> dict[int, dict[str, str]]:
    """The tags of each version of a registered model, by number; none where it isn't registered."""
    kept: dict[int, dict[str, str]] = {}
    token = None
    while True:
        page = tracking.client.search_model_versions(
            f"name = '{model}'", max_results=_PAGE, order_by=["version_number ASC"], page_token=token
        )
        kept |= {int(version.version): dict(version.tags) for version in page}
        token = page.token
        if not token:
            return kept


def _mark(tracking: Tracking, name: str) -> Mark | None:
    from mlflow.exceptions import MlflowException

    try:
        text = tracking.client.get_registered_model(name).tags.get(_MARK)
    except MlflowException as problem:
        if problem.error_code == "RESOURCE_DOES_NOT_EXIST":
            return None
        raise
    number, _, seal = (text or "").partition(" ")
    return Mark(int(number), seal) if number.isdigit() else None


def _make_model(tracking: Tracking, name: str) -> None:
    from mlflow.exceptions import MlflowException

    try:
        tracking.client.create_registered_model(
            name + LEDGER_SUFFIX,
            description=f"Every decision about {name}, a version each. Darkroom reads it; nobody should change it.",
        )
    except MlflowException as problem:
        if problem.error_code != "RESOURCE_ALREADY_EXISTS":
            raise


def _description(name: str, entry: Entry) -> str:
    """Markdown, as MLflow's page shows it."""
    reasons = "\n".join(f"- {reason}" for reason in entry.reasons)
    serves = f"version {entry.champion} serves" if entry.champion else "no version serves"
    told = f"{name} version {entry.version} {entry.action}"
    if entry.action == "rolled back":
        told = f"{name} version {entry.record.get('from')} rolled back"
    text = f"**Entry {entry.number}: {told}**\n\nby {entry.who} at {entry.moment}"
    return f"{text}; {serves}\n\n{reasons}"[:5000]
