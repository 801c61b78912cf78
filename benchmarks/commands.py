"""Start-up time, duration and peak memory of each command, on the embedded digits in a project of its own.

    python benchmarks/commands.py [--rounds 5]

Start-up is the time to the help of a command, the median of the rounds. Then each command runs once, in the order of a
model's life, from nothing; its memory is the largest resident set of any one of its processes. `ui`, `up` and `worker`
stay up until they are stopped: of them start-up alone is told.
"""

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median

import typer.main
from side_by_side import Usage, machine, usage

from flows.cli import app

_REPOSITORY = Path(__file__).resolve().parents[1]
_LIFE = (
    ["check"],
    ["ingest", "--data", "digits"],
    ["prepare"],
    ["train"],
    ["finetune"],
    ["evaluate"],
    ["quantize"],
    ["register"],
    ["promote"],
    ["models"],
    ["report"],
    ["run"],
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    print(machine("prefect", "mlflow", "dvc", "torch"))
    with tempfile.TemporaryDirectory() as scratch:
        project = Path(scratch) / "project"
        subprocess.run(["git", "clone", "-q", str(_REPOSITORY), str(project)], check=True)
        print("\n| command | to its help, s | peak, MiB |\n|---|---|---|")
        for name in ["", *sorted(typer.main.get_command(app).commands)]:  # type: ignore[attr-defined]
            helps = [run([*name.split(), "--help"], project) for _ in range(rounds)]
            print(f"| darkroom {name} | {median(one.seconds for one in helps):.2f} | {helps[0].peak_mib:.0f} |")
        print("\n| command | s | peak, MiB | exit code |\n|---|---|---|---|")
        for arguments in _LIFE:
            used = run(arguments, project)
            print(f"| darkroom {' '.join(arguments)} | {used.seconds:.1f} | {used.peak_mib:.0f} | {used.exit_code} |")


def run(arguments: list[str], project: Path) -> Usage:
    command = [sys.executable, "-m", "flows.cli", *arguments]
    return usage(command, folder=project, env=os.environ | {"PYTHONPATH": str(project)})


if __name__ == "__main__":
    main()
