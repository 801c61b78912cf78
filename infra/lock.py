"""Resolves pyproject.toml into requirements.lock, pinned and hashed, without download addresses. Needs uv.

Older pips, such as the one that comes with Python 3.11, check hashes of `package` and `package[extra]` apart: what is
asked for both ways stands in the lock both ways.
"""

import re
import subprocess
from pathlib import Path

LOCK = Path("requirements.lock")
RESOLVE = (
    "uv pip compile pyproject.toml --group dev --extra s3 --universal --python-version 3.11 "
    "--constraint infra/constraints.txt --generate-hashes --no-emit-index-url --no-annotate --no-header "
    f"--no-strip-extras --quiet --output-file {LOCK}"
)
_WITH_EXTRAS = re.compile(r"^([A-Za-z0-9_.-]+)\[[^\]]*\]")


def both_ways(text: str) -> str:
    """The lock with each package that stands with extras standing without them too."""
    entries = []
    for entry in re.split(r"(?m)^(?=[A-Za-z0-9])", text):
        entries.append(entry)
        bare = _WITH_EXTRAS.sub(r"\1", entry, count=1)
        if bare != entry:
            entries.append(bare)
    return "".join(entries)


if __name__ == "__main__":
    subprocess.run(RESOLVE.split(), check=True)
    LOCK.write_text(both_ways(LOCK.read_text()))
