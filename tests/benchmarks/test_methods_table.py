"""The table of methods, the curve and still pairs on one tiny pair: every row runs, with its errors."""

from __future__ import annotations

import dataclasses
import json
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from benchmarks import error_curve, still_pairs
from benchmarks.methods_table import (
    BESIDE,
    CV2,
    SKIMAGE,
    Method,
    farneback,
    markdown,
    measure,
    methods,
    relative_errors,
    scikit_image,
)
from benchmarks.tvl1_pairs import Pair
from flowkit.tvl1.params import PRESETS

SHIFT_PX = (2, 1)
"""Of the second frame: to the right, down."""


def shifted(size: tuple[int, int] = (64, 80)) -> Pair:
    """Return a smooth random image and itself moved, with the flow of that."""
    height, width = size
    noise = np.random.default_rng(0).uniform(0, 255, (height + 8, width + 8)).astype(np.float32)
    image = cv2.normalize(cv2.GaussianBlur(noise, (0, 0), 2), None, 0, 255, cv2.NORM_MINMAX)  # type: ignore[call-overload]
    right, down = SHIFT_PX
    codes = image.astype(np.uint8)
    first, second = codes[4:-4, 4:-4], codes[4 - down : -4 - down, 4 - right : -4 - right]
    true = np.empty((2, height, width), np.float32)
    true[0], true[1] = SHIFT_PX
    return Pair(name="made", frames=np.stack([first, second]), true=true)


def test_every_method_solves_a_pair_and_has_its_row() -> None:
    pairs = [shifted()]
    report = measure(methods(), {"made": pairs, "again": pairs}, rounds=1, slow_rounds=1)
    rows = report["sets"]["made"]["cases"]
    expected = {
        "DIS ultrafast",
        "DIS fast",
        "DIS medium",
        "Farneback",
        CV2,
        *(f"flowkit {p}" for p in PRESETS),
    }
    assert expected <= set(rows) <= expected | {SKIMAGE}
    assert all(row["aee_px"]["made"] < 1 for name, row in rows.items() if name.startswith("flowkit"))
    assert list(report["relative_aee"][CV2].values()) == pytest.approx([1, 1, 1])
    lines = markdown(report).splitlines()
    assert len(lines) == 2 + len(rows)
    assert lines[0] == f"|  | ms a pair, made | ms a pair, again | made | {' | '.join(BESIDE)} |"


@pytest.mark.parametrize("name", ["DIS medium", "Farneback", SKIMAGE])
def test_u_comes_first_and_points_to_the_right(name: str) -> None:
    if name == SKIMAGE:
        pytest.importorskip("skimage")
    u, v = methods()[name].solve(shifted((96, 96)).frames)[:, 16:-16, 16:-16]
    assert np.median(u) == pytest.approx(SHIFT_PX[0], abs=0.3)
    assert np.median(v) == pytest.approx(SHIFT_PX[1], abs=0.3)


def test_without_scikit_image_its_row_is_absent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "skimage.registration", None)
    assert scikit_image() is None
    assert SKIMAGE not in methods()


def test_relative_errors_are_the_geometric_mean_and_the_worst_pair() -> None:
    rows = {CV2: {"aee_px": {"a": 1.0, "Urban2": 2.0}}, "ours": {"aee_px": {"a": 4.0, "Urban2": 0.5}}}
    assert list(relative_errors(rows)["ours"].values()) == pytest.approx([1.0, 4.0, 4.0])


def test_pairs_of_unknown_flow_have_no_errors() -> None:
    pair = dataclasses.replace(shifted(), true=None)
    report = measure({"Farneback": Method(solve=farneback)}, {"real": [pair]}, rounds=1, slow_rounds=1)
    assert "aee_px" not in report["sets"]["real"]["cases"]["Farneback"]
    assert report["relative_aee"] == {}


def test_sets_of_a_file_replace_a_presets_values(tmp_path: Path) -> None:
    file = tmp_path / "sets.json"
    file.write_text(json.dumps({"fewer": {"preset": "fast", "iterations": 20}}))
    sets = error_curve.read_sets(file)
    assert sets == {"fewer": dataclasses.replace(PRESETS["fast"], iterations=20)}
    assert error_curve.grouped(sets, only=True) == {error_curve.VARIANT: sets}
    assert set(error_curve.grouped(sets, only=False)[error_curve.PRESET]) == set(PRESETS)


def test_the_sets_of_the_curve_run() -> None:
    groups = error_curve.grouped({}, only=False)
    frames = shifted((48, 56)).frames
    for named in groups.values():
        for params in named.values():
            assert error_curve.solver_method(params).solve(frames).shape == (2, 48, 56)


def test_still_pairs_are_equal_or_differ_by_noise() -> None:
    equal, noise = (still_pairs.still([shifted()], noise=noise)[0] for noise in (False, True))
    assert still_pairs.change(equal) == 0
    # Two independent normals differ by 2 / sqrt(pi) of their deviation in the mean.
    assert still_pairs.change(noise) == pytest.approx(still_pairs.NOISE_GREY * 1.13, rel=0.2)
    report = still_pairs.measure({"equal": [equal]}, rounds=1)
    assert len(still_pairs.markdown(report).splitlines()) == 3
