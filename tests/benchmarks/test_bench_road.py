"""The road of a frame, measured in processes of its own with codes that are there already."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from benchmarks.bench_road import run_apart, summary
from benchmarks.canned_engine import CannedSolver
from benchmarks.cuda_extraction import write_clips
from flowkit.errors import BackendError
from flowkit.store.codecs.scaled import FIELD_SCALE, FIXED_STEP

SIZE = (48, 64)


def canned(rate: float = 1e6) -> CannedSolver:
    codes = np.arange(3, dtype=np.int8).reshape(3, 1, 1, 1) * np.ones((3, 2, *SIZE), np.int8)
    return CannedSolver(codes, np.full(3, 1 / 8, np.float32), np.arange(3, dtype=np.float32), rate)


def test_a_run_apart_measures_each_kind_of_process(tmp_path: Path) -> None:
    solver = canned()
    np.savez(
        tmp_path / "codes.npz",
        codes=solver._codes,
        scales=solver._scales,
        largest_px=solver._largest_px,
    )
    write_clips(tmp_path / "one", SIZE, clips=1, frames=5)
    shutil.copytree(tmp_path / "one", tmp_path / "two")
    shutil.copy(tmp_path / "one" / "0.avi", tmp_path / "two" / "1.avi")
    few, many = (run_apart(tmp_path / name, 1, 1e6, tmp_path / "codes.npz") for name in ("one", "two"))
    assert (few["frames"], many["frames"]) == (5, 10)
    assert min(few["workers"], few["server"], few["coordinator"]) > 0
    made = summary([few], [many])
    assert set(made["cpu_ms_a_frame"]) == {"workers", "server", "coordinator", "all"}
    assert {"decode", "jpeg", "encode", "write"} <= set(made["stage_ms_a_frame"])


def test_the_canned_engine_goes_round_its_codes() -> None:
    solver, frames = canned(), np.zeros((5, *SIZE), np.uint8)
    pairs = np.array([[0, 1], [1, 2], [2, 3], [3, 4]], np.int32)
    made = solver.codes_batch(frames, pairs, quantizer=FIELD_SCALE)
    assert made.codes[:, 0, 0, 0].tolist() == [0, 1, 2, 0]
    assert made.largest_px.tolist() == [0, 1, 2, 0]
    assert solver.codes_batch(frames, pairs[:1], quantizer=FIELD_SCALE).codes[0, 0, 0, 0] == 1


def test_the_canned_engine_refuses_other_codes_and_floats() -> None:
    frames, pairs = np.zeros((2, *SIZE), np.uint8), np.array([[0, 1]], np.int32)
    with pytest.raises(BackendError, match="another size or type"):
        canned().codes_batch(frames, pairs, quantizer=FIXED_STEP)
    with pytest.raises(BackendError, match="no floats"):
        canned().flow_batch(frames, pairs)
