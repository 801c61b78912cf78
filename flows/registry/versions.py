"""What the registry holds: the versions of the model, who serves, and the last decisions."""

from dataclasses import asdict
from typing import Any, get_args

from components.promotion.ledger import Action, Entry, Status
from components.promotion.registration import RegisterSettings
from components.shared.errors import DarkroomError
from flows.console.tables import show_table
from flows.project.project import Project, open_project
from flows.project.sections import read_section
from flows.tracking import registry, runs
from flows.tracking.ledger import CHALLENGER, CHAMPION, PREVIOUS, Ledger, read_ledger

_LEDGER_ENTRIES = 10


def list_models(show: bool) -> dict[str, Any]:
    """The registered versions, newest first, and the last entries of the ledger; shown on standard output if asked."""
    project = open_project()
    name = model_name(project)
    tracking = runs.existing_tracking(project, name)
    versions = registry.versions(tracking, name) if tracking is not None else []
    record: dict[str, Any] = {
        "name": name,
        **{alias: holder(versions, alias) for alias in (CHAMPION, CHALLENGER, PREVIOUS)},
        "versions": [],
        "ledger": [],
    }
    if tracking is not None:
        ledger, problem = decisions(tracking, name)
        record["versions"] = [_version_record(version, status(version, ledger)) for version in versions]
        entries = ledger.entries[-_LEDGER_ENTRIES:] if ledger is not None else []
        record["ledger"] = [_entry_record(entry) for entry in reversed(entries)]
        record |= {"ledger_problem": problem} if problem else {}
    if show:
        _show(record)
    return record


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


def _version_record(version: registry.Version, status: Status) -> dict[str, Any]:
    decision = status.entry
    return {
        "version": version.number,
        "aliases": version.aliases,
        "served": version.tags.get("served"),
        **_measured(version),
        "verdict": status.verdict,
        "reason": status.reasons[0] if status.reasons else None,
        "decided_by": decision.who if decision else None,
        "decided_at": decision.when if decision else None,
        "run_id": version.run_id,
        "sha256": version.sha256,
    }


def _measured(version: registry.Version) -> dict[str, float | int | None]:
    """Scores and size of the version's own file, as they were registered with it; None where they weren't."""
    tags = version.tags
    return {
        "accuracy": float(tags["accuracy"]) if "accuracy" in tags else None,
        "macro_f1": float(tags["macro_f1"]) if "macro_f1" in tags else None,
        "bytes": int(tags["bytes"]) if "bytes" in tags else None,
    }


def _entry_record(entry: Entry) -> dict[str, Any]:
    wanted = ("number", "when", "who", "action", "version", "champion", "reasons")
    record = {name: value for name, value in asdict(entry).items() if name in wanted}
    return record | ({"from": entry.record.get("from")} if entry.action == "rolled back" else {})


def _show(record: dict[str, Any]) -> None:
    name = record["name"]
    if not record["versions"]:
        print(f"{name} has no registered version yet; `darkroom run` makes one")
        return
    show_table(
        f"{name}: registered versions",
        ("version", "aliases", "served", "accuracy", "macro F1", "bytes", "verdict", "first reason (who, when)", "run"),
        [_version_row(version) for version in record["versions"]],
    )
    print()
    if "ledger_problem" in record:
        print(f"ledger: {record['ledger_problem']}")
    elif record["ledger"]:
        show_table(
            "last decisions",
            ("entry", "when", "who", "decision", "version", "reasons"),
            [_entry_row(entry) for entry in record["ledger"]],
        )
    else:
        print("no decision was made yet; `darkroom promote` has the gate decide on the newest version")


def _version_row(version: dict[str, Any]) -> list[str]:
    return [
        version["version"],
        ", ".join(f"@{alias}" for alias in version["aliases"]),
        version["served"] or "unknown",
        _number(version["accuracy"], ".4f"),
        _number(version["macro_f1"], ".4f"),
        _number(version["bytes"], ","),
        version["verdict"],
        f"{version['reason']} ({version['decided_by']}, {version['decided_at']})" if version["decided_by"] else "",
        version["run_id"][:12],
    ]


def _entry_row(entry: dict[str, Any]) -> list[str]:
    return [
        str(entry["number"]),
        entry["when"],
        entry["who"],
        entry["action"],
        f"{entry['from']}, back to {entry['champion'] or 'none'}" if "from" in entry else entry["version"],
        "; ".join(entry["reasons"]),
    ]


def _number(value: float | None, style: str) -> str:
    return "unknown" if value is None else format(value, style)
