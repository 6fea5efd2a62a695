"""Exported shards read by webdataset and by Hugging Face's datasets, by the code of the guide.

Where one of them does not import, its tests are skipped with a word; with FLOWKIT_REQUIRE_READERS=1, as CI
has it, they fail.
"""

from __future__ import annotations

import os
import pickle
import re
import subprocess
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pytest
from numpy.typing import NDArray

import flowkit
from tests.rawframes import read_shards
from tests.rawframes.conftest import MakeStore, run_export

GUIDE = Path(__file__).resolve().parent.parent.parent / "docs" / "move-from-mmaction2.md"
CLIPS = {"run/a": 3, "run/b.01": 7, "walk/c": 5, "walk/d": 2, "e": 4, "walk/f": 9, "run/g": 6}
SHARDS = 4

pytestmark = pytest.mark.slow

Sample: TypeAlias = dict[str, Any]
Unpack: TypeAlias = Callable[[Sample], tuple[NDArray[np.uint8], NDArray[np.float32]]]


def epochs_of(reader: Callable[..., object], tmp_path: Path, *arguments: str) -> list[list[Sample]]:
    """Return the samples of two epochs, or skip the test where the library does not import."""
    out = tmp_path / "epochs.pickle"
    done = subprocess.run(
        [sys.executable, read_shards.__file__, reader.__name__, str(out), *arguments],
        env={**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "home")},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode == read_shards.MISSING and os.environ.get("FLOWKIT_REQUIRE_READERS") != "1":
        pytest.skip(f"a reader of shards is not installed: {done.stdout.strip()}")
    assert done.returncode == 0, done.stdout + done.stderr
    epochs: list[list[Sample]] = pickle.loads(out.read_bytes())
    assert len(epochs) == 2
    return epochs


@pytest.fixture
def unpack() -> Unpack:
    """Return the guide's own function."""
    blocks = re.findall(r"```python\n(.*?)```", GUIDE.read_text(encoding="utf-8"), re.DOTALL)
    (block,) = [text for text in blocks if "def unpack" in text]
    names: dict[str, Any] = {}
    exec(block, names)
    return names["unpack"]  # type: ignore[no-any-return]


@pytest.fixture
def codec() -> str:
    return "i8"


@pytest.fixture
def store(make_store: MakeStore, codec: str) -> Path:
    return make_store(CLIPS, flow_codec=codec)


@pytest.fixture
def shards(store: Path, tmp_path: Path) -> list[str]:
    run_export(store, tmp_path / "shards", "webdataset", clips_per_shard=2)
    found = sorted(str(path) for path in (tmp_path / "shards").glob("clips-*.tar"))
    assert len(found) == SHARDS
    return found


def check_epoch(store: Path, samples: Iterable[Sample], unpack: Unpack) -> None:
    """Compare an epoch's samples with the store: frames byte for byte, flow within the codec's bound."""
    seen = []
    with flowkit.open(store) as opened:
        exact = opened.options.codec.stores_planes
        for sample in samples:
            facts, video_id = sample["json"], sample["json"]["id"]
            seen.append(video_id)
            clip, stored = opened[video_id], opened.stored_video(video_id)
            at = facts["frames_offset"]
            for k in range(clip.n_frames):
                assert sample["frames.mjpeg"][at[k] : at[k + 1]] == stored.frames[k]
            frames, flow = unpack(sample)
            assert np.array_equal(frames, clip.frames(range(clip.n_frames)))
            assert flow.shape == (clip.n_flow, 2, clip.height, clip.width)
            error = np.abs(flow - clip.flow())
            # Of JPEG planes the same codes; else half a code of 40/255 px, and JPEG moves single ones by a
            # few. sert float(error.max()) < (1e-5 if exact else 1.0)
            assert float(error.mean()) < (1e-5 if exact else 0.15)
            labels = opened.labels
            assert sample["cls"] == (labels.index(clip.label) if clip.label else -1)
    assert sorted(seen) == sorted(CLIPS)


@pytest.mark.parametrize(("codec", "workers"), [("i8", "0"), ("jpeg", "2")])
def test_webdataset_reads_two_epochs(
    store: Path, shards: list[str], unpack: Unpack, tmp_path: Path, workers: str
) -> None:
    for epoch in epochs_of(read_shards.by_webdataset, tmp_path, workers, *shards):
        check_epoch(store, epoch, unpack)


@pytest.mark.parametrize("codec", ["jpeg"])
def test_hugging_faces_datasets_streams_two_epochs(
    store: Path, shards: list[str], unpack: Unpack, tmp_path: Path
) -> None:
    for epoch in epochs_of(read_shards.streamed_by_datasets, tmp_path, str(tmp_path / "cache"), *shards):
        check_epoch(store, epoch, unpack)


def test_hugging_faces_datasets_reads_the_folder_as_a_table(
    store: Path, shards: list[str], unpack: Unpack, tmp_path: Path
) -> None:
    folder = str(Path(shards[0]).parent)
    for epoch in epochs_of(read_shards.tabled_by_datasets, tmp_path, str(tmp_path / "cache"), folder):
        check_epoch(store, epoch, unpack)
