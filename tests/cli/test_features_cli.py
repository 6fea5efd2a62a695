"""`flowkit features` as a user calls it."""

from __future__ import annotations

import importlib
from pathlib import Path

import h5py
import numpy as np
import pytest

pytest.importorskip("torch")

import torch
from click.testing import CliRunner, Result

from flowkit.errors import InputError, InvalidParameterError
from gating.models.backbones import build_backbone
from tests.make import clips
from tests.make.command import flowkit_says
from tests.make.stores import steady, write_store


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "small.pt"
    torch.save(build_backbone("small").state_dict(), path)
    return path


def says(*words: object) -> Result:
    command = importlib.import_module("flowkit_cli.features").command
    return CliRunner().invoke(command, [*map(str, words), "--device", "cpu", "--threads", "1"])


def test_features_of_a_store_are_written_once_and_go_on(weights: Path, tmp_path: Path) -> None:
    store = write_store(tmp_path / "out.h5", {"run/a": steady(9, 1, 0), "run/b": steady(3, 0, 1)})
    rows = ("--window", 4, "--stride", 2)
    words = (store, "-o", tmp_path / "f.h5", *rows, "--backbone", "small", "--weights", weights)
    done = says(*words, "--ids", "run/a")
    assert done.exit_code == 0, done.output
    assert done.stdout.splitlines() == [
        "run/a: 4 rows",
        f"{tmp_path / 'f.h5'}: 1 clips written, 0 there before, 0 failed",
    ]
    done = says(*words, "-q")
    assert done.stdout == f"{tmp_path / 'f.h5'}: 1 clips written, 1 there before, 0 failed\n"
    with h5py.File(tmp_path / "f.h5") as file:
        assert file["flow/run/a"].shape[0] == 4
        assert file["rgb/run/b"].shape[0] == 1


def test_features_end_with_1_when_a_video_fails_and_write_the_others(weights: Path, tmp_path: Path) -> None:
    folder = tmp_path / "videos"
    folder.mkdir()
    clips.mjpeg_avi(folder / "good.avi", clips.moving_texture(6))
    (folder / "bad.avi").write_bytes(b"RIFF")
    words = (
        folder,
        "-o",
        tmp_path / "f",
        "--backbone",
        "small",
        "--weights",
        weights,
        "--jobs",
        1,
        "--joined",
    )
    done = says(*words)
    assert done.exit_code == 1
    assert f"{folder / 'bad.avi'}: failed: unopenable: " in done.stderr
    assert "1 clips written, 0 there before, 1 failed" in done.stdout
    assert [path.name for path in (tmp_path / "f").iterdir()] == ["good.npy"]
    assert not Path(f"{tmp_path / 'f'}.parts").exists()


@pytest.mark.parametrize(
    ("given", "says_why"),
    [
        (("--per", "clip", "--stride", 4), "--stride has no use with --per clip"),
        (("--segments", 3), "--segments has no use with --per window"),
        (("--streams", "rgb", "--stack", 5), "--stack has no use with --streams rgb"),
        (
            ("--streams", "flow", "--frames-per-window", 2),
            "--frames-per-window has no use with --streams flow",
        ),
    ],
)
def test_an_option_that_would_be_ignored_is_refused(
    given: tuple[object, ...], says_why: str, tmp_path: Path
) -> None:
    store = write_store(tmp_path / "out.h5", {"a": steady(3, 1, 0)})
    done = says(store, "-o", tmp_path / "f.h5", *given)
    assert isinstance(done.exception, InvalidParameterError)
    assert says_why in str(done.exception)
    assert not (tmp_path / "f.h5").exists()


def test_ids_that_a_file_would_nest_are_refused_before_anything_is_written(
    weights: Path, tmp_path: Path
) -> None:
    one = write_store(tmp_path / "one.h5", {"run": steady(3, 1, 0)})
    two = write_store(tmp_path / "two.h5", {"run/a": steady(3, 1, 0)})
    done = says(one, two, "-o", tmp_path / "f.h5", "--backbone", "small", "--weights", weights)
    assert isinstance(done.exception, InputError)
    assert "the id 'run' of" in str(done.exception)
    assert not (tmp_path / "f.h5").exists()


@pytest.mark.slow
def test_a_cluster_extracts_and_gives_the_features_of_this_machine(weights: Path, tmp_path: Path) -> None:
    pytest.importorskip("distributed")
    folder = tmp_path / "videos"
    folder.mkdir()
    for name in ("a", "b"):
        clips.mjpeg_avi(folder / f"{name}.avi", clips.moving_texture(6))
    network = ("--backbone", "small", "--weights", weights, "--device", "cpu", "--jobs", 2)
    for out, more in (("here.npz", ()), ("there.npz", ("--dask", "local"))):
        done = flowkit_says("features", folder, "-o", tmp_path / out, *network, *more)
        assert done.returncode == 0, done.stderr
    with np.load(tmp_path / "here.npz") as here, np.load(tmp_path / "there.npz") as there:
        assert sorted(here) == sorted(there) == ["a_flow", "a_rgb", "b_flow", "b_rgb"]
        for name in here:
            np.testing.assert_allclose(there[name], here[name], rtol=1e-4, atol=1e-5)
    # With nothing left no scheduler is asked.
    words = ("features", folder, "-o", tmp_path / "here.npz", *network)
    done = flowkit_says(*words, "--dask", "tcp://127.0.0.1:9")
    assert done.returncode == 0, done.stderr
    assert "0 clips written, 2 there before" in done.stdout


def test_a_cluster_without_raw_videos_has_nothing_to_do(weights: Path, tmp_path: Path) -> None:
    store = write_store(tmp_path / "out.h5", {"a": steady(3, 1, 0)})
    done = says(store, "-o", tmp_path / "f.h5", "--dask", "local")
    assert done.exit_code == 2
    assert "--dask extracts raw videos, and every INPUT is a store" in done.stderr
