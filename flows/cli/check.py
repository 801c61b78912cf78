"""Whether this project is fit to run: every problem at once, each with its remedy; looking changes nothing."""

import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from components.shared.errors import DarkroomError
from components.shared.files import abandoned_temporaries
from components.shared.plural import counted
from components.shared.settings import Settings
from flows.console.tables import show_table
from flows.project.dvc import data_paths, data_version
from flows.project.machine import Check, machine_checks, release, writable
from flows.project.project import PARAMS, PIPELINE, STAGES, Project, open_project
from flows.project.repository import ask_git, dvc_home, dvc_problem, dvc_setting, inside_git
from flows.project.running_servers import Servers, refusal, running_servers, without_password
from flows.project.sections import read_sections
from flows.tracking.connection import tracking_uri

_SERVER_SECONDS, _CHILD_SECONDS = 2.0, 60.0
_SQLITE = "sqlite:///"
# A process of its own: torch takes seconds to import, and the other checks run meanwhile.
_ASK_ARCHITECTURE = """
import sys
from components.shared.errors import DarkroomError
from components.models.architectures import check_architecture
try:
    check_architecture(sys.argv[1])
except DarkroomError as problem:
    sys.exit(str(problem))
"""


@dataclass(frozen=True)
class ProjectCheck:
    fit: bool
    """Whether the project can run: no check is bad."""
    summary: str
    checks: list[Check]


def check_project(show: bool) -> ProjectCheck:
    """Every check of the project and this machine; shown on standard output if asked."""
    checks = list(_checks())
    bad = [check for check in checks if check.state == "bad"]
    warned = sum(check.state == "warn" for check in checks)
    if show:
        rows = [(check.state, check.name, check.found, check.remedy) for check in checks]
        show_table("is this project fit to run?", ("state", "check", "found", "remedy"), rows)
    return ProjectCheck(not bad, _summary(len(bad), warned), checks)


def _summary(bad: int, warned: int) -> str:
    warnings = counted(warned, "warning")
    if bad:
        return f"not fit to run: {counted(bad, 'problem')}, {warnings}"
    return f"fit to run, {warnings}" if warned else "fit to run"


def _checks() -> Iterator[Check]:
    try:
        project = open_project()
    except DarkroomError as problem:
        yield Check("project", "bad", str(problem), f"go to a folder that holds {PARAMS} and {PIPELINE}")
        yield from machine_checks(Path.cwd(), provider=None)
        return
    yield Check("project", "ok", str(project.root))
    sections, problem_text = _sections(project)
    model = sections.get("model") if isinstance(sections.get("model"), dict) else {}
    assert isinstance(model, dict)
    named = _named_architecture(sections)
    asked = _ask_architecture(project, named)
    yield from (
        [Check("parameters", "bad", problem_text, "correct params.yaml")] if problem_text else _parameters(sections)
    )
    yield _weights(project, model.get("weights"))
    yield _pipeline(project)
    yield _git(project)
    yield _dvc(project)
    yield _data(project)
    servers, broken = _servers(project)
    yield from [broken] if broken else [_tracking(project), _prefect(servers)]
    yield _home(project)
    yield _temporary_files(project)
    yield from machine_checks(project.root, provider=_named_provider(sections))
    if asked is not None:
        yield _architecture(str(named), asked)


def _sections(project: Project) -> tuple[dict[str, Any], str | None]:
    try:
        return read_sections(project.params), None
    except (DarkroomError, OSError) as problem:
        return {}, str(problem)


def _parameters(sections: dict[str, Any]) -> Iterator[Check]:
    from flows.project.params import section_fields

    known = {field.name: field.type for field in section_fields()}
    problems = list(_section_problems(sections, known))
    for sentence in problems:
        yield Check("parameters", "bad", sentence, "correct params.yaml, or change it with --set section.key=value")
    if not problems:
        yield Check("parameters", "ok", f"{len(known)} sections of params.yaml are valid")


def _section_problems(sections: dict[str, Any], known: dict[str, Any]) -> Iterator[str]:
    from components.shared.errors import nearest
    from flows.project.params import with_architecture

    for name in sections:
        if name not in known:
            yield f"params.yaml: {name}: unknown section{nearest(str(name), known)}"
    try:
        sections = with_architecture(sections)
    except DarkroomError as problem:
        yield str(problem)
        known = {name: kind for name, kind in known.items() if name != "model"}
    for name, kind in known.items():
        values = sections.get(name)
        if values is not None and not isinstance(values, dict):
            yield f"params.yaml: {name}: should be a section with keys, is {values!r}"
            continue
        assert issubclass(kind, Settings)
        try:
            kind.from_section(name, values or {})
        except DarkroomError as problem:
            yield str(problem)


def _named_architecture(sections: dict[str, Any]) -> Any:
    """Of the section model, or what its scenario chooses; None where neither can be read."""
    from flows.project.params import with_architecture

    try:
        model = with_architecture(sections).get("model")
    except DarkroomError:
        return None
    return model.get("architecture") if isinstance(model, dict) else None


def _ask_architecture(project: Project, name: Any) -> subprocess.Popen[str] | None:
    """Asks beside the other checks; None where params.yaml names nothing that could be asked for."""
    if not isinstance(name, str):
        return None
    return subprocess.Popen(
        [sys.executable, "-c", _ASK_ARCHITECTURE, name],
        cwd=project.root,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


def _architecture(name: str, asked: subprocess.Popen[str]) -> Check:
    try:
        _, said = asked.communicate(timeout=_CHILD_SECONDS)
    except subprocess.TimeoutExpired:
        asked.kill()
        asked.communicate()
        return Check("architecture", "warn", f"{name}: torch didn't load within {_CHILD_SECONDS:g} s", "try again")
    last = said.strip().splitlines()[-1] if said.strip() else "torch can't be loaded"
    if asked.returncode == 0:
        return Check("architecture", "ok", f"{name} (torch {release('torch')}, torchvision {release('torchvision')})")
    remedy = "correct model.architecture" if "architecture" in last else "install Darkroom's packages again"
    return Check("architecture", "bad", last, remedy)


def _weights(project: Project, weights: Any) -> Check:
    if weights is None:
        return Check("weights", "ok", "none: training starts from scratch")
    if weights == "imagenet":
        return Check("weights", "ok", "imagenet: downloaded when training starts, unless they are here already")
    if str(weights).startswith("models:/"):
        return Check("weights", "ok", f"{weights}: looked up in the registry when training starts")
    file = project.root / str(weights)
    if not file.is_file():
        return Check("weights", "bad", f"{weights} isn't there", "set model.weights to null, imagenet or a file")
    if not os.access(file, os.R_OK):
        return Check("weights", "bad", f"{weights} can't be read", "allow reading it")
    return Check("weights", "ok", f"{weights}, {file.stat().st_size:,} bytes")


def _pipeline(project: Project) -> Check:
    from ruamel.yaml.error import YAMLError

    try:
        paths = data_paths(project)
    except (OSError, YAMLError, KeyError, TypeError, ValueError, IndexError, StopIteration) as problem:
        return Check(
            "pipeline",
            "bad",
            f"{PIPELINE} doesn't hold the stages {', '.join(STAGES)} ({_line(problem)})",
            f"restore {PIPELINE}",
        )
    return Check("pipeline", "ok", f"{PIPELINE}: {' → '.join(STAGES)} over {paths.raw.relative_to(project.root)}")


def _git(project: Project) -> Check:
    if shutil.which("git") is None:
        return Check("git", "warn", "git isn't installed", "install git, so that models can be traced to a revision")
    if not inside_git(project):
        return Check(
            "git", "warn", "this folder is in no git repository: lineage records unknown", "git init, and commit"
        )
    revision = ask_git(project, "rev-parse", "--short=12", "HEAD")
    if revision is None:
        return Check("git", "warn", "the repository has no commit yet: lineage records unknown", "git commit")
    # Without optional locks git doesn't even refresh its index.
    changes = ask_git(project, "--no-optional-locks", "status", "--porcelain")
    changed = ", with changes that aren't committed" if changes else ""
    return Check("git", "ok", f"revision {revision}{changed}")


def _dvc(project: Project) -> Check:
    if release("dvc") == "unknown":
        return Check("dvc", "bad", "DVC isn't installed", "install Darkroom's packages again")
    problem, home = dvc_problem(project), dvc_home(project)
    if problem is not None or home is None:
        return Check("dvc", "bad", *(problem or ("this folder is in no DVC project", "dvc init")))
    without_git = dvc_setting(home, "core", "no_scm").lower() == "true"
    return Check("dvc", "ok", f"DVC {release('dvc')}, {'without git' if without_git else 'beside git'}")


def _data(project: Project) -> Check:
    try:
        found, raw = data_version(project), data_paths(project).raw
    except Exception as problem:
        # A pointer file or dvc.yaml that is no YAML, or lacks a key: whatever is raised, it can't be used.
        return Check("data", "bad", f"the data version can't be read: {_line(problem)}", "restore data/raw.dvc")
    if found is None:
        return Check("data", "warn", "none yet", "darkroom ingest --data FOLDER; without it a run takes the digits")
    if raw.exists():
        return Check("data", "ok", f"version {found[:12]}, checked out")
    home = project.root / ".dvc"
    cached = home / "cache" / "files" / "md5" / found[:2] / found[2:]
    if cached.exists() or dvc_setting(home, "cache", "dir"):
        return Check("data", "ok", f"version {found[:12]}, not checked out: the next run does that")
    gone = f"version {found[:12]} is neither in {raw.relative_to(project.root)} nor in DVC's cache"
    if dvc_setting(home, "core", "remote"):
        return Check("data", "warn", f"{gone}: the next run fetches it from the remote", "dvc pull")
    return Check("data", "bad", gone, "darkroom ingest --data FOLDER")


def _servers(project: Project) -> tuple[Servers | None, Check | None]:
    try:
        return running_servers(project), None
    except (ValueError, TypeError, OSError):
        return None, Check("servers", "bad", f"{project.servers} can't be read", "delete it")


def _tracking(project: Project) -> Check:
    uri = tracking_uri(project)
    shown = without_password(uri)
    if uri.startswith(("http://", "https://")):
        reason = refusal(f"{uri.rstrip('/')}/health")
        if reason is None:
            return Check("tracking", "ok", f"MLflow answers at {shown}")
        return Check(
            "tracking", "bad", f"{shown} doesn't answer ({reason})", "start it, or correct or unset MLFLOW_TRACKING_URI"
        )
    if uri.startswith(_SQLITE):
        return _database(Path(uri.removeprefix(_SQLITE)))
    if "://" not in uri or uri.startswith("file:"):
        return Check("tracking", "bad", f"{shown}: MLflow keeps no runs in plain folders", "use sqlite:/// or http://")
    return Check("tracking", "warn", f"{shown} was not asked", "see that it is reachable before a run")


def _database(file: Path) -> Check:
    if not file.exists():
        if not writable(file.parent):
            return Check("tracking", "bad", f"{file} can't be made there", "allow writing there, or set DARKROOM_HOME")
        return Check("tracking", "ok", f"the first run makes {file}")
    if not os.access(file, os.W_OK):
        return Check("tracking", "bad", f"{file} can't be written", "allow writing it, or set DARKROOM_HOME")
    try:
        with closing(sqlite3.connect(f"{file.resolve().as_uri()}?mode=ro", uri=True, timeout=1.0)) as database:
            database.execute("SELECT count(*) FROM sqlite_master").fetchone()
    except sqlite3.Error as problem:
        return Check("tracking", "bad", f"{file} can't be read as a database ({problem})", "restore it")
    return Check("tracking", "ok", str(file))


def _prefect(servers: Servers | None) -> Check:
    if release("prefect") == "unknown":
        return Check("prefect", "bad", "Prefect isn't installed", "install Darkroom's packages again")
    chosen = os.environ.get("PREFECT_API_URL")
    address = chosen or (f"{servers.prefect}/api" if servers is not None else None)
    if address is None:
        return Check("prefect", "ok", f"Prefect {release('prefect')}: each command starts an ephemeral server")
    reason = refusal(f"{address.rstrip('/')}/health")
    if reason is None:
        return Check("prefect", "ok", f"Prefect answers at {without_password(address)}")
    remedy = "start it, or correct or unset PREFECT_API_URL" if chosen else "darkroom up"
    return Check("prefect", "bad", f"{without_password(address)} doesn't answer ({reason})", remedy)


def _home(project: Project) -> Check:
    if writable(project.home):
        return Check("folder", "ok", f"Darkroom's own files go to {project.home}")
    return Check("folder", "bad", f"{project.home} can't be written", "allow writing there, or set DARKROOM_HOME")


def _temporary_files(project: Project) -> Check:
    """Temporary files of killed writers; the next write of the same target removes them."""
    try:
        data = data_paths(project)
        folders = {project.root, data.raw.parent, data.report.parent, project.home, project.work}
    except Exception:
        # A broken dvc.yaml has a check of its own.
        folders = {project.root, project.home, project.work}
    found = [file for folder in sorted(folders) if folder.is_dir() for file in abandoned_temporaries(folder)]
    if found:
        shown = ", ".join(str(file) for file in found[:3])
        return Check(
            "temporary files",
            "warn",
            f"{len(found)} temporary files of killed processes, such as {shown}",
            "delete them",
        )
    return Check("temporary files", "ok", "no temporary files of killed processes")


def _named_provider(sections: dict[str, Any]) -> str | None:
    """What `quantize.provider` names; None where it names nothing that could be here."""
    quantize = sections.get("quantize")
    provider = quantize.get("provider") if isinstance(quantize, dict) else None
    return provider if isinstance(provider, str) else None


def _line(problem: BaseException) -> str:
    return " ".join((str(problem) or type(problem).__name__).split())
