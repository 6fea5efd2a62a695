from __future__ import annotations

import pytest

from flowkit.errors import InvalidParameterError
from flowkit.sampling import spread


def test_spread_keeps_the_ends_and_never_repeats() -> None:
    assert spread(range(10), 3) == [0, 4, 9]
    assert spread(range(5, 8), 9) == [5, 6, 7]
    assert spread(range(9), 1) == [4]
    assert len(set(spread(range(1000), 999))) == 999
    with pytest.raises(InvalidParameterError):
        spread(range(3), 0)
