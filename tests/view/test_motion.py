from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import flowkit
from flowkit.view.motion import EDGES_PX, find_cuts, measure_motion
from tests.make import stores


def test_steady_flow_is_measured_exactly(tmp_path: Path) -> None:
    path = stores.write_store(tmp_path / "s.h5", {"a": stores.steady(5, 3, 4)}, codec="i16")
    with flowkit.open(path) as store:
        motion = measure_motion(store["a"])[0]
    assert (motion.mean_px, motion.median_px, motion.p95_px, motion.max_px) == (5, 5, 5, 5)
    assert motion.field_means_px == (5,) * 5
    assert motion.histogram[EDGES_PX.index(8.0)] == 1  # 4 to 8 px
    assert (motion.static_fraction, motion.wide_fraction, motion.cuts) == (0, 0, ())


def test_histogram_is_that_of_the_magnitudes(tmp_path: Path) -> None:
    flow = stores.noise(6, seed=1)
    path = stores.write_store(tmp_path / "s.h5", {"a": flow}, codec="i16")
    with flowkit.open(path) as store:
        motion, stored = measure_motion(store["a"])[0], store["a"].flow()
    speed = np.hypot(stored[:, 0], stored[:, 1])
    expected = np.histogram(speed, [0, *EDGES_PX, np.inf])[0] / speed.size
    # sqrt(u² + v²) and hypot may fall on two sides of an edge: a pixel in 1440 each
    assert motion.histogram == pytest.approx(tuple(expected), abs=3 / 1440)
    assert motion.mean_px == pytest.approx(float(speed.mean()), rel=1e-5)


def test_stillness_and_reach_beyond_tsns_bound(tmp_path: Path) -> None:
    flow = stores.steady(4, 0, 0)
    flow[:, 0, :3] = 25  # a quarter of the rows, u only
    path = stores.write_store(tmp_path / "s.h5", {"a": flow}, codec="i16")
    with flowkit.open(path) as store:
        motion = measure_motion(store["a"])[0]
    assert motion.static_fraction == 0.75
    assert motion.wide_fraction == 0.125


def test_sampling_measures_so_many_fields_and_looks_for_no_cut(tmp_path: Path) -> None:
    path = stores.write_store(tmp_path / "s.h5", {"a": stores.noise(9, seed=2)})
    with flowkit.open(path) as store:
        motion = measure_motion(store["a"], most_fields=3)[0]
    assert (motion.n_fields, motion.fields, motion.cuts) == (3, (0, 4, 8), None)


def test_video_without_flow_has_no_motion(tmp_path: Path) -> None:
    path = stores.write_store(tmp_path / "s.h5", {"a": stores.steady(0, 0, 0)})
    with flowkit.open(path) as store:
        motion = measure_motion(store["a"])[0]
    assert (motion.n_fields, motion.mean_px, motion.max_px, motion.cuts) == (0, 0.0, 0.0, ())


def test_one_exploding_field_is_a_cut() -> None:
    means = [1.0] * 10 + [40.0] + [2.0] * 10
    assert find_cuts(means, width=340) == (10,)


def test_two_cuts_near_one_another_are_two() -> None:
    means = [1.0] * 6 + [40.0] + [1.0] * 3 + [50.0] + [1.0] * 6
    assert find_cuts(means, width=340) == (6, 10)


@pytest.mark.parametrize(
    "means",
    [
        [0.0] * 20,
        [5.0] * 20,
        [1.0] * 10 + [2.0] + [1.0] * 10,  # small against the image
        [1.0] * 10 + [40.0] * 10,  # movement begins, and stays
        [1.0, 3, 9, 20, 40, 40, 20, 9, 3, 1],  # a fast movement comes and goes
        [40.0, 1, 1, 1],  # nothing before it to compare with
        [1.0, 1, 1, 40],
        [],
    ],
)
def test_what_moves_otherwise_is_no_cut(means: list[float]) -> None:
    assert find_cuts(means, width=340) == ()


def test_cut_spoils_as_many_fields_as_a_pair_spans() -> None:
    means = [1.0] * 8 + [40.0, 41.0, 40.0] + [1.0] * 8
    assert find_cuts(means, width=340) == ()
    assert find_cuts(means, width=340, step=3) == (9,)
