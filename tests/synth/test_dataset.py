from __future__ import annotations

import csv
from dataclasses import asdict, replace
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from flowkit.errors import InputError, InvalidParameterError, VideoError
from flowkit.synth import SynthConfig, build_scene, make_dataset
from flowkit.synth.dataset import write_clip

CONFIG = SynthConfig(clips=2, classes=2, frames=5, reliability="conflict", seed=7)
CODECS = {"mpeg4": ("mpeg4", "avi"), "mjpeg": ("mjpeg", "avi"), "h264": ("h264", "mov,mp4")}


@pytest.mark.parametrize("codec", list(CODECS))
def test_files_are_real_videos_of_their_codec_showing_the_scene(tmp_path: Path, codec: str) -> None:
    config = replace(CONFIG, codec=codec, width=96, fps=12.5)
    clip = make_dataset(tmp_path, config)[3]
    with av.open(str(tmp_path / clip.path)) as container:
        stream = container.streams.video[0]
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(stream)]
        name, container_name = CODECS[codec]
        assert stream.codec_context.name == name
        assert container.format.name.startswith(container_name)
        assert stream.average_rate == 12.5
    scene = build_scene(clip, config)
    assert len(frames) == 5
    for index, frame in enumerate(frames):
        error = np.mean((frame.astype(float) - scene.frame(index)) ** 2)
        # Lossy: 30 dB of peak signal to noise.
        assert 10 * np.log10(255**2 / error) > 30


def test_index_lists_every_clip_with_its_fields(tmp_path: Path) -> None:
    clips = make_dataset(tmp_path, CONFIG)
    with (tmp_path / "index.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert rows == [{key: str(value) for key, value in asdict(clip).items()} for clip in clips]
    assert sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.avi")) == sorted(
        row["path"] for row in rows
    )


def test_ground_truth_is_the_scenes_flow_of_every_pair(tmp_path: Path) -> None:
    config = replace(CONFIG, ground_truth=True, width=96)
    clip = make_dataset(tmp_path, config)[1]
    folder = (tmp_path / clip.path).with_suffix(".flow")
    assert [path.name for path in sorted(folder.iterdir())] == [f"{index:05d}.flo" for index in range(4)]
    for index in range(4):
        read = cv2.readOpticalFlow(str(folder / f"{index:05d}.flo")).transpose(2, 0, 1)
        np.testing.assert_array_equal(read, build_scene(clip, config).flow(index))


def test_files_do_not_depend_on_the_number_of_processes(tmp_path: Path) -> None:
    config = replace(CONFIG, frames=2, codec="mjpeg")
    one, two = tmp_path / "one", tmp_path / "two"
    assert make_dataset(one, config) == make_dataset(two, config, jobs=2)
    names = sorted(path.relative_to(one) for path in one.rglob("*.*"))
    assert names == sorted(path.relative_to(two) for path in two.rglob("*.*"))
    assert all((one / name).read_bytes() == (two / name).read_bytes() for name in names)


def test_clip_does_not_depend_on_those_before_it(tmp_path: Path) -> None:
    config = replace(CONFIG, codec="mjpeg")
    clip = make_dataset(tmp_path / "all", config)[3]
    (tmp_path / "one" / clip.label).mkdir(parents=True)
    write_clip(tmp_path / "one", config, clip)
    assert (tmp_path / "one" / clip.path).read_bytes() == (tmp_path / "all" / clip.path).read_bytes()


def test_progress_counts_every_clip(tmp_path: Path) -> None:
    calls: list[tuple[int, int]] = []
    make_dataset(tmp_path, replace(CONFIG, frames=2), lambda done, total: calls.append((done, total)))
    assert calls == [(1, 4), (2, 4), (3, 4), (4, 4)]


def test_folder_that_holds_files_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    for dest in (tmp_path, tmp_path / "mine.txt"):
        with pytest.raises(InputError, match="new or empty"):
            make_dataset(dest, CONFIG)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_jobs_below_one_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidParameterError, match="jobs must be >= 1, got 0"):
        make_dataset(tmp_path, CONFIG, jobs=0)


@pytest.mark.parametrize("codec", list(CODECS))
def test_video_that_cannot_be_written_is_an_error(tmp_path: Path, codec: str) -> None:
    config = replace(CONFIG, codec=codec)
    clip = make_dataset(tmp_path / "set", config)[0]
    with pytest.raises(VideoError, match="cannot write"):
        write_clip(tmp_path / "absent", config, clip)
