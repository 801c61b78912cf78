"""Start-up time, duration and peak memory of each command, on the embedded digits in a project of its own.

    python benchmarks/commands.py [--rounds 5]

Start-up is the time to the help of a command, the median of the rounds. Then each command runs once, in the order of a
model's life, from nothing; its memory is the largest resident set of any one of its processes. `serve`, `ui` and
`up` stay up until they are stopped, after 40 s. Of `approve` and `refuse`, which need a version that waits, and of
`deploy` and `worker`, which need `up`, start-up alone is reported. Searches and comparisons train for one epoch.
"""

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median

import typer.main
from photographs import photographs
from side_by_side import Usage, machine, refuse_busy_machine, usage

from flows.cli.main import app

_REPOSITORY = Path(__file__).resolve().parents[1]
_PHOTOGRAPHS = "photographs"
_SERVES_SECONDS = 40
_SHORT = ["--set", "train.epochs=1", "--set", "finetune.epochs=1"]
_LIFE = (
    ["check"],
    ["ingest", "--data", "digits"],
    ["prepare"],
    ["accept"],
    ["train"],
    ["finetune"],
    ["evaluate"],
    ["quantize"],
    ["register"],
    ["promote"],
    ["models"],
    ["lineage", "digits@champion"],
    ["report"],
    ["run"],
    ["predict", _PHOTOGRAPHS, "--out", "answers.csv"],
    ["features", "models:/digits@champion"],
    ["reproduce", "1"],
    ["architectures", "--size", "32"],
    ["tune", "--set", "tune.trials=1", *_SHORT],
    ["compare", "plain", "lenet5", *_SHORT],
    ["run", *_SHORT],
    ["ensemble", "models:/digits/1", "models:/digits/2"],
    ["rollback", "--reason", "tried"],
)
_SERVERS = (["serve"], ["ui"], ["up"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    refuse_busy_machine()
    print(machine("prefect", "mlflow", "dvc", "torch"))
    with tempfile.TemporaryDirectory() as scratch:
        project = Path(scratch) / "project"
        subprocess.run(["git", "clone", "-q", str(_REPOSITORY), str(project)], check=True)
        print("\n| command | to its help, s | peak, MiB |\n|---|---|---|")
        for name in ["", *sorted(typer.main.get_command(app).commands)]:  # type: ignore[attr-defined]
            helps = [run([*name.split(), "--help"], project) for _ in range(rounds)]
            print(f"| darkroom {name} | {median(one.seconds for one in helps):.2f} | {helps[0].peak_mib:.0f} |")
        print("\n| command | s | peak, MiB | exit code |\n|---|---|---|---|")
        photographs(None, project / _PHOTOGRAPHS, 200)
        for arguments in _LIFE:
            used = run(arguments, project)
            row = f"| darkroom {' '.join(arguments)} | {used.seconds:.1f} | {used.peak_mib:.0f} | {used.exit_code} |"
            print(row, flush=True)
        for arguments in _SERVERS:
            used = run(arguments, project, limit_s=_SERVES_SECONDS)
            print(f"| darkroom {' '.join(arguments)} | up for {used.seconds:.0f} | {used.peak_mib:.0f} | |", flush=True)


def run(arguments: list[str], project: Path, *, limit_s: int | None = None) -> Usage:
    ended = [] if limit_s is None else ["timeout", "--signal=INT", str(limit_s)]
    command = [*ended, sys.executable, "-m", "flows.cli.main", *arguments]
    return usage(command, folder=project, env=os.environ | {"PYTHONPATH": str(project)})


if __name__ == "__main__":
    main()
