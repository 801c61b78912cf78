"""Sends requests to a packaged model as MLflow's scoring server does, in a process that can import little else.

    python -I -B package_probe.py REQUEST.json

This file runs as a script and imports nothing of Darkroom: all code of Darkroom must come from the package.
REQUEST.json names `package` (its folder), `packages` (the only ones to import, with their requirements), `isolation`
(the file with block_other_imports), `bodies` (a file per request) and `report`, the file to write. The report holds
`replies`, the status, text and seconds of each request, and `foreign`, the modules of Darkroom that were loaded from
outside the package.
"""

import json
import runpy
import sys
import time
from pathlib import Path
from typing import Any


def main(request_file: str) -> None:
    request = json.loads(Path(request_file).read_text(encoding="utf-8"))
    runpy.run_path(request["isolation"])["block_other_imports"](request["packages"])
    import mlflow.pyfunc

    model = mlflow.pyfunc.load_model(request["package"])
    replies = [_reply(model, Path(body).read_bytes()) for body in request["bodies"]]
    foreign = sorted(_foreign(Path(request["package"])))
    Path(request["report"]).write_text(json.dumps({"replies": replies, "foreign": foreign}), encoding="utf-8")


def _reply(model: Any, body: bytes) -> dict[str, Any]:
    """The server's response to POST /invocations."""
    from mlflow.exceptions import MlflowException
    from mlflow.pyfunc import scoring_server

    started = time.perf_counter()
    try:
        response = scoring_server.invocations(body, "application/json", model, model.metadata.get_input_schema())
        status, text = response.status, response.response
    except MlflowException as problem:
        status, text = problem.get_http_status_code(), problem.serialize_as_json()
    # The server returns any other exception as its own error.
    except Exception as problem:
        status, text = 500, f"{type(problem).__name__}: {problem}"
    return {"status": status, "text": text, "seconds": time.perf_counter() - started}


def _foreign(package: Path) -> list[str]:
    own = {name: module for name, module in sys.modules.items() if name.partition(".")[0] == "components"}
    files = {name: Path(module.__file__ or "") for name, module in own.items()}
    return [name for name, file in files.items() if not file.is_relative_to(package)]


if __name__ == "__main__":
    main(sys.argv[1])
