"""Real servers, workers, schedules and pages: started as a person starts them, looked at with a browser."""

import contextlib
import json
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import psutil
import pytest
from projects import QUICK, clean_environment, new_project, write_shapes

from components.shared.files import read_json
from flows.project.params import override

pytestmark = pytest.mark.timeout(600)

_SMALL = (
    *QUICK,
    "model.architecture=lenet5",
    "train.epochs=1",
    "finetune.epochs=1",
    "promote.floors=null",
    "promote.ceilings={log_loss: 100.0}",
)
_DEAD_PROXY = dict.fromkeys(("http_proxy", "HTTPS_PROXY", "ALL_PROXY"), "http://127.0.0.1:9")
"""As in a company's shell, and nobody listens there: servers, workers and their runs find one another all the same."""
_FREE_PORTS = ("--prefect-port", "0", "--mlflow-port", "0")


@dataclass(frozen=True)
class Home:
    """A project of its own, and the console command in it."""

    folder: Path

    def command(self, *arguments: str) -> list[str]:
        return [sys.executable, "-m", "flows.cli.main", *arguments]

    def call(self, *arguments: str, **variables: str) -> "subprocess.CompletedProcess[str]":
        command = self.command(*arguments)
        return subprocess.run(
            command,
            cwd=self.folder,
            env=clean_environment(**_DEAD_PROXY, **variables),
            capture_output=True,
            text=True,
            timeout=200,
        )

    def start(self, *arguments: str) -> "subprocess.Popen[str]":
        with (self.folder / "console.txt").open("w") as console:
            return subprocess.Popen(
                self.command(*arguments),
                cwd=self.folder,
                env=clean_environment(**_DEAD_PROXY),
                stdout=console,
                stderr=console,
                text=True,
            )

    @property
    def console(self) -> str:
        return (self.folder / "console.txt").read_text()

    @property
    def servers(self) -> dict[str, str]:
        found: dict[str, str] = read_json(self.folder / ".darkroom" / "servers.json")
        return found

    def processes(self) -> list[psutil.Process]:
        """Our own that work in the project's folder (DVC has ephemeral helpers there, too)."""

        def ours(process: psutil.Process) -> bool:
            try:
                if process.status() == psutil.STATUS_ZOMBIE or Path(process.cwd()) != self.folder:
                    return False
                return any(part in word for word in process.cmdline() for part in ("flows.", "prefect", "mlflow"))
            except (psutil.Error, OSError):
                return False

        return [process for process in psutil.process_iter() if ours(process)]


@dataclass(frozen=True)
class Followed:
    """What was seen of a scheduled run, from the schedule to the end."""

    deployed: "subprocess.CompletedProcess[str]"
    runs: list[dict[str, Any]]
    """All runs of the server, newest last."""
    waited: bool
    """A second scheduled run stood in line while the first one worked."""
    most_at_once: int
    """Pipelines that were seen running at the same time."""
    again: "subprocess.CompletedProcess[str]"
    """`darkroom up` while it runs already."""
    by_hand: dict[str, Any]
    """The result of a `darkroom run` afterwards."""


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Home]:
    folder = tmp_path_factory.mktemp("servers")
    write_shapes(folder / "shapes")
    found = Home(new_project(folder / "project"))
    override(found.folder / "params.yaml", _SMALL, check=lambda params: None)
    yield found
    for process in found.processes():
        process.kill()


@pytest.fixture(scope="module")
def up(home: Home) -> Iterator["subprocess.Popen[str]"]:
    process = home.start("up", *_FREE_PORTS)
    wait_for(lambda: "Ctrl-C" in home.console, 150, home, process)
    yield process
    process.kill()


@pytest.fixture(scope="module")
def followed(home: Home, up: "subprocess.Popen[str]") -> Followed:
    assert home.call("ingest", "--data", str(home.folder.parent / "shapes")).returncode == 0
    deployed = home.call("deploy")
    assert deployed.returncode == 0, deployed.stderr
    api = f"{home.servers['prefect']}/api"
    waited, most_at_once = follow_schedule(home, up, api)
    by_hand = home.call("run", "--json")
    assert by_hand.returncode == 0, by_hand.stderr
    return Followed(
        deployed=deployed,
        runs=ask(f"{api}/flow_runs/filter", {"sort": "EXPECTED_START_TIME_ASC"}),
        waited=waited,
        most_at_once=most_at_once,
        again=home.call("up", *_FREE_PORTS),
        by_hand=json.loads(by_hand.stdout.splitlines()[-1]),
    )


@pytest.fixture(scope="module")
def ui(home: Home, followed: Followed, up: "subprocess.Popen[str]") -> Iterator["subprocess.Popen[str]"]:
    up.send_signal(signal.SIGINT)
    up.wait(60)
    process = home.start("ui", *_FREE_PORTS)
    wait_for(lambda: "Ctrl-C" in home.console, 100, home, process)
    yield process
    process.kill()


def test_up_prints_both_addresses_and_says_that_there_is_no_gpu(home: Home, up: "subprocess.Popen[str]") -> None:
    assert f"Prefect  {home.servers['prefect']}" in home.console
    assert f"MLflow   {home.servers['mlflow']}" in home.console
    if not Path("/dev/nvidiactl").exists():
        assert "pool gpu; this machine has no GPU, so it trains on the CPU" in home.console


def test_deploy_prints_what_runs_where_and_when(followed: Followed) -> None:
    assert "pipeline/nightly: pool cpu, at 0 2 * * * UTC" in followed.deployed.stdout
    assert "train/gpu: pool gpu, on request" in followed.deployed.stdout


def test_schedule_is_followed_through_both_pools_to_a_registered_version(home: Home, followed: Followed) -> None:
    pipeline = next(run for run in followed.runs if run["auto_scheduled"])
    train = next(run for run in followed.runs if run["work_pool_name"] == "gpu")
    assert (pipeline["state_type"], pipeline["work_pool_name"]) == ("COMPLETED", "cpu")
    assert train["state_type"] == "COMPLETED"
    # It was the pipeline that asked for the training, and waited for it.
    assert pipeline["start_time"] < train["start_time"] < train["end_time"] < pipeline["end_time"]
    gpu_log = (home.folder / ".darkroom" / "logs" / "gpu-worker.log").read_text()
    assert re.search(r"train +ran ", gpu_log)
    cpu_log = (home.folder / ".darkroom" / "logs" / "cpu-worker.log").read_text()
    assert re.search(r"train +reused ", cpu_log)
    assert re.search(r"version 1 ", cpu_log)


def test_run_by_hand_finds_what_the_workers_did(followed: Followed) -> None:
    assert {step["state"] for step in followed.by_hand["steps"]} == {"reused"}
    assert followed.by_hand["version"] == "1"
    assert followed.by_hand["promoted"] is True
    by_hand = [run for run in followed.runs if run["deployment_id"] is None]
    assert [run["state_type"] for run in by_hand][-1] == "COMPLETED"


def test_two_pipelines_never_run_at_once(followed: Followed) -> None:
    assert followed.waited
    assert followed.most_at_once == 1


def test_second_up_says_where_the_first_one_is(home: Home, followed: Followed) -> None:
    assert followed.again.returncode == 2
    assert "run already" in followed.again.stderr
    assert "http://127.0.0.1:" in followed.again.stderr
    assert "Traceback" not in followed.again.stderr


def test_ctrl_c_stops_everything(home: Home, followed: Followed, up: "subprocess.Popen[str]") -> None:
    assert len(home.processes()) > 8
    up.send_signal(signal.SIGINT)
    assert up.wait(60) == 0
    assert home.processes() == []
    assert not (home.folder / ".darkroom" / "servers.json").exists()
    assert home.console.splitlines()[-2:] == [
        "stopping",
        "stopped: Prefect server, MLflow server, cpu worker, gpu worker",
    ]


def test_pages_show_runs_version_and_alias_in_a_browser(home: Home, ui: "subprocess.Popen[str]") -> None:
    prefect, mlflow = home.servers["prefect"], home.servers["mlflow"]
    (experiment,) = ask(f"{mlflow}/api/2.0/mlflow/experiments/search?max_results=9&filter=name='digits'")["experiments"]
    with browser_page() as page:
        page.goto(f"{mlflow}/#/experiments/{experiment['experiment_id']}/runs")
        page.get_by_text("train lenet5").first.wait_for(timeout=30_000)
        page.get_by_text("finetune lenet5").first.wait_for(timeout=30_000)
        page.goto(f"{mlflow}/#/models")
        row = page.get_by_role("row", name="digits Version")
        row.get_by_text("champion").first.wait_for(timeout=30_000)
        assert "Version 1" in row.inner_text()
        page.goto(f"{mlflow}/#/models/digits")
        page.get_by_text("Version 1").first.wait_for(timeout=30_000)
        page.get_by_text("champion").first.wait_for(timeout=30_000)
        page.goto(f"{prefect}/runs")
        page.get_by_text("auto-scheduled").first.wait_for(timeout=30_000)
        page.get_by_text("Completed").first.wait_for(timeout=30_000)
        shown = page.inner_text("body")
    assert "pipeline" in shown
    assert "train" in shown


def test_crash_of_a_server_is_reported_and_stops_the_rest(home: Home, ui: "subprocess.Popen[str]") -> None:
    server = next(process for process in home.processes() if "uvicorn" in process.cmdline())
    server.kill()
    assert ui.wait(60) == 1
    assert "the MLflow server stopped" in home.console
    assert "Traceback" not in home.console.split("(all of it in")[-1]
    assert home.processes() == []
    assert not (home.folder / ".darkroom" / "servers.json").exists()


def test_nothing_outlives_a_killed_ui(tmp_path: Path) -> None:
    home = Home(new_project(tmp_path / "project"))
    process = home.start("ui", *_FREE_PORTS)
    wait_for(lambda: len(home.processes()) >= 5, 60, home, process)
    process.kill()
    process.wait()
    wait_for(lambda: not home.processes(), 60, home)
    assert home.processes() == []


@pytest.mark.parametrize("option", ["--prefect-port", "--mlflow-port"])
def test_taken_port_names_the_option_to_change(tmp_path: Path, option: str) -> None:
    home = Home(new_project(tmp_path / "project"))
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        answer = home.call("up", *_FREE_PORTS, option, port)
    assert answer.returncode == 2
    assert answer.stderr.splitlines()[-1] == (
        f"darkroom: port {port} can't be used (another program uses it); "
        f"choose another with {option}, 0 takes any free one"
    )
    assert "Traceback" not in answer.stderr
    assert home.processes() == []


@pytest.mark.parametrize("command", [("deploy",), ("worker", "--pool", "gpu")])
def test_no_server_names_the_command_that_starts_one(tmp_path: Path, command: tuple[str, ...]) -> None:
    home = Home(new_project(tmp_path / "project"))
    answer = home.call(*command)
    assert answer.returncode == 2
    assert "no Prefect server runs for this project; start one with `darkroom up`" in answer.stderr
    dead = home.call(*command, PREFECT_API_URL="http://127.0.0.1:9/api")
    assert dead.returncode == 2
    assert "http://127.0.0.1:9/api doesn't answer" in dead.stderr
    assert "Traceback" not in answer.stderr + dead.stderr


def test_unknown_pool_gets_the_nearest_name(tmp_path: Path) -> None:
    answer = Home(new_project(tmp_path / "project")).call("worker", "--pool", "gup")
    assert answer.returncode == 2
    assert answer.stderr == "darkroom: there is no pool gup; did you mean gpu?\n"


def follow_schedule(home: Home, up: "subprocess.Popen[str]", api: str) -> tuple[bool, int]:
    """Lets the schedule fire every few seconds until one run works and one waits, then follows the first to its end."""
    deployment = ask(f"{api}/deployments/name/pipeline/nightly")
    schedule = f"{api}/deployments/{deployment['id']}/schedules/{deployment['schedules'][0]['id']}"
    ask(schedule, {"schedule": {"interval": 10}, "active": True}, method="PATCH")
    waited, fires, most_at_once = False, True, 0
    deadline = time.monotonic() + 400
    while time.monotonic() < deadline and up.poll() is None:
        runs = ask(f"{api}/flow_runs/filter", {"deployments": {"id": {"any_": [deployment["id"]]}}})
        waiting = [run for run in runs if run["state_name"] == "AwaitingConcurrencySlot"]
        waited = waited or bool(waiting)
        most_at_once = max(most_at_once, sum(run["state_type"] == "RUNNING" for run in runs))
        if waited and fires:
            ask(schedule, {"schedule": {"cron": "0 2 * * *"}, "active": True}, method="PATCH")
            fires = False
        if any(run["state_type"] in ("COMPLETED", "FAILED", "CRASHED") for run in runs):
            for run in waiting:
                ask(f"{api}/flow_runs/{run['id']}", method="DELETE")
            return waited, most_at_once
        time.sleep(1.0)
    raise AssertionError(f"no scheduled run ended: {home.console}")


def ask(address: str, body: Any = None, *, method: str | None = None) -> Any:
    """Prefect's server says 503 while its SQLite file is locked; its own client asks again then, and so do we."""
    data = None if body is None else json.dumps(body).encode()
    request = Request(address, data, {"Content-Type": "application/json"}, method=method)
    for attempt in range(30):
        try:
            with urlopen(request, timeout=120) as answer:
                text = answer.read()
            return json.loads(text) if text else None
        except HTTPError as problem:
            if problem.code != 503 or attempt == 29:
                raise
            time.sleep(1.0)
    raise AssertionError("unreachable")


def wait_for(
    condition: Callable[[], bool], seconds: float, home: Home, process: "subprocess.Popen[str] | None" = None
) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline or (process is not None and process.poll() is not None):
            raise AssertionError(f"waited in vain; the console says: {home.console}")
        time.sleep(0.25)


@contextlib.contextmanager
def browser_page() -> Iterator[Any]:
    """A page of a headless Chromium, Debian's own."""
    from playwright.sync_api import sync_playwright

    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.fail("no Chromium here to look at the pages with; apt-get install chromium")
    with sync_playwright() as playwright:
        # root, as which containers run, has no sandbox to offer.
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        try:
            yield browser.new_page(viewport={"width": 1400, "height": 1000})
        finally:
            browser.close()
