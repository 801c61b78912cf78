"""A packaged model asked as MLflow's scoring server asks it, in a process that can import little else.

    python -I -B package_trial.py REQUEST.json

It runs as a file and imports nothing of Darkroom: the code that answers comes from the package, or is missing.
The request holds `package` (its folder), `packages` (all that may be imported, with what they require), `isolation`
(the file that sees to it), `bodies` (a file for each request) and `answer`, where these go: `replies` with the status,
the text and the seconds of each, and `foreign`, the modules of Darkroom that came from elsewhere.
"""

import json
import runpy
import sys
import time
from pathlib import Path
from typing import Any


def main(request_file: str) -> None:
    request = json.loads(Path(request_file).read_text(encoding="utf-8"))
    runpy.run_path(request["isolation"])["forget_other_packages"](request["packages"])
    import mlflow.pyfunc

    model = mlflow.pyfunc.load_model(request["package"])
    replies = [_reply(model, Path(body).read_bytes()) for body in request["bodies"]]
    foreign = sorted(_foreign(Path(request["package"])))
    Path(request["answer"]).write_text(json.dumps({"replies": replies, "foreign": foreign}), encoding="utf-8")


def _reply(model: Any, body: bytes) -> dict[str, Any]:
    """What the server would answer to POST /invocations."""
    from mlflow.exceptions import MlflowException
    from mlflow.pyfunc import scoring_server

    started = time.perf_counter()
    try:
        answer = scoring_server.invocations(body, "application/json", model, model.metadata.get_input_schema())
        status, text = answer.status, answer.response
    except MlflowException as problem:
        status, text = problem.get_http_status_code(), problem.serialize_as_json()
    # Whatever else is raised is the server's fault, as it would say.
    except Exception as problem:
        status, text = 500, f"{type(problem).__name__}: {problem}"
    return {"status": status, "text": text, "seconds": time.perf_counter() - started}


def _foreign(package: Path) -> list[str]:
    own = {name: module for name, module in sys.modules.items() if name.partition(".")[0] == "components"}
    places = {name: Path(module.__file__ or "") for name, module in own.items()}
    return [name for name, place in places.items() if not place.is_relative_to(package)]


if __name__ == "__main__":
    main(sys.argv[1])
