"""What the registry holds: the versions of the model, who serves, and the last decisions."""

from dataclasses import dataclass
from typing import get_args

from components.promotion.ledger import Action, Entry, Status, Verdict
from components.promotion.registration import RegisterSettings
from components.shared.errors import DarkroomError
from flows.console.tables import show_table
from flows.project.project import Project, open_project
from flows.project.sections import read_section
from flows.tracking import registry, runs
from flows.tracking.ledger import CHALLENGER, CHAMPION, PREVIOUS, Ledger, read_ledger

_LEDGER_ENTRIES = 10


@dataclass(frozen=True)
class VersionRow:
    """A registered version; scores and size are of its own file, None where they weren't registered with it."""

    version: str
    aliases: list[str]
    served: str | None
    """Format of its file."""
    accuracy: float | None
    macro_f1: float | None
    bytes: int | None
    verdict: Verdict
    """The gate's last one: under stricter rules a champion may have been refused since, and serve all the same."""
    serves: bool
    """Whether it is the champion."""
    reason: str | None
    """The first of the decision's reasons."""
    decided_by: str | None
    decided_at: str | None
    run_id: str
    sha256: str


@dataclass(frozen=True)
class DecisionRow:
    """An entry of the ledger."""

    number: int
    action: Action
    version: str
    champion: str | None
    """The version that serves after it."""
    when: str
    who: str
    reasons: list[str]
    was: str | None
    """Of a rollback: the version that served before it."""


@dataclass(frozen=True)
class ModelList:
    name: str
    champion: str | None
    challenger: str | None
    previous: str | None
    versions: list[VersionRow]
    """The newest first."""
    ledger: list[DecisionRow]
    """The last decisions, the newest first."""
    ledger_problem: str | None
    """What is wrong with the ledger; None for nothing."""


def list_models(show: bool) -> ModelList:
    """The registered versions, newest first, and the last entries of the ledger; shown on standard output if asked."""
    project = open_project()
    name = model_name(project)
    tracking = runs.existing_tracking(project, name)
    versions = registry.versions(tracking, name) if tracking is not None else []
    ledger, problem = decisions(tracking, name) if tracking is not None else (None, None)
    entries = ledger.entries[-_LEDGER_ENTRIES:] if ledger is not None else []
    listed = ModelList(
        name,
        champion=holder(versions, CHAMPION),
        challenger=holder(versions, CHALLENGER),
        previous=holder(versions, PREVIOUS),
        versions=[_row_of(version, status(version, ledger)) for version in versions],
        ledger=[_decision_row(entry) for entry in reversed(entries)],
        ledger_problem=problem,
    )
    if show:
        _show(listed)
    return listed


def model_name(project: Project) -> str:
    """As params.yaml calls the model; the other sections may be wrong meanwhile."""
    settings: RegisterSettings = read_section(project.params, "register", RegisterSettings)
    return settings.name


def decisions(tracking: runs.Tracking, name: str) -> tuple[Ledger | None, str | None]:
    """The ledger, or what is wrong with it."""
    try:
        return read_ledger(tracking, name), None
    except DarkroomError as problem:
        return None, str(problem)


def status(version: registry.Version, ledger: Ledger | None) -> Status:
    """Status of a version by the ledger; without a readable one, by the tag on its page."""
    if ledger is not None:
        return ledger.status(version.number)
    tag = version.tags.get(registry.STATUS_TAG)
    return Status(next((action for action in get_args(Action) if action == tag), "undecided"))


def holder(versions: list[registry.Version], alias: str) -> str | None:
    """The number of the version that has the alias."""
    return next((version.number for version in versions if alias in version.aliases), None)


def _row_of(version: registry.Version, status: Status) -> VersionRow:
    decision, tags = status.entry, version.tags
    return VersionRow(
        version=version.number,
        aliases=version.aliases,
        served=tags.get("served"),
        accuracy=float(tags["accuracy"]) if "accuracy" in tags else None,
        macro_f1=float(tags["macro_f1"]) if "macro_f1" in tags else None,
        bytes=int(tags["bytes"]) if "bytes" in tags else None,
        verdict=status.verdict,
        serves=CHAMPION in version.aliases,
        reason=status.reasons[0] if status.reasons else None,
        decided_by=decision.who if decision else None,
        decided_at=decision.when if decision else None,
        run_id=version.run_id,
        sha256=version.sha256,
    )


def _decision_row(entry: Entry) -> DecisionRow:
    return DecisionRow(
        number=entry.number,
        action=entry.action,
        version=entry.version,
        champion=entry.champion,
        when=entry.when,
        who=entry.who,
        reasons=entry.reasons,
        was=entry.record.get("from") if entry.action == "rolled back" else None,
    )


def _show(listed: ModelList) -> None:
    if not listed.versions:
        print(f"{listed.name} has no registered version yet; `darkroom run` makes one")
        return
    show_table(
        f"{listed.name}: registered versions",
        ("version", "aliases", "served", "accuracy", "macro F1", "bytes", "verdict", "first reason (who, when)", "run"),
        [_version_cells(version) for version in listed.versions],
    )
    print()
    if listed.ledger_problem is not None:
        print(f"ledger: {listed.ledger_problem}")
    elif listed.ledger:
        show_table(
            "last decisions",
            ("entry", "when", "who", "decision", "version", "reasons"),
            [_decision_cells(entry) for entry in listed.ledger],
        )
    else:
        print("no decision was made yet; `darkroom promote` has the gate decide on the newest version")


def _version_cells(version: VersionRow) -> list[str]:
    return [
        version.version,
        ", ".join(f"@{alias}" for alias in version.aliases),
        version.served or "unknown",
        _number(version.accuracy, ".4f"),
        _number(version.macro_f1, ".4f"),
        _number(version.bytes, ","),
        f"{version.verdict}, but serves" if version.serves and version.verdict != "promoted" else version.verdict,
        f"{version.reason} ({version.decided_by}, {version.decided_at})" if version.decided_by else "",
        version.run_id[:12],
    ]


def _decision_cells(entry: DecisionRow) -> list[str]:
    rolled_back = entry.action == "rolled back"
    return [
        str(entry.number),
        entry.when,
        entry.who,
        entry.action,
        f"{entry.was}, back to {entry.champion or 'none'}" if rolled_back else entry.version,
        "; ".join(entry.reasons),
    ]


def _number(value: float | None, style: str) -> str:
    return "unknown" if value is None else format(value, style)
