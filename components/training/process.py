"""`python -m components.training.process JOB.json`: one training in a process of its own, which can be killed.

Events go to the file named by DARKROOM_EVENTS, a JSON object a line, or to standard error in words. The process ends
itself when its parent is gone, so that a killed run leaves nothing behind that works on.
"""

import os
import sys
import threading
from dataclasses import asdict
from pathlib import Path
from typing import Any

from components.errors import DarkroomError, record_of
from components.files import read_json, write_json
from components.progress import EVENTS_VARIABLE, EventFile
from components.training.fit import fit
from components.training.memory import keep_freed_memory
from components.training.settings import TrainingJob

RESULT = "result.json"


def main() -> int:
    job = TrainingJob.from_section("job", read_json(Path(sys.argv[1])))
    if os.environ.get("DARKROOM_PARENT_PIPE"):
        threading.Thread(target=_end_with_parent, daemon=True).start()
    # Of processes that train together the first one tells.
    leads = int(os.environ.get("RANK", os.environ.get("LOCAL_RANK", "0"))) == 0
    path = os.environ.get(EVENTS_VARIABLE) if leads else None
    events = EventFile(path) if path else None

    def tell(**event: Any) -> None:
        if events is not None:
            events.write(**event)
        else:
            print(event, file=sys.stderr, flush=True)

    try:
        result = fit(
            job,
            on_epoch=lambda report: tell(event="epoch", **asdict(report)),
            on_step=lambda done, total: events(job.step, done, total) if events else None,
            say=lambda sentence: tell(event="said", sentence=sentence),
        )
    except DarkroomError as problem:
        tell(event="failed", stage=job.step, **record_of(problem))
        return problem.exit_code
    # Written last: its presence says that the job is done.
    if leads:
        record = {"best_epoch": result.best_epoch, "history": [asdict(report) for report in result.history]}
        write_json(Path(job.output) / RESULT, record | {"diagnosis": asdict(result.diagnosis)})
    return 0


def _end_with_parent() -> None:
    """The parent holds the other end of standard input and never writes: it ends only when the parent does."""
    # Not sys.stdin: a thread that waits in it would break the interpreter's own shutdown.
    while os.read(0, 1024):
        pass
    os._exit(130)


if __name__ == "__main__":
    keep_freed_memory()
    sys.exit(main())
