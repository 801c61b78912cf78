"""The ways in which clients write base64 into a request."""

import base64

import pytest

from components.serving.scoring_requests import images_of
from components.shared.errors import DataError

CONTENT = bytes(range(256)) + b"\xfb\xff\xfe?"
TEXT = base64.b64encode(CONTENT).decode()


@pytest.mark.parametrize(
    "text",
    [
        TEXT,
        TEXT.rstrip("="),
        base64.urlsafe_b64encode(CONTENT).decode(),
        f"data:image/png;base64,{TEXT}",
        f"DATA:image/svg+xml;charset=utf-8;BASE64,{TEXT.rstrip('=')}",
        "\n".join(TEXT[at : at + 76] for at in range(0, len(TEXT), 76)),
    ],
    ids=["plain", "no padding", "base64url", "data URL", "data URL in capitals", "wrapped lines"],
)
def test_each_way_of_writing_base64_is_read(text: str) -> None:
    assert images_of([text])[0].read() == CONTENT


@pytest.mark.parametrize("text", ["no base64!", "data:image/png,plain text!", "abcde", "a=b="])
def test_what_is_no_base64_is_named(text: str) -> None:
    with pytest.raises(DataError, match="is no base64"):
        images_of([text])[0].read()
