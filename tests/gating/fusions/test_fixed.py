"""Given weights, the search for the best ones, and the oracle."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

pytest.importorskip("torch")

from gating.fusions import FUSIONS, Kind, kind_of
from gating.fusions.base import Sums, softmax
from gating.fusions.fixed import Search
from gating.statistics import top1
from tests.make.fusion_data import accuracy, clips, fuse_all


def test_fixed_weights_are_what_their_names_say() -> None:
    data = clips(10)
    scores = fuse_all(data, data, seed=0, names=[name for name in FUSIONS if kind_of(name) != Kind.LEARNED])
    np.testing.assert_array_equal(scores["rgb"], data.rgb)
    np.testing.assert_array_equal(scores["flow"], data.flow)
    np.testing.assert_array_equal(scores["average"], data.flow + data.rgb)
    np.testing.assert_array_equal(scores["weighted"], 1.5 * data.flow + data.rgb)
    np.testing.assert_array_equal(scores["average-probabilities"], softmax(data.flow) + softmax(data.rgb))
    np.testing.assert_array_equal(
        scores["weighted-probabilities"], 1.5 * softmax(data.flow) + softmax(data.rgb)
    )


def test_the_oracle_is_right_where_either_stream_is() -> None:
    data = clips(200)
    either = (data.flow.argmax(1) == data.labels) | (data.rgb.argmax(1) == data.labels)
    assert accuracy("oracle", data, data) == either.mean()
    assert either.mean() > max(accuracy("rgb", data, data), accuracy("flow", data, data))


def test_search_finds_the_better_stream_and_the_middle_of_ties() -> None:
    data = clips(200)
    useless = dataclasses.replace(data, flow=np.random.default_rng(5).normal(size=data.flow.shape) * 10)
    search = Search()
    search.fit(useless, seed=0)
    assert search.fraction is not None
    assert search.fraction < 0.1
    same = dataclasses.replace(data, rgb=data.flow)
    search.fit(same, seed=0)
    assert search.fraction == 0.5


@pytest.mark.parametrize("sums", ["scores", "probabilities"])
def test_search_is_at_least_as_good_as_any_fixed_weights_on_its_own_data(sums: Sums) -> None:
    data = clips(100)
    search = Search(sums=sums)
    search.fit(data, seed=0)
    others = ("rgb", "flow", "average-probabilities" if sums == "probabilities" else "average")
    assert top1(search.apply(data), data.labels) >= max(accuracy(name, data, data) for name in others)
