"""Every command of the pages on moving runs as it stands."""

from __future__ import annotations

import importlib
import re
import shlex
import shutil
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

import flowkit
from flowkit.executor import InlineExecutor
from flowkit.store.write.pack import finalize
from tests.make import clips
from tests.rawframes.conftest import make_options, run_export, write_clip

DOCS = Path(__file__).resolve().parent.parent.parent / "docs"


def commands(page: str) -> list[list[str]]:
    text = (DOCS / page).read_text(encoding="utf-8")
    blocks = re.findall(r"<!-- tested -->\n```bash\n(.*?)```", text, re.DOTALL)
    assert len(blocks) == text.count("```bash")
    return [shlex.split(line) for block in blocks for line in block.splitlines()]


@pytest.fixture
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with videos/, a store ucf101.h5 with a split, and denseflow's folders of it in flow/.

    Tasks run in this process, which saves a start of workers for each command.
    """
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("flowkit.jobs.LocalExecutor", lambda _: InlineExecutor())
    (tmp_path / "videos" / "walk").mkdir(parents=True)
    clips.mjpeg_avi(tmp_path / "videos/walk/one.avi", clips.moving_texture(2))
    store, options = tmp_path / "ucf101.h5", make_options()
    for seed, video_id in enumerate(["run/v_run_g01", "walk/v_walk_g01"]):
        write_clip(store, video_id, options, n_frames=3, seed=seed)
    finalize(store, options=options)
    (tmp_path / "ucf101.h5.splits").mkdir()
    text = "id,subset\nrun/v_run_g01,train\nwalk/v_walk_g01,test\n"
    (tmp_path / "ucf101.h5.splits/split1.csv").write_text(text)
    run_export(store, tmp_path / "flow", "denseflow")
    return tmp_path


def run(words: list[str]) -> None:
    program, name, *rest = words
    assert program == "flowkit"
    module = importlib.import_module(f"flowkit_cli.{'import_' if name == 'import' else name}")
    result = CliRunner().invoke(module.command, rest)
    assert result.exit_code == 0, (words, result.output, result.exception)


def test_the_commands_for_denseflows_users_run(workplace: Path) -> None:
    (workplace / "ucf101.h5").unlink()
    for words in commands("move-from-denseflow.md"):
        run(words)
    assert (workplace / "frames/annotations/split1/rgb_train.txt").read_text() == (
        "frames/run/v_run_g01 3 0\n"
    )
    assert sorted(path.name for path in (workplace / "flow_again/run/v_run_g01").iterdir()) == sorted(
        path.name for path in (workplace / "flow/run/v_run_g01").iterdir()
    )


def test_the_commands_for_flow_of_any_method_run(workplace: Path) -> None:
    for words in commands("move-flow.md"):
        run(words)
    with flowkit.open(workplace / "ucf101.h5") as store:
        expected = {video_id: store[video_id].flow() for video_id in store}
    for name in ("arrays", "flo", "kitti"):
        with flowkit.open(workplace / f"from_{name}.h5") as store:
            assert list(store) == list(expected)
            for video_id, flow in expected.items():
                assert np.array_equal(store[video_id].flow(), flow)


def test_the_commands_for_mmaction2s_users_run(workplace: Path) -> None:
    shutil.rmtree(workplace / "flow")
    for words in commands("move-from-mmaction2.md"):
        run(words)
    rawframes = workplace / "data/ucf101/rawframes"
    assert (rawframes / "annotations/split1/flow_train.txt").read_text() == "run/v_run_g01 2 0\n"
    assert (rawframes / "walk/v_walk_g01/x_00002.jpg").exists()
    assert (workplace / "data/ucf101/guide/walk/v_walk_g01/flow_x_00001.jpg").exists()
    assert sorted(path.name for path in (workplace / "shards").glob("*.tar")) == [
        "test-000000.tar",
        "train-000000.tar",
    ]
