"""Numbers that JSON allows and floats do not."""

from __future__ import annotations

import pytest

from smw.errors import RecordError
from smw.pipeline.values import decode


@pytest.mark.parametrize("data", [b'{"a":1e999}', b"[-1E+400]", b"1" + b"0" * 400 + b".0"])
def test_a_number_too_large_for_a_float_is_refused(data):
    """It would be read as an infinity, which records do not hold."""
    with pytest.raises(RecordError):
        decode(data)


@pytest.mark.parametrize("data", [b'{"a":1e100}', b'"e999"', b"[1e-999]", b"1" + b"0" * 400])
def test_large_numbers_that_fit_are_kept(data):
    """Exponents in range, text that looks like one, and whole numbers of any size pass."""
    assert decode(data) is not None
