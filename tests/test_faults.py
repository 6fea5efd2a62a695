"""A sample of the fault campaign (benchmarks/fault_campaign.py has every call).

A preloaded library ends the process just before its N-th write, truncate, fsync, rename or
unlink; the same command must then finish the store without losing what was committed.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import flowkit
from tests.faults.commands import COMMANDS
from tests.faults.extraction import main as extraction_main
from tests.make import clips

HERE = Path(__file__).resolve().parent / "faults"
SAMPLES = 10
KILLS_A_COMMAND = 4


@pytest.fixture(scope="module")
def shim(tmp_path_factory: pytest.TempPathFactory) -> Path:
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None or sys.platform != "linux":
        pytest.skip("needs a C compiler and Linux's preloading")
    library = tmp_path_factory.mktemp("shim") / "kill_at.so"
    subprocess.run(
        [compiler, "-shared", "-fPIC", "-O1", "-o", library, HERE / "kill_at.c", "-ldl"], check=True
    )
    return library


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("videos")
    clips.mjpeg_avi(folder / "long.avi", clips.moving_texture(10, height=16, width=16))
    clips.mjpeg_avi(folder / "short.avi", clips.moving_texture(3, height=16, width=16))
    return folder


def extraction(videos: Path, store: Path, shim: Path, **limits: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(HERE.parent.parent), "LD_PRELOAD": str(shim), **limits}
    return subprocess.run(
        [sys.executable, str(HERE / "extraction.py"), str(videos), str(store)],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def undisturbed_extraction(videos: Path, store: Path) -> str:
    """Extract in this process, which starts sooner; return what is printed."""
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        extraction_main(videos, store)
    return said.getvalue()


def committed(said: str) -> set[str]:
    return {line.split()[1] for line in said.splitlines() if line.startswith("committed")}


@pytest.fixture(scope="module")
def undisturbed(shim: Path, videos: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, int]:
    """An undisturbed store, and how many calls its making takes."""
    folder = tmp_path_factory.mktemp("undisturbed")
    done = extraction(videos, folder / "out.h5", shim, COUNT_CALLS=str(folder / "calls"))
    assert done.returncode == 0, done.stderr
    return folder / "out.h5", int((folder / "calls").read_text())


@pytest.mark.parametrize("sample", range(SAMPLES))
def test_a_kill_loses_nothing_committed(
    sample: int, shim: Path, videos: Path, undisturbed: tuple[Path, int], tmp_path: Path
) -> None:
    reference, calls = undisturbed
    store = tmp_path / "out.h5"
    kill_at = 1 + (calls - 1) * sample // (SAMPLES - 1)
    killed = extraction(videos, store, shim, KILL_AT=str(kill_at))
    assert killed.returncode == -signal.SIGKILL, f"call {kill_at} of {calls} was not reached"
    resumed = undisturbed_extraction(videos, store)
    assert resumed.splitlines()[-1] == "done"
    # What was committed before the kill is not made again.
    assert not committed(killed.stdout) & committed(resumed)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.h5"]
    assert flowkit.verify(store).sound
    with flowkit.open(store) as one, flowkit.open(reference) as two:
        assert list(one) == list(two)
        for video_id in two:
            assert np.array_equal(one[video_id].flow(), two[video_id].flow())


@pytest.fixture(scope="module")
def killed_commands(shim: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, object]]:
    """Results of killing each command at a few of its calls, by name."""
    folder = tmp_path_factory.mktemp("commands")
    words = [sys.executable, str(HERE / "commands.py"), str(folder / "work"), str(folder / "result.json")]
    paths = os.pathsep.join([str(HERE.parent.parent), *filter(None, [os.environ.get("PYTHONPATH")])])
    subprocess.run(
        [*words, "--samples", str(KILLS_A_COMMAND)],
        env={**os.environ, "PYTHONPATH": paths, "LD_PRELOAD": str(shim)},
        check=True,
        timeout=600,
    )
    return dict(json.loads((folder / "result.json").read_text()))


@pytest.mark.parametrize("name", COMMANDS)
def test_a_killed_command_goes_on_or_starts_cleanly(
    name: str, killed_commands: dict[str, dict[str, object]]
) -> None:
    assert killed_commands[name]["kill_points"] == KILLS_A_COMMAND
    assert not killed_commands[name]["faults"]


@pytest.mark.parametrize("share", [0.05, 0.4, 0.7])
def test_a_full_disk_is_said_and_nothing_half_done_passes(
    share: float, shim: Path, videos: Path, undisturbed: tuple[Path, int], tmp_path: Path
) -> None:
    store = tmp_path / "out.h5"
    full = extraction(videos, store, shim, FAIL_FROM=str(max(2, int(undisturbed[1] * share))))
    assert "no_space" in full.stdout or "NoSpaceError" in full.stderr, full
    assert "Segmentation" not in full.stderr
    if store.exists():
        assert flowkit.verify(store).sound
    undisturbed_extraction(videos, store)
    assert flowkit.verify(store).sound
    with flowkit.open(store) as opened:
        assert list(opened) == ["long", "short"]
        assert not opened.failures
