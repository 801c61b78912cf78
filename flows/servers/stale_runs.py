"""Runs whose worker was stopped or killed: nothing else reports to the server that they ended."""

import json
from typing import Any
from urllib.request import Request

import psutil

from flows.project.proxies import request

_ANSWER_SECONDS = 30.0
_ACTIVE_STATES = ("PENDING", "RUNNING", "CANCELLING")


def close_dead_runs(api: str) -> int:
    """Marks runs as crashed whose process is gone, so that they hold no deployment's slot; returns how many.

    Only for a server on loopback: all of its workers are on this machine.
    """
    wanted = {"flow_runs": {"state": {"type": {"any_": list(_ACTIVE_STATES)}}, "deployment_id": {"is_null_": False}}}
    dead = [run for run in _post(f"{api}/flow_runs/filter", wanted) if not _lives(run["infrastructure_pid"])]
    for run in dead:
        state = {
            "type": "CRASHED",
            "message": "its process is gone: its worker was stopped or killed, or the machine went down",
        }
        _post(f"{api}/flow_runs/{run['id']}/set_state", {"state": state, "force": True})
    return len(dead)


def _lives(pid: str | None) -> bool:
    try:
        return pid is not None and any("prefect" in word for word in psutil.Process(int(pid)).cmdline())
    except (ValueError, psutil.Error):
        return False


def _post(address: str, body: Any) -> Any:
    question = Request(address, json.dumps(body).encode(), {"Content-Type": "application/json"})
    with request(question, timeout=_ANSWER_SECONDS) as answer:
        return json.load(answer)
