"""What the registry holds: the versions of the model, who serves, and the last decisions."""

import json
from dataclasses import asdict, dataclass
from typing import Any, Literal

from components.errors import DarkroomError
from components.promotion.ledger import Entry
from components.promotion.registration import RegisterSettings
from flows.listing import show_table
from flows.project import Project, open_project
from flows.sections import read_section
from flows.tracking import registry, runs
from flows.tracking.ledger import CHALLENGER, CHAMPION, PREVIOUS, read_ledger

Verdict = Literal["promoted", "not promoted", "awaiting approval", "not judged"]

_LEDGER_ENTRIES = 10


@dataclass(frozen=True)
class Judgement:
    verdict: Verdict
    reasons: list[str]


def list_models(show: bool) -> dict[str, Any]:
    """The registered versions, newest first, and the last entries of the ledger; shown on standard output if asked."""
    project = open_project()
    name = model_name(project)
    tracking = runs.tracking_at_hand(project, name)
    versions = registry.versions(tracking, name) if tracking is not None else []
    record: dict[str, Any] = {
        "name": name,
        **{alias: holder(versions, alias) for alias in (CHAMPION, CHALLENGER, PREVIOUS)},
        "versions": [],
        "ledger": [],
    }
    if tracking is not None:
        record["versions"] = [_version_record(version) for version in versions]
        entries, problem = decisions(tracking, name)
        record["ledger"] = [_entry_record(entry) for entry in reversed(entries[-_LEDGER_ENTRIES:])]
        record |= {"ledger_problem": problem} if problem else {}
    if show:
        _show(record)
    return record


def model_name(project: Project) -> str:
    """As params.yaml calls the model; the other sections may be wrong meanwhile."""
    settings: RegisterSettings = read_section(project.params, "register", RegisterSettings)
    return settings.name


def judgement(version: registry.Version) -> Judgement:
    """The gate's last word on a version."""
    text = version.tags.get("verdict")
    if text is None:
        return Judgement("not judged", [])
    try:
        decision = json.loads(text)
    except ValueError:
        # The tag holds no more than 5000 letters: the decision itself has a tag of its own.
        return Judgement(_verdict(version), ["the reasons were cut off in the registry"])
    return Judgement(_verdict(version), [str(one) for one in decision["reasons"]])


def _verdict(version: registry.Version) -> Verdict:
    if version.tags.get("status") == "awaiting approval":
        return "awaiting approval"
    return "promoted" if version.tags.get("promoted") == "true" else "not promoted"


def decisions(tracking: runs.Tracking, name: str) -> tuple[list[Entry], str | None]:
    """Every decision, oldest first; and what is wrong with the ledger, if anything is."""
    try:
        return read_ledger(tracking, name).entries, None
    except DarkroomError as problem:
        return [], str(problem)


def holder(versions: list[registry.Version], alias: str) -> str | None:
    """The number of the version that has the alias."""
    return next((version.number for version in versions if alias in version.aliases), None)


def _version_record(version: registry.Version) -> dict[str, Any]:
    found = judgement(version)
    return {
        "version": version.number,
        "aliases": version.aliases,
        "served": version.tags.get("served"),
        **_measured(version),
        "verdict": found.verdict,
        "reason": found.reasons[0] if found.reasons else None,
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
    wanted = ("number", "when", "who", "action", "version", "reasons")
    return {name: value for name, value in asdict(entry).items() if name in wanted}


def _show(record: dict[str, Any]) -> None:
    name = record["name"]
    if not record["versions"]:
        print(f"{name} has no registered version yet; `darkroom run` makes one")
        return
    show_table(
        f"{name}: registered versions",
        ("version", "aliases", "served", "accuracy", "macro F1", "bytes", "verdict", "first reason", "run"),
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
        print("no decision was made yet; `darkroom promote` lets the gate judge the newest version")


def _version_row(version: dict[str, Any]) -> list[str]:
    return [
        version["version"],
        ", ".join(f"@{alias}" for alias in version["aliases"]),
        version["served"] or "unknown",
        _number(version["accuracy"], ".4f"),
        _number(version["macro_f1"], ".4f"),
        _number(version["bytes"], ","),
        version["verdict"],
        version["reason"] or "",
        version["run_id"][:12],
    ]


def _entry_row(entry: dict[str, Any]) -> list[str]:
    return [
        str(entry["number"]),
        entry["when"],
        entry["who"],
        entry["action"],
        entry["version"],
        "; ".join(entry["reasons"]),
    ]


def _number(value: float | None, style: str) -> str:
    return "unknown" if value is None else format(value, style)
