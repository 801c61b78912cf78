"""Where the ledger is kept, and the aliases that follow from it.

The server numbers the versions of a registered model without gaps, in one transaction of its database, and gives no
number twice, whoever asks at the same moment and from whichever machine. So an entry is a version of the model
`NAME ledger`, made with the number that it expects. Where the server gives it another number, a concurrent writer won
the race: the entry is void, and its writer reads the newer entries and decides again. No file lock does that across
machines.

A deleted version leaves a gap in the numbers, and a tag of the model holds the number of entries and the last
checksum: nothing goes missing unseen, not even at the end. The checksums find accidents, not tampering. Aliases move
last, and only as the ledger says.
"""

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime

from components.promotion.ledger import (
    Draft,
    Entry,
    Head,
    Status,
    challenger,
    champions,
    check_chain,
    current_entries,
    head_of,
    next_entry,
    status_of,
)
from components.promotion.registration import LEDGER_SUFFIX
from components.shared.errors import DarkroomError, ServiceError
from flows.tracking.runs import Tracking

CHAMPION, CHALLENGER, PREVIOUS = "champion", "challenger", "previous"

_ENTRY, _EXPECTED, _HEAD = "darkroom.entry", "darkroom.expected_version", "darkroom.ledger"
_PAGE = 1000
_NO_RUN = "0" * 32
_TRIES = 4


@dataclass(frozen=True)
class Ledger:
    entries: list[Entry]
    """Valid entries, oldest first."""
    last_number: int
    """The highest number that the server gave out, to void entries too."""
    current: list[Entry]
    """Entries about the versions as they are registered now: after a model was deleted its numbers are reused."""

    @property
    def champion(self) -> str | None:
        """The version that serves."""
        return next(reversed(champions(self.current)), None)

    def status(self, version: str) -> Status:
        return status_of(self.current, version)


def read_ledger(tracking: Tracking, name: str) -> Ledger:
    """Every decision about the model; raises DarkroomError where one was changed or removed."""
    # Read before the entries: another decision may be written meanwhile, and the head must not be ahead of them.
    head = _head(tracking, name)
    tags_by_number = _pages(tracking, name + LEDGER_SUFFIX)
    for expected, number in enumerate(sorted(tags_by_number), start=1):
        if number != expected:
            raise DarkroomError(f"version {expected} of {name}{LEDGER_SUFFIX} was deleted; restore it from a backup")
    valid = [tags for number, tags in sorted(tags_by_number.items()) if tags.get(_EXPECTED) == str(number)]
    entries = [Entry(**json.loads(tags[_ENTRY])) for tags in valid]
    check_chain(entries, head)
    sha256s = {str(number): tags.get("sha256", "") for number, tags in _pages(tracking, name).items()}
    return Ledger(entries, len(tags_by_number), current_entries(entries, sha256s))


def write(tracking: Tracking, name: str, make: Callable[[Ledger], Draft | None]) -> Entry | None:
    """Writes what `make` decides given the ledger; with None it writes nothing. Moves no alias.

    `make` is called again where another decision came between: the ledger that it sees is the one that its entry
    follows. What it raises is raised, with nothing written.
    """
    while True:
        ledger = read_ledger(tracking, name)
        draft = make(ledger)
        if draft is None:
            return None
        entry = next_entry(ledger.entries, draft, when=datetime.now(UTC).isoformat(timespec="seconds"))
        if append(tracking, name, ledger, entry) or _is_written(tracking, name, entry):
            return entry


def append(tracking: Tracking, name: str, ledger: Ledger, entry: Entry) -> bool:
    """Whether the entry is the next one after this ledger; False where a concurrent writer won, and it is void."""
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
    tracking.client.set_registered_model_tag(name, _HEAD, f"{entry.number} {head_of([entry]).checksum}")
    return True


def sync_aliases(tracking: Tracking, name: str) -> None:
    """Moves the aliases to where the ledger says; idempotent.

    The ledger is read again after the move: who moves an alias late, by a ledger that has grown meanwhile, fixes it.
    """
    ledger = read_ledger(tracking, name)
    # Before the first decision the aliases belong to whoever set them.
    while ledger.entries:
        _move_aliases(tracking, name, ledger)
        now = read_ledger(tracking, name)
        if len(now.entries) == len(ledger.entries):
            return
        ledger = now


def _is_written(tracking: Tracking, name: str, entry: Entry) -> bool:
    """A request repeated after a broken connection is refused, though the first one got through."""
    return any(one.checksum == entry.checksum for one in read_ledger(tracking, name).entries)


def aliases(tracking: Tracking, name: str) -> dict[str, str]:
    """The version that holds each alias."""
    return {alias: str(number) for alias, number in tracking.client.get_registered_model(name).aliases.items()}


def _move_aliases(tracking: Tracking, name: str, ledger: Ledger) -> None:
    line = champions(ledger.current)
    wanted = {
        # First: whoever reads between two moves never finds a champion that can't be rolled back.
        PREVIOUS: line[-2] if len(line) > 1 else None,
        CHAMPION: line[-1] if line else None,
        CHALLENGER: challenger(ledger.current),
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
    tags: dict[int, dict[str, str]] = {}
    token = None
    while True:
        page = tracking.client.search_model_versions(
            f"name = '{model}'", max_results=_PAGE, order_by=["version_number ASC"], page_token=token
        )
        tags |= {int(version.version): dict(version.tags) for version in page}
        token = page.token
        if not token:
            return tags


def _head(tracking: Tracking, name: str) -> Head | None:
    from mlflow.exceptions import MlflowException

    try:
        text = tracking.client.get_registered_model(name).tags.get(_HEAD)
    except MlflowException as problem:
        if problem.error_code == "RESOURCE_DOES_NOT_EXIST":
            return None
        raise
    number, _, checksum = (text or "").partition(" ")
    return Head(int(number), checksum) if number.isdigit() else None


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
    what = f"{name} version {entry.version} {entry.action}"
    if entry.action == "rolled back":
        what = f"{name} version {entry.record.get('from')} rolled back"
    text = f"**Entry {entry.number}: {what}**\n\nby {entry.who} at {entry.moment}"
    return f"{text}; {serves}\n\n{reasons}"[:5000]
