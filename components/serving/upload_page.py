"""The upload page of the scoring server: one HTML file that loads nothing else and sends images only to its server."""

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


def _digest(match: re.Match[str] | None) -> str:
    text = match.group(1) if match else ""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


@cache
def content_policy() -> str:
    """Content-Security-Policy: the page may run its own script, ask its own server, and show images given to it."""
    script, style = _digest(_SCRIPT.search(page())), _digest(_STYLE.search(page()))
    return (
        f"default-src 'none'; script-src {script}; style-src {style}; img-src blob: data:; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
