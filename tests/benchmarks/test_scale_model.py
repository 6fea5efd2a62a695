"""The model of an extraction on many cores: the slowest of three limits."""

from __future__ import annotations

import pytest

from benchmarks.scale_model import Rates, predict

RATES = Rates(start_s=2.0, frame_cpu_s=0.01, pack_s=0.005, frame_bytes=10_000)


@pytest.mark.parametrize(
    ("videos", "cores", "disk_bytes_s", "seconds", "limit"),
    [
        (10, 2, 1e9, 2 + 1000 * 0.01 / 2, "the cores"),
        (1000, 64, 1e9, 2 + 1000 * 0.005, "the process that packs"),
        (10, 64, 1e6, 2 + 3 * 1000 * 10_000 / 1e6, "the shared disk"),
    ],
)
def test_the_slowest_part_limits(
    videos: int, cores: int, disk_bytes_s: float, seconds: float, limit: str
) -> None:
    found = predict(RATES, videos=videos, frames=1000, cores=cores, disk_bytes_s=disk_bytes_s)
    assert found.seconds == pytest.approx(seconds)
    assert found.limit == limit
