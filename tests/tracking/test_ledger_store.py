"""The ledger on a real MLflow server: several processes decide at once, none of them knowing of the others."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from urllib.request import urlopen

import pytest
from projects import free_port

from components.promotion.ledger import Action, Draft, next_entry
from components.promotion.registration import LEDGER_SUFFIX, RegisterSettings
from components.shared.errors import DarkroomError, SettingsError
from flows.tracking import ledger
from flows.tracking.ledger import CHALLENGER, CHAMPION, PREVIOUS, Ledger
from flows.tracking.runs import Tracking

_RUN = "a" * 32
_AT_ONCE = """
import sys
from pathlib import Path
from mlflow import MlflowClient
from components.promotion.ledger import Draft
from flows.tracking import ledger
from flows.tracking.runs import Tracking

uri, name, version = sys.argv[1:]
tracking = Tracking(MlflowClient(uri), "0", "x", Path("."))
for turn in range(4):
    def draft(now):
        action = "promoted" if now.champion is None or int(version) > int(now.champion) else "refused"
        champion = version if action == "promoted" else now.champion
        return Draft(action, version, champion, f"process {version}", [f"turn {turn}"], {"compared with": now.champion})
    ledger.write(tracking, name, draft)
    ledger.sync_aliases(tracking, name)
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    home, port = tmp_path_factory.mktemp("mlflow"), free_port()
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    command += [
        "--backend-store-uri",
        f"sqlite:///{home}/mlflow.db",
        "--artifacts-destination",
        str(home / "artifacts"),
    ]
    environment = {**os.environ, "MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    with (home / "server.log").open("wb") as log:
        process = subprocess.Popen(
            command, env=environment, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
        )
    try:
        for _ in range(1200):
            try:
                urlopen(f"http://127.0.0.1:{port}/health", timeout=1).close()
                break
            except OSError:
                assert process.poll() is None, (home / "server.log").read_text()
                time.sleep(0.1)
        yield f"http://127.0.0.1:{port}"
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(timeout=30)


@pytest.fixture(scope="module")
def tracking(server: str) -> Tracking:
    from mlflow import MlflowClient

    return Tracking(MlflowClient(server), "0", "x", Path())


@pytest.fixture
def name(tracking: Tracking, request: pytest.FixtureRequest) -> str:
    """A model with three versions and an empty ledger, of its own for each test."""
    model = str(request.node.name)[:60]
    tracking.client.create_registered_model(model)
    for _ in range(3):
        tracking.client.create_model_version(model, source=f"runs:/{_RUN}/model", run_id=_RUN)
    return model


def draft(action: Action, version: str, champion: str | None) -> Draft:
    return Draft(action, version, champion, "somebody", [f"{action} {version}"], {"run_id": _RUN})


def decide(tracking: Tracking, name: str, *drafts: Draft) -> None:
    for one in drafts:
        ledger.write(tracking, name, lambda now, one=one: one)  # type: ignore[misc]
        ledger.sync_aliases(tracking, name)


def test_many_decisions_at_once_leave_one_winner_and_a_complete_ledger(
    tracking: Tracking, server: str, name: str
) -> None:
    processes = [subprocess.Popen([sys.executable, "-c", _AT_ONCE, server, name, number]) for number in "123"]
    assert [process.wait(timeout=120) for process in processes] == [0, 0, 0]
    entries = ledger.read_ledger(tracking, name).entries
    written = sorted((entry.version, entry.reasons[0]) for entry in entries)
    assert written == sorted((number, f"turn {turn}") for number in "123" for turn in range(4))
    champion = None
    for entry in entries:
        # Each decision was made after the one before it.
        assert entry.record["compared with"] == champion
        champion = entry.champion
    assert champion == "3"
    assert ledger.aliases(tracking, name)[CHAMPION] == "3"


def test_an_alias_that_many_set_at_once_is_set(tracking: Tracking, name: str) -> None:
    for turn in range(8):
        with ThreadPoolExecutor(6) as threads:
            done = [threads.submit(ledger._set_alias, tracking, name, f"turn-{turn}", number) for number in "123123"]
        assert all(one.result() for one in done)
        assert f"turn-{turn}" in ledger.aliases(tracking, name)


def test_a_decision_by_a_ledger_that_has_grown_counts_for_nothing(tracking: Tracking, name: str) -> None:
    seen = ledger.read_ledger(tracking, name)
    late = next_entry(seen.entries, draft("promoted", "2", "2"), when="2026-01-02T03:04:05+00:00")
    decide(tracking, name, draft("promoted", "1", "1"))
    assert not ledger.append(tracking, name, seen, late)
    assert [entry.version for entry in ledger.read_ledger(tracking, name).entries] == ["1"]
    decide(tracking, name, draft("promoted", "3", "3"))
    assert [entry.version for entry in ledger.read_ledger(tracking, name).entries] == ["1", "3"]


def test_aliases_follow_from_the_ledger(tracking: Tracking, name: str) -> None:
    decide(tracking, name, draft("promoted", "1", "1"), draft("awaiting approval", "2", "1"))
    assert ledger.aliases(tracking, name) == {CHAMPION: "1", CHALLENGER: "2"}
    decide(tracking, name, draft("promoted", "2", "2"), draft("refused", "3", "2"))
    assert ledger.aliases(tracking, name) == {CHAMPION: "2", PREVIOUS: "1", CHALLENGER: "3"}
    decide(tracking, name, draft("rolled back", "1", "1"))
    assert ledger.aliases(tracking, name) == {CHAMPION: "1"}


def test_a_crash_between_ledger_and_aliases_is_healed_by_the_next_call(tracking: Tracking, name: str) -> None:
    decide(tracking, name, draft("promoted", "1", "1"))
    ledger.write(tracking, name, lambda now: draft("promoted", "2", "2"))
    assert ledger.aliases(tracking, name) == {CHAMPION: "1"}
    ledger.sync_aliases(tracking, name)
    assert ledger.aliases(tracking, name) == {CHAMPION: "2", PREVIOUS: "1"}


def test_an_alias_that_was_moved_by_hand_is_put_right(tracking: Tracking, name: str) -> None:
    decide(tracking, name, draft("promoted", "1", "1"))
    tracking.client.set_registered_model_alias(name, CHAMPION, "3")
    ledger.sync_aliases(tracking, name)
    assert ledger.aliases(tracking, name) == {CHAMPION: "1"}


def test_a_failing_decision_writes_nothing_and_moves_nothing(tracking: Tracking, name: str) -> None:
    decide(tracking, name, draft("promoted", "1", "1"))
    before = ledger.read_ledger(tracking, name)

    def fail(now: Ledger) -> Draft:
        raise SettingsError("no way back")

    with pytest.raises(SettingsError, match="no way back"):
        ledger.write(tracking, name, fail)
    assert ledger.read_ledger(tracking, name) == before
    assert ledger.aliases(tracking, name) == {CHAMPION: "1"}


def test_a_champion_that_was_deleted_leaves_no_alias(tracking: Tracking, name: str) -> None:
    decide(tracking, name, draft("promoted", "1", "1"), draft("promoted", "2", "2"))
    tracking.client.delete_model_version(name, "2")
    ledger.sync_aliases(tracking, name)
    assert ledger.aliases(tracking, name) == {PREVIOUS: "1"}


def test_nothing_that_goes_missing_goes_unseen(tracking: Tracking, name: str) -> None:
    decide(tracking, name, *(draft("promoted", number, number) for number in "123"))
    of_ledger = name + LEDGER_SUFFIX
    tracking.client.delete_model_version(of_ledger, "3")
    with pytest.raises(DarkroomError, match="shortened: it held 3 entries and holds 2"):
        ledger.read_ledger(tracking, name)
    with pytest.raises(DarkroomError, match="shortened"):
        ledger.sync_aliases(tracking, name)
    tracking.client.delete_model_version(of_ledger, "1")
    with pytest.raises(DarkroomError, match=r"version 1 of .* was deleted"):
        ledger.read_ledger(tracking, name)
    tracking.client.delete_registered_model(of_ledger)
    with pytest.raises(DarkroomError, match="shortened: it held 3 entries and holds 0"):
        ledger.read_ledger(tracking, name)
    assert ledger.aliases(tracking, name)[CHAMPION] == "3"


def test_an_entry_that_was_changed_on_the_server_is_seen(tracking: Tracking, name: str) -> None:
    decide(tracking, name, draft("promoted", "1", "1"))
    (entry,) = ledger.read_ledger(tracking, name).entries
    other = json.dumps(vars(replace(entry, who="nobody")))
    tracking.client.set_model_version_tag(name + LEDGER_SUFFIX, "1", "darkroom.entry", other)
    with pytest.raises(DarkroomError, match="changed at entry 1"):
        ledger.read_ledger(tracking, name)


@pytest.mark.parametrize("name", ["a/b", "a:b", "a%b", "it's", 'a"b', "digits ledger", " x", "", "x" * 121])
def test_a_name_that_the_registry_cannot_hold_is_refused(name: str) -> None:
    with pytest.raises(SettingsError, match=r"params\.yaml: register\.name"):
        RegisterSettings.from_section("register", {"name": name})
