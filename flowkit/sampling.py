"""A few of many: evenly spread indices."""

from __future__ import annotations

from flowkit.errors import InvalidParameterError


def spread(among: range, count: int) -> list[int]:
    """Return `count` numbers of a range, evenly spread with its ends, or all where there are no more."""
    if count < 1:
        raise InvalidParameterError(f"at least 1 of a range can be taken, got {count}")
    if count >= len(among):
        return list(among)
    if count == 1:
        return [among[len(among) // 2]]
    return [among[round(k * (len(among) - 1) / (count - 1))] for k in range(count)]
