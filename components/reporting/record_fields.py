"""What a record holds under a key: None where it holds nothing of that kind, as an older release's record may."""

import math
from collections.abc import Mapping
from typing import Any

Record = Mapping[str, Any]


def text_of(record: Record, key: str) -> str | None:
    value = record.get(key)
    return None if value is None else str(value)


def number_of(record: Record, key: str) -> float | None:
    value = record.get(key)
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def whole_of(record: Record | None, key: str) -> int | None:
    value = number_of(record or {}, key)
    return int(value) if value is not None and math.isfinite(value) else None


def flag_of(record: Record, key: str) -> bool | None:
    value = record.get(key)
    return value if isinstance(value, bool) else None
