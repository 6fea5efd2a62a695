from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

from flowkit.flow_files.flo import write_flo
from flowkit_cli.compare import command
from tests.make import stores


def run(*words: object) -> Result:
    words = (*words, "--jobs", 1)
    return CliRunner().invoke(command, [str(word) for word in words], catch_exceptions=False)


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Path, Path]:
    a = {"x": stores.steady(2, 1, 0), "y": stores.steady(2, 0, 1)}
    b = {"x": stores.steady(2, 1, 0), "y": stores.steady(2, 0, 3)}
    return stores.write_store(tmp_path / "a.h5", a), stores.write_store(tmp_path / "b.h5", b)


def test_status_follows_the_largest_mean_error(pair: tuple[Path, Path]) -> None:
    assert run(*pair).exit_code == 0
    assert run(*pair, "--max-epe", 2).exit_code == 0
    done = run(*pair, "--max-epe", 1.9)
    assert done.exit_code == 1
    assert "y: mean EPE 2.0000 px, expected at most 1.9" in done.stderr


def test_table_has_the_worst_video_first_and_all_last(pair: tuple[Path, Path]) -> None:
    lines = run(*pair).stdout.splitlines()
    assert [line.split()[-1] for line in lines[-3:-1]] == ["y", "x"]
    assert lines[-1].endswith("all 2 videos")
    assert lines[-1].split()[0] == "1.00000"
    assert lines[-1].split()[4] == "25.000%"


def test_json_has_what_the_library_found(pair: tuple[Path, Path]) -> None:
    found = json.loads(run(*pair, "--json", "--max-epe", 0).stdout)
    assert found["passes"] is False
    assert found["overall"]["epe_mean_px"] == 1.0
    assert [video["difference"]["epe_max_px"] for video in found["videos"]] == [0, 2]


def test_json_knows_no_nan(tmp_path: Path) -> None:
    path = stores.write_store(tmp_path / "s.h5", {"empty": stores.steady(0, 0, 0)})
    done = run(path, path, "--json")
    assert "NaN" not in done.stdout
    assert json.loads(done.stdout)["overall"]["epe_mean_px"] is None


def test_missing_videos_fail_unless_common_is_asked_for(pair: tuple[Path, Path], tmp_path: Path) -> None:
    more = {name: stores.steady(2, 1, 0) for name in ("x", "y", "z")}
    larger = stores.write_store(tmp_path / "c.h5", more)
    done = run(larger, pair[0])
    assert done.exit_code == 1
    assert "z: only in" in done.stderr
    assert run(larger, pair[0], "--common").exit_code == 0


def test_worst_are_drawn(pair: tuple[Path, Path], tmp_path: Path) -> None:
    done = run(*pair, "--pictures", tmp_path / "worst", "--worst", 1)
    assert [path.name for path in (tmp_path / "worst").iterdir()] == ["01_y_00000.png"]
    assert "01_y_00000.png" in done.stderr


def test_unknown_pixels_are_said(tmp_path: Path) -> None:
    flow = stores.steady(1, 1, 0)[0]
    flow[:, 0] = np.nan
    write_flo(tmp_path / "truth.flo", flow)
    path = stores.write_store(tmp_path / "s.h5", {"x": stores.steady(1, 1, 0)})
    done = run(path, tmp_path / "truth.flo")
    assert "left out: 20 of 240 pixels (8.3%), unknown in a or b" in done.stdout
    assert json.loads(run(path, tmp_path / "truth.flo", "--json").stdout)["overall"]["n_unknown"] == 20
    assert "left out" not in run(path, path).stdout
