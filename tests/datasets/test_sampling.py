from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowkit.datasets.sampling import Sampling
from flowkit.errors import InvalidParameterError

SAMPLINGS = st.builds(
    Sampling,
    segments=st.integers(1, 9),
    stack=st.integers(1, 9),
    short=st.sampled_from(["clamp", "wrap"]),
)


@given(sampling=SAMPLINGS, n_flow=st.integers(1, 200), seed=st.integers(0, 2**32))
def test_stacks_are_in_order_and_inside_the_video(sampling: Sampling, n_flow: int, seed: int) -> None:
    for starts in (sampling.centred(n_flow), sampling.random(n_flow, np.random.default_rng(seed))):
        assert starts.shape == (sampling.segments,)
        assert np.all(np.diff(starts) >= 0)
        assert np.all((starts >= 0) & (starts <= max(0, n_flow - sampling.stack)))
        fields = sampling.fields(starts, n_flow)
        assert fields.shape == (sampling.segments, sampling.stack)
        assert np.all((fields >= 0) & (fields < n_flow))
        if n_flow >= sampling.stack:
            assert np.all(np.diff(fields, axis=1) == 1)


@pytest.mark.parametrize("n_flow", [5, 6, 12, 99, 100, 101])
def test_centred_starts_are_those_of_tsn(n_flow: int) -> None:
    # TSN's test indices: tick = (frames - length + 1) / K; int(tick / 2 + tick k).
    tick = (n_flow - 5 + 1) / 3
    assert Sampling().centred(n_flow).tolist() == [int(tick / 2 + tick * k) for k in range(3)]


def test_random_starts_reach_every_place_of_their_own_part_alike() -> None:
    sampling, rng = Sampling(segments=2, stack=3), np.random.default_rng(0)
    drawn = np.array([sampling.random(12, rng) for _ in range(5000)])
    first, second = (np.bincount(drawn[:, k], minlength=10) for k in range(2))
    # 1000 each: 150 are 5 standard deviations of a binomial.
    assert np.all(np.abs(first[:5] - 1000) < 150)
    assert np.all(np.abs(second[5:] - 1000) < 150)
    assert (first[5:].sum(), second[:5].sum()) == (0, 0)


def test_short_videos_clamp_or_wrap() -> None:
    starts = Sampling().centred(3)
    assert starts.tolist() == [0, 0, 0]
    assert Sampling(short="clamp").fields(starts, 3)[0].tolist() == [0, 1, 2, 2, 2]
    assert Sampling(short="wrap").fields(starts, 3)[0].tolist() == [0, 1, 2, 0, 1]


@pytest.mark.parametrize("wrong", [{"segments": 0}, {"stack": 0}, {"short": "repeat"}])
def test_impossible_settings_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(InvalidParameterError, match=next(iter(wrong))):
        Sampling(**wrong)  # type: ignore[arg-type]


def test_a_video_without_flow_is_refused() -> None:
    with pytest.raises(InvalidParameterError, match="flow field"):
        Sampling().centred(0)
