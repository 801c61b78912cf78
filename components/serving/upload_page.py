"""The page of the scoring server: one HTML file that asks for nothing from outside and sends images nowhere else."""

import base64
import hashlib
import re
from functools import cache
from pathlib import Path

_SCRIPT = re.compile(r"<script>(.*?)</script>", re.DOTALL)
_STYLE = re.compile(r"<style>(.*?)</style>", re.DOTALL)


@cache
def page() -> str:
    """The page's HTML."""
    return Path(__file__).with_name("page.html").read_text(encoding="utf-8")


def _digest(found: re.Match[str] | None) -> str:
    text = found.group(1) if found else ""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


@cache
def content_policy() -> str:
    """What a browser lets the page do: run its own script, ask its own server, show pictures that it was given."""
    script, style = _digest(_SCRIPT.search(page())), _digest(_STYLE.search(page()))
    return (
        f"default-src 'none'; script-src {script}; style-src {style}; img-src blob: data:; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
