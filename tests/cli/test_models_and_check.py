"""`report`, `models` and `check` as commands, before there is anything and after one real, tiny run."""

import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from projects import QUICK, clean_environment, isolate, new_project, stored_folder, write_shapes
from ruamel.yaml import YAML

from components.promotion.ledger import Entry
from components.records.lineage import LINEAGE
from components.shared.errors import ServiceError, SettingsError
from components.shared.files import read_json, sha256_of_file, write_json
from flows.console.tables import show_table
from flows.project.dvc import data_paths, data_version, stage_digest
from flows.project.fingerprint import code_digest
from flows.project.project import open_project
from flows.registry.decision import RolledBack, answer
from flows.registry.lineage import version_lineage
from flows.registry.reproduce import reproduce_version
from flows.registry.rollback import rollback
from flows.registry.verify_lineage import trace
from flows.registry.versions import list_models
from flows.report.page import write_report
from flows.serving.predict import open_version
from flows.session.session import Prepared, Session, open_session
from flows.steps.prepare import Prepare
from flows.steps.promote import Promote, Promoted
from flows.steps.quantize import export_folder
from flows.steps.step import Results
from flows.tracking import ledger, registry
from flows.tracking.connection import artifact_folder
from flows.tracking.packaging import write_package

Darkroom = Callable[..., subprocess.CompletedProcess[str]]

_TINY = (
    *QUICK,
    "model.architecture=lenet5",
    "train.epochs=1",
    "finetune.epochs=0",
    "promote.floors=null",
    # Versions are made here that have no package of their own to check.
    "promote.serving_check=false",
    "promote.ceilings={log_loss: 100.0}",
)
_HOSTILE = "<i>stripes"


def call(folder: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "flows.cli.main", *arguments],
        cwd=folder,
        env=clean_environment(**variables),
        capture_output=True,
        text=True,
        timeout=300,
    )


def last_line(answer: subprocess.CompletedProcess[str]) -> Any:
    return json.loads(answer.stdout.splitlines()[-1])


def by_name(record: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {check["name"]: check for check in record["checks"]}


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, prefect_api: str) -> tuple[Path, dict[str, Any]]:
    """A project with one promoted version, made once for this module, and the result of its run."""
    root = tmp_path_factory.mktemp("trained")
    folder, shapes = new_project(root / "project"), write_shapes(root / "shapes", each=25)
    (shapes / "stripes").rename(shapes / _HOSTILE)
    (shapes / "circle" / "broken.png").write_bytes(b"no image")
    settings = [part for setting in _TINY for part in ("--set", setting)]
    answer = call(folder, "run", "--data", str(shapes), *settings, "--json", PREFECT_API_URL=prefect_api)
    assert answer.returncode == 0, answer.stderr
    return folder, last_line(answer)


@pytest.fixture
def inside(trained: tuple[Path, dict[str, Any]], monkeypatch: pytest.MonkeyPatch) -> Path:
    """The trained project as the working directory, for calls that need no process of their own."""
    folder, _ = trained
    monkeypatch.chdir(folder)
    isolate(monkeypatch)
    return folder


@pytest.fixture(scope="module")
def page(trained: tuple[Path, dict[str, Any]]) -> str:
    folder, _ = trained
    answer = call(folder, "report", "--out", "pages/report.html")
    assert answer.returncode == 0, answer.stderr
    return (folder / "pages" / "report.html").read_text(encoding="utf-8")


def test_nothing_trained_is_said_and_leaves_nothing_behind(darkroom: Darkroom, project_folder: Path) -> None:
    before = sorted(project_folder.rglob("*.db"))
    report = darkroom("report", "--out", "report.html")
    assert report.returncode == 2
    assert "darkroom run" in report.stderr
    assert "Traceback" not in report.stderr
    assert not (project_folder / "report.html").exists()
    models = darkroom("models")
    assert models.returncode == 0
    assert "no registered version yet" in models.stdout
    assert last_line(darkroom("models", "--json")) == {
        "name": "digits",
        "champion": None,
        "challenger": None,
        "previous": None,
        "versions": [],
        "ledger": [],
        "ledger_problem": None,
    }
    assert sorted(project_folder.rglob("*.db")) == before


def test_models_lists_the_version_as_the_run_reported_it(trained: tuple[Path, dict[str, Any]]) -> None:
    folder, result = trained
    record = last_line(call(folder, "models", "--json"))
    (version,) = record["versions"]
    assert record["champion"] == version["version"] == result["version"]
    assert version["aliases"] == ["champion"]
    assert version["served"] == result["served"]
    assert version["accuracy"] == pytest.approx(result["metrics"][f"onnx_{result['served']}"]["accuracy"], abs=1e-6)
    assert version["bytes"] == result["bytes"]
    assert (version["verdict"], version["reason"]) == ("promoted", result["reasons"][0])
    assert version["run_id"] == result["run_id"]
    (entry,) = record["ledger"]
    assert (entry["number"], entry["action"], entry["version"]) == (1, "promoted", result["version"])


@pytest.mark.usefixtures("inside")
def test_models_is_shown_as_plain_lines_where_there_is_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    record = list_models(show=True)
    lines = capsys.readouterr().out.splitlines()
    (row,) = [line for line in lines if record.versions[0].run_id[:12] in line]
    assert "@champion" in row
    assert not [line for line in lines if "\x1b" in line]


def test_the_page_shows_what_the_run_reported(trained: tuple[Path, dict[str, Any]], page: str) -> None:
    _, result = trained
    served = result["metrics"][f"onnx_{result['served']}"]
    assert f"{served['accuracy']:.4f}" in page
    assert f"{served['macro_f1']:.4f}" in page
    for known in (
        result["run_id"],
        result["data_version"],
        result["split_digest"],
        f"{result['bytes']:,}",
        *result["reasons"],
    ):
        assert known in page
    assert "circle/broken.png" in page
    assert "This version is @champion and serves." in page
    assert f"Scores of the {result['served']} file on" in page
    assert 'alt="Bars of each file' in page
    assert "What could not be read" not in page


def test_a_class_named_like_markup_stays_text(page: str) -> None:
    assert "<i>stripes" not in page
    assert "&lt;i&gt;stripes" in page


def test_mistakes_are_single_pictures_while_the_data_is_there_and_one_grid_when_it_is_not(
    inside: Path, page: str
) -> None:
    assert 'class="errors"' in page
    raw = inside / "data" / "raw"
    raw.rename(inside / "data" / "elsewhere")
    try:
        without = write_report(Path("without.html")).read_text(encoding="utf-8")
    finally:
        (inside / "data" / "elsewhere").rename(raw)
    assert 'class="errors"' not in without
    assert "got wrong with the highest confidence" in without


@pytest.mark.usefixtures("inside")
def test_a_page_that_cannot_be_written_is_one_sentence() -> None:
    with pytest.raises(SettingsError, match=r"--out data: is a folder; name a file in it"):
        write_report(Path("data"))


def test_check_finds_a_sound_project_fit(trained: tuple[Path, dict[str, Any]]) -> None:
    folder, result = trained
    answer = call(folder, "check", "--json")
    record = last_line(answer)
    assert answer.returncode == 0
    assert record["fit"] is True
    assert not [check for check in record["checks"] if check["state"] == "bad"]
    found = by_name(record)
    assert result["data_version"][:12] in found["data"]["found"]
    assert "lenet5" in found["architecture"]["found"]


def test_check_names_every_problem_at_once_and_changes_nothing(
    trained: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    folder = tmp_path / "broken"
    shutil.copytree(trained[0], folder, ignore=shutil.ignore_patterns(".git", ".darkroom", "cache", "raw"))
    params = YAML(typ="safe", pure=True).load((folder / "params.yaml").read_text(encoding="utf-8"))
    params["model"] |= {"architecture": "lenet6", "weights": "gone.pth"}
    params["train"]["batch_size"] = -1
    params["evaluate"]["topk"] = params["evaluate"].pop("top_k")
    YAML(typ="safe", pure=True).dump(params, folder / "params.yaml")
    (folder / "dvc.yaml").write_text("stages: {}\n", encoding="utf-8")
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*") if "__pycache__" not in path.parts}
    answer = call(
        folder,
        "check",
        "--json",
        MLFLOW_TRACKING_URI="http://somebody:hidden@127.0.0.1:9",
        PREFECT_API_URL="http://127.0.0.1:9/api",
    )
    record = last_line(answer)
    assert answer.returncode == 2
    assert record["fit"] is False
    bad = [check for check in record["checks"] if check["state"] == "bad"]
    assert {check["name"] for check in bad} >= {
        "parameters",
        "architecture",
        "weights",
        "pipeline",
        "dvc",
        "tracking",
        "prefect",
    }
    assert all(check["remedy"] for check in bad)
    problems = " ".join(check["found"] for check in bad)
    for word in ("train.batch_size", "did you mean top_k?", "did you mean lenet5?", "gone.pth", "127.0.0.1:9"):
        assert word in problems
    assert "hidden" not in answer.stdout + answer.stderr
    after = {path: path.stat().st_mtime_ns for path in folder.rglob("*") if "__pycache__" not in path.parts}
    assert after == before


def test_check_outside_of_a_project_says_where_to_go(tmp_path: Path) -> None:
    repository = Path(__file__).resolve().parents[2]
    answer = call(tmp_path, "check", PYTHONPATH=str(repository))
    assert answer.returncode == 2
    assert "go to a folder that holds params.yaml and dvc.yaml" in answer.stdout
    assert "gpu" in answer.stdout


def test_a_name_from_outside_cannot_steer_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    show_table("versions", ("name", "reason"), [("[red]x[/red]", "\x1b[2J wiped")])
    shown = capsys.readouterr().out
    assert "\x1b" not in shown
    assert "[red]x[/red]" in shown


# From here on the tests build on each other in order: a second version is registered, waits, serves, fails, is deleted.


@pytest.fixture(scope="module")
def life(trained: tuple[Path, dict[str, Any]]) -> Iterator["Life"]:
    """The trained project with a second version, which holds the file of the same run that wasn't chosen."""
    folder, result = trained
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        isolate(patch)
        yield Life(folder, result["run_id"], result["served"])


@dataclass(frozen=True)
class Life:
    folder: Path
    run_id: str
    served: str

    def session(self, *settings: str) -> Session:
        return open_session(str(self.folder), list(settings))

    def prepared(self) -> Prepared:
        project = open_project(self.folder)
        digest = read_json(data_paths(project).split / "leakage.json")["split_digest"]
        return Prepared(str(data_version(project)), digest, stage_digest(project, "augment"))

    def decide(self, number: str, *settings: str, again: bool = True) -> Promoted:
        """The step as it is, without the orchestrator around it."""
        return Promote(number, again=again).run(self.session(*settings), Results(self.prepared()))

    def register_other(self) -> str:
        session = self.session()
        first = registry.get_version(session.tracking, "digits", "1")
        other = "fp32" if self.served == "int8" else "int8"
        file = export_folder(session, self.run_id) / f"model_{other}.onnx"
        changed = {"served": other, "sha256": sha256_of_file(file)}
        keep = ("step", "data_version", "split_digest", "processor")
        with tempfile.TemporaryDirectory() as scratch:
            return registry.register(
                session.tracking,
                "digits",
                run_id=self.run_id,
                package=write_package(file, Path(scratch) / "package"),
                tags={name: first.tags[name] for name in keep} | changed,
                description="",
            ).number

    def lineage(self) -> Path:
        """The record of version 1."""
        tracking = self.session().tracking
        return version_lineage(tracking, registry.get_version(tracking, "digits", "1")) / LINEAGE

    def aliases(self) -> dict[str, str]:
        return ledger.aliases(self.session().tracking, "digits")

    def entries(self) -> list[Entry]:
        return ledger.read_ledger(self.session().tracking, "digits").entries


_LENIENT = "promote.max_drop_against_champion={accuracy: 1.0}"
_FEW = "promote.min_images_against_champion=1"


def test_mlflows_pages_show_the_card_the_data_and_the_signature(life: Life) -> None:
    import mlflow

    client = life.session().tracking.client
    version = client.get_model_version("digits", "1")
    assert version.description.startswith("# digits version 1")
    assert "| log loss of the served file |" in version.description
    assert f"get-artifact?path=card%2Fv1%2Fconfusion.png&run_uuid={life.run_id}" in version.description
    assert "<i>stripes" not in version.description
    shown = {file.path for file in client.list_artifacts(life.run_id, "card/v1")}
    assert shown == {f"card/v1/{name}" for name in ("model_card.md", "confusion.png", "curves.png", "errors.png")}
    assert [one.dataset.name for one in client.get_run(life.run_id).inputs.dataset_inputs] == ["digits"]
    info = mlflow.models.get_model_info("models:/digits/1")
    assert info.signature.inputs.input_names() == ["image"]
    assert {"label", "probability", "ood_score", "model"} <= set(info.signature.outputs.input_names())
    assert info.saved_input_example_info["pandas_orient"] == "split"
    assert set(version.tags) <= {
        *("served", "step", "sha256", "accuracy", "macro_f1", "bytes", "data_version", "split_digest", "processor"),
        *("lineage", "file", "package_sha256", "status", "darkroom.published"),
    }
    assert "of 3 classes (\\<i\\>stripes, circle, square)" in client.get_registered_model("digits").description
    assert client.get_registered_model("digits ledger").description.startswith("Every decision about digits")


def test_what_passes_waits_for_a_person_where_that_is_asked_for(life: Life) -> None:
    assert life.register_other() == "2"
    outcome = life.decide("2", "promote.approval=true", _LENIENT, _FEW)
    assert (outcome.status, outcome.promoted) == ("awaiting approval", False), outcome.reasons
    assert life.aliases() == {"champion": "1", "challenger": "2"}
    assert list_models(show=False).challenger == "2"
    with pytest.raises(SettingsError, match="version 1 doesn't wait for approval"):
        answer("digits", "1", action="promoted", by="Ada", reason="it looks right")
    with pytest.raises(SettingsError, match="digits has no version 9"):
        answer("digits", "9", action="refused", by="Ada", reason="it looks wrong")
    assert answer("digits", "challenger", action="promoted", by="Ada", reason="it looks right").champion == "2"
    assert life.aliases() == {"champion": "2", "previous": "1"}
    assert (life.entries()[-1].who, life.entries()[-1].reasons) == ("Ada", ["approved by Ada: it looks right"])
    with pytest.raises(SettingsError, match=r"doesn't wait for approval .it was promoted by Ada"):
        answer("digits", "2", action="refused", by=None, reason="too late")
    assert life.decide("2", again=False).status == "promoted"
    assert len(life.entries()) == 3


def test_a_rollback_goes_back_and_says_when_it_cannot(life: Life) -> None:
    assert rollback.fn(reason="a test") == RolledBack(champion="1", was="2")
    assert life.aliases() == {"champion": "1"}
    with pytest.raises(SettingsError, match="no earlier champion"):
        rollback.fn()
    assert life.entries()[-1].reasons == ["a test"]
    # What was rolled back isn't promoted again by the next run, not by other rules either, only by who asks for it.
    outcome = life.decide("2", "promote.approval=false", again=False)
    assert (outcome.promoted, outcome.status) == (False, "rolled back")
    entry = life.entries()[-1]
    (sentence,) = outcome.reasons
    assert sentence == (
        f"it was rolled back by {entry.who} on {entry.moment} (a test), version 1 serves; "
        "to promote it after all: darkroom promote --version 2"
    )


def test_a_rolled_back_version_is_called_so_everywhere(life: Life) -> None:
    entry, tracking = life.entries()[-1], life.session().tracking
    listed = {one.version: one for one in list_models(show=False).versions}
    assert (listed["2"].verdict, listed["2"].reason) == ("rolled back", "a test")
    assert (listed["2"].decided_by, listed["2"].decided_at) == (entry.who, entry.when)
    assert listed["1"].verdict == "promoted"
    version = tracking.client.get_model_version("digits", "2")
    assert version.tags["status"] == "rolled back"
    assert "promoted" not in version.tags
    assert f"**Rolled back** ({entry.who}, {entry.moment}): a test" in version.description
    serving = f"**Version 1 serves** (`@champion`): restored by a rollback from version 2 by {entry.who}"
    assert serving in tracking.client.get_registered_model("digits").description
    page = write_report(Path("rolled_back.html"), "digits/2").read_text(encoding="utf-8")
    assert "Rolled back" in page
    assert f"Decided by {entry.who}, {entry.moment}" in page
    assert "This version no longer serves. Version 1 is @champion now." in page
    assert {link.how for link in trace("digits/2", show=False).links if link.link == "ledger"} == {
        f"the file that the gate decided on (entry 3; by entry {entry.number} it is rolled back)"
    }


def test_a_step_that_fails_leaves_the_aliases_and_the_next_one_finishes_it(life: Life) -> None:
    place = artifact_folder(open_project(life.folder)) / life.run_id / "artifacts" / "card"
    aside = place.rename(place.with_name("aside"))
    place.write_text("in the way")
    with pytest.raises(ServiceError, match="can't be stored"):
        life.decide("2", "promote.approval=false")
    assert life.aliases() == {"champion": "1"}
    place.unlink()
    aside.rename(place)
    entries = life.entries()
    assert life.decide("2", again=False).promoted
    assert life.aliases() == {"champion": "2", "previous": "1"}
    assert life.entries() == entries


def test_a_champion_that_was_deleted_is_named_and_can_be_rolled_back(life: Life) -> None:
    life.session().tracking.client.delete_model_version("digits", "2")
    for ask in (lambda: life.decide("1"), lambda: open_version(None)):
        with pytest.raises(SettingsError, match="the champion, digits version 2, was deleted"):
            ask()
    assert len(life.entries()) == 5
    assert rollback.fn() == RolledBack(champion="1", was="2")
    assert life.aliases() == {"champion": "1"}


def test_the_lineage_is_followed_from_pixel_to_file(life: Life) -> None:
    found = trace(None, show=False)
    assert (found.name, found.version, found.whole) == ("digits", "1", True)
    states = {link.link: link.state for link in found.links}
    assert states.pop("git revision") == "not checked"
    assert set(states.values()) == {"verified"}
    assert len(states) == 12
    tracking = life.session().tracking
    sha256 = registry.get_version(tracking, "digits", "1").sha256
    registry.annotate(tracking, registry.get_version(tracking, "digits", "1"), tags={"sha256": "f" * 64})
    broken = [link.link for link in trace("digits@champion", show=True).links if link.state == "broken"]
    assert broken == ["ONNX file", "ledger"]
    registry.annotate(tracking, registry.get_version(tracking, "digits", "1"), tags={"sha256": sha256})
    stored = stored_folder(tracking, registry.get_version(tracking, "digits", "1"))
    away = stored.rename(stored.with_name("away"))
    gone = trace(None, show=False)
    away.rename(stored)
    assert ([link.link for link in gone.links if link.state == "missing"], gone.whole) == (["package"], False)
    for wanted, sentence in (("digits", "should read NAME@ALIAS"), ("digits@best", "no alias @best")):
        with pytest.raises(SettingsError, match=sentence):
            trace(wanted, show=False)


def test_a_test_split_that_shares_images_with_training_is_named(life: Life) -> None:
    """Another seed makes another split, so that test images stand among those that were trained on."""
    assert life.register_other() == "3"
    session = life.session("split.seed=8")
    prepared = Prepare().run(session, Results())
    outcome = life.decide("3")
    rules = {rule.rule: rule for rule in outcome.rules}
    assert outcome.status == "refused"
    assert rules["leak proof is for this split"].passed is False
    trained_on = int(rules["test images that it was trained on"].value)
    assert 0 < trained_on <= 11
    taken_out = life.entries()[-1].record["comparison"]["taken_out"]
    assert taken_out >= trained_on
    assert (
        f"({taken_out} taken out: it was trained on them or their near duplicates)"
        in rules["test images against champion v1"].value
    )
    life.session("split.seed=7")
    assert Prepare().run(session, Results()).split_digest != prepared.split_digest


def test_a_version_that_is_trained_again_comes_out_the_same(life: Life, prefect_api: str) -> None:
    before = life.entries()
    answered = call(life.folder, "reproduce", "champion", "--json", PREFECT_API_URL=prefect_api)
    assert answered.returncode == 0, answered.stderr
    record = last_line(answered)
    # Which way to int8 is the quickest may be another one the second time, on a machine that others work on.
    differing = [finding for finding in record["findings"] if not finding["same"] and not finding["chosen_by_time"]]
    assert differing == []
    named = {finding["what"] for finding in record["findings"]}
    assert named >= {"data", "settings", "packages", "machine", "weights", "scores", "int8 recipes"}
    # Of each format a file is compared, whatever was chosen: int8 is made again in the way of then.
    assert {finding["what"] for finding in record["findings"] if finding["kind"] == "file"} == {
        f"ONNX {name}" for name in ("fp32", "fp16", "int8")
    }
    assert record["outcome"].startswith("weights the same; the file of each format the same")
    assert record["same"] is not any(finding["chosen_by_time"] for finding in record["findings"])
    assert life.entries() == before


@pytest.mark.parametrize(
    ("git", "sentence"),
    [
        ("unknown", "it was trained outside of git, by other code than the current"),
        ("f" * 40, "its git revision ffffffffffff isn't in this repository"),
    ],
)
def test_a_version_whose_code_is_gone_is_not_trained_again(life: Life, git: str, sentence: str) -> None:
    kept = life.lineage()
    record = read_json(kept)
    write_json(kept, record | {"code": "0" * 64, "git": git})
    try:
        with pytest.raises(SettingsError, match=sentence):
            reproduce_version("1", name=None, show=False)
    finally:
        write_json(kept, record)


def test_changes_that_were_never_committed_are_named(life: Life) -> None:
    """By `reproduce`; and by `lineage`, which looks whether the commit holds the code all the same."""
    identity = ("-c", "user.name=x", "-c", "user.email=x@x")
    for command in (("add", "-A"), (*identity, "commit", "-qm", "x")):
        subprocess.run(["git", *command], cwd=life.folder, check=True)
    revision = subprocess.run(["git", "rev-parse", "HEAD"], cwd=life.folder, capture_output=True, text=True, check=True)
    kept = life.lineage()
    record = read_json(kept)
    git = f"{revision.stdout.strip()}+changes"
    of_commit = code_digest(life.folder)
    for code, state, expected in (
        (of_commit, "verified", "holds the code that was used; the working tree held other changes"),
        ("0" * 64, "not checked", f"it was trained on commit {git[:12]} and changes in the working tree"),
    ):
        write_json(kept, record | {"code": code, "git": git})
        link = trace("digits/1", show=False).links[0]
        assert (link.link, link.state) == ("git revision", state)
        assert expected in link.how
    write_json(kept, record | {"code": "0" * 64, "git": git})
    try:
        with pytest.raises(SettingsError, match="with changes of the code that were never committed"):
            reproduce_version("1", name=None, show=False)
    finally:
        write_json(kept, record)
