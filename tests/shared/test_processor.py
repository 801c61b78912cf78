"""Which processors add 8-bit products in 16 bits, where full 8-bit weights overflow."""

import pytest

from components.export.quantization import DYNAMIC, S8S8, U8S8, U8S8_REDUCED
from components.shared.processor import Processor


@pytest.mark.parametrize(
    ("features", "overflows"),
    [
        (["avx2"], True),
        (["avx2", "avx512f"], True),
        (["avx2", "avx512f", "avx512_vnni"], False),
        (["avx2", "avx_vnni"], False),
        (["avx2", "amx_int8"], False),
        ([], False),
    ],
)
def test_full_8_bit_weights_overflow_on_x86_without_vnni(features: list[str], overflows: bool) -> None:
    processor = Processor("a processor", features)
    assert U8S8.saturates(processor) is overflows
    assert DYNAMIC.saturates(processor) is overflows
    assert not U8S8_REDUCED.saturates(processor)
    assert not S8S8.saturates(processor)
