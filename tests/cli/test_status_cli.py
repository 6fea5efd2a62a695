"""`flowkit status` of a run that works, that was killed, and that is done."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from pathlib import Path

import numpy as np

from tests.make import clips
from tests.make.command import command_line, flowkit_says


def test_status_of_a_run_from_its_begin_to_its_end(tmp_path: Path) -> None:
    videos, store = tmp_path / "videos", tmp_path / "out.h5"
    videos.mkdir()
    texture = clips.moving_texture(4, height=32, width=40)
    clips.lossless_mkv(videos / "a.mkv", texture)
    clips.lossless_mkv(videos / "z.mkv", np.full_like(texture, 255))
    hangs = ("--method", "tests.make.flow_functions:hangs_at_white")
    words = ("extract", videos, store, "--native", "--jobs", 1, *hangs)
    assert flowkit_says("status", store).returncode == 2
    run = subprocess.Popen(command_line(*words), stderr=subprocess.DEVNULL)
    try:
        told: dict[str, object] = {}
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            asked = flowkit_says("status", store, "--json")
            told = json.loads(asked.stdout) if asked.returncode == 0 else {}
            if told and told["run"]["done"] == 1 and told["run"]["at_work"]:  # type: ignore[index]
                break
            time.sleep(0.2)
        assert (told["state"], told["parts"], told["left"]) == ("running", 1, 1)
        assert told["run"]["at_work"][0]["video_id"] == "z"  # type: ignore[index]
        text = flowkit_says("status", store).stdout
        assert f"extract is running: process {run.pid} on " in text
        assert "this run       1 of 2 videos, 0 failed, " in text
        assert "at work        z: " in text
    finally:
        run.send_signal(signal.SIGKILL)
        run.wait()
    dead = flowkit_says("status", store)
    assert dead.returncode == 1
    assert f"extract died: process {run.pid} on " in dead.stdout
    assert "the same command again goes on from there" in dead.stdout
    done = flowkit_says(*words, "--video-timeout", 1)
    assert done.returncode == 1, done.stderr
    ended = flowkit_says("status", store)
    assert (ended.returncode, ended.stdout.splitlines()[1]) == (
        0,
        "  in the store   1 videos, 1 failures in its ledger",
    )
