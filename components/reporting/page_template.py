"""Rendering of a page's template: escaped, and strict about missing values."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

Filters = Mapping[str, Callable[..., object]]


def render_template(name: str, filters: Filters | None = None, **values: Any) -> str:
    """The text of a template in the folder `templates`; file names that are no valid Unicode are shown with a `?`."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(Path(__file__).with_name("templates")),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters.update(filters or {})
    return environment.get_template(name).render(values).encode("utf-8", "replace").decode("utf-8")
