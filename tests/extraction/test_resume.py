"""A long video that is resumed: by a seek where it can be checked, with what one reading gives."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import cv2
import pytest

import flowkit
from flowkit.extraction.config import ExtractConfig
from flowkit.extraction.part_sink import PartSink
from flowkit.extraction.pipeline import Item
from flowkit.extraction.resume import ResumePoint, is_undisturbed
from flowkit.extraction.sources import VideoSource
from flowkit.frames import LazyFrame
from flowkit.store.write.pack import finalize
from flowkit.video.clock import Clock
from flowkit.video.reader import DecodeReport
from tests.make import clips
from tests.make.one_video import Stop, extract_one, make_task
from tests.make.small import SMALL

COUNT = 60
SEGMENTS = dataclasses.replace(SMALL, segment_frames=10)
FRAMES = clips.moving_texture(COUNT)


@dataclasses.dataclass
class Run:
    """What extractions of one video stored, and the number of frames that the last one decoded."""

    contents: list[object]
    decoded: int


def extracted(
    video: Path,
    store: Path,
    config: ExtractConfig,
    monkeypatch: pytest.MonkeyPatch,
    *,
    stops: tuple[int, ...] = (),
) -> Run:
    """Extract, ended after so many items each time, and once to the end; count what that one decodes."""
    task = make_task(VideoSource(path=video, video_id="a"), store, config)
    for stop in stops:
        with monkeypatch.context() as patch:
            patch.setattr(PartSink, "add", stopping(PartSink.add, stop))
            with pytest.raises(Stop):
                extract_one(task)
    decoded, real = 0, Clock.read

    def counting(self: Clock, stored: float | None) -> tuple[float, bool]:
        nonlocal decoded
        decoded += 1
        return real(self, stored)

    with monkeypatch.context() as patch:
        patch.setattr(Clock, "read", counting)
        outcome = extract_one(task)
    finalize(store, options=task.options)
    with flowkit.open(store) as opened:
        stored, clip = opened.stored_video("a"), opened["a"]
        frames = (
            [] if task.options.frame_codec == "none" else [stored.frames[k] for k in range(clip.n_frames)]
        )
        flow = [stored.field("flow").chunks(k) for k in range(clip.n_flow)]
        contents = [frames, flow, clip.pts.tolist(), clip.record, outcome.warnings]
    return Run(contents, decoded)


def stopping(add: object, after: int) -> object:
    """Return `PartSink.add` that ends the run after so many items."""
    taken = 0

    def limited(self: PartSink, item: Item, *, undisturbed: bool = False) -> None:
        nonlocal taken
        taken += 1
        if taken > after:
            raise Stop
        add(self, item, undisturbed=undisturbed)  # type: ignore[operator]

    return limited


def ffv1_mkv(path: Path) -> Path:
    return clips.lossless_mkv(path.with_suffix(".mkv"), FRAMES)


def h264_mp4(path: Path) -> Path:
    """Write a video with B-frames, a key frame every 12 frames, so that some segments end between them."""
    options = {"g": "12", "bf": "2", "sc_threshold": "0"}
    return clips.write_video(path.with_suffix(".mp4"), FRAMES, codec="libx264", options=options)


def open_gop_mkv(path: Path) -> Path:
    """Write a video whose B-frames before a key frame refer to frames before it."""
    options = {"g": "12", "bf": "3", "x264-params": "open-gop=1:scenecut=0"}
    return clips.write_video(path.with_suffix(".mkv"), FRAMES, codec="libx264", options=options)


def mjpeg_avi(path: Path) -> Path:
    return clips.mjpeg_avi(path.with_suffix(".avi"), FRAMES)


def images(path: Path) -> Path:
    return clips.image_folder(path, FRAMES)


@pytest.mark.parametrize("made", [ffv1_mkv, h264_mp4, open_gop_mkv, mjpeg_avi, images])
@pytest.mark.parametrize("stops", [(45,), (COUNT - 1,), (25, 20)])
def test_a_seek_gives_what_one_run_gives(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, made: object, stops: tuple[int, ...]
) -> None:
    video = made(tmp_path / "a")  # type: ignore[operator]
    whole = extracted(video, tmp_path / "whole.h5", SEGMENTS, monkeypatch)
    parted = extracted(video, tmp_path / "parted.h5", SEGMENTS, monkeypatch, stops=stops)
    assert parted.contents == whole.contents
    assert whole.decoded == COUNT
    # At most from the key frame before the first of those compared.
    left = COUNT - sum(stop // 10 * 10 for stop in stops)
    assert parted.decoded <= left + 12 + 4


def test_a_video_whose_segments_are_all_there_is_not_decoded_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    video = h264_mp4(tmp_path / "a")
    whole = extracted(video, tmp_path / "whole.h5", SEGMENTS, monkeypatch)
    with monkeypatch.context() as patch:
        patch.setattr("flowkit.extraction.part_sink.assemble", lambda *_: (_ for _ in ()).throw(Stop))
        with pytest.raises(Stop):
            extract_one(make_task(VideoSource(path=video, video_id="a"), tmp_path / "parted.h5", SEGMENTS))
    parted = extracted(video, tmp_path / "parted.h5", SEGMENTS, monkeypatch)
    assert parted.contents == whole.contents
    assert parted.decoded == 12  # the last of the groups that begin with a key frame


def test_a_cut_file_is_told_by_the_same_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cut = clips.truncated(tmp_path / "a.mkv", ffv1_mkv(tmp_path / "whole.mkv"), 0.7)
    whole = extracted(cut, tmp_path / "whole.h5", SEGMENTS, monkeypatch)
    parted = extracted(cut, tmp_path / "parted.h5", SEGMENTS, monkeypatch, stops=(25,))
    assert parted.contents == whole.contents
    assert whole.contents[-1]
    assert parted.decoded < whole.decoded


REASONS = ("damage", "times", "interlaced", "size", "no frames", "frame rate", "inexact")


@pytest.mark.parametrize("reason", REASONS)
def test_without_a_check_a_video_is_decoded_from_its_beginning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reason: str
) -> None:
    video, config = h264_mp4(tmp_path / "a"), SEGMENTS
    if reason == "damage":
        video = clips.with_broken_packets(tmp_path / "b.avi", mjpeg_avi(tmp_path / "a"), [3])
    if reason == "times":
        # Forward by more than an hour, the longest gap that a frame may stay: from there on times are mended.
        at = [40 * k + (4_000_000 if k >= 10 else 0) for k in range(COUNT)]
        video = clips.uneven_mkv(tmp_path / "b.mkv", FRAMES, at)
    if reason == "interlaced":
        video = clips.interlaced(tmp_path / "b.mkv", FRAMES, codec="libx264")
    if reason == "size":
        video = clips.image_folder(tmp_path / "b", FRAMES)
        for path in sorted(video.iterdir())[3:6]:
            image = cv2.imread(str(path))
            assert image is not None
            assert cv2.imwrite(str(path), cv2.resize(image, (32, 24)))
    if reason == "no frames":
        config = dataclasses.replace(config, frame_codec="none")
    if reason == "frame rate":
        config = dataclasses.replace(config, fps=12.5, segment_frames=5)
    if reason == "inexact":
        monkeypatch.setattr(ResumePoint, "matches", lambda *_: False)
    whole = extracted(video, tmp_path / "whole.h5", config, monkeypatch)
    parted = extracted(video, tmp_path / "parted.h5", config, monkeypatch, stops=(25,))
    assert parted.contents == whole.contents
    assert parted.decoded >= whole.decoded


@pytest.mark.parametrize("name", ["skipped_frames", "damaged_frames", "pts_repaired", "interlaced_frames"])
def test_whatever_a_reading_behind_a_seek_would_not_count_is_a_disturbance(name: str) -> None:
    assert is_undisturbed(DecodeReport(frames=60))
    report = DecodeReport(frames=60)
    setattr(report, name, 1)
    assert not is_undisturbed(report)


def test_frames_that_differ_behind_a_seek_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another picture at the same time, as from a decoder that conceals what it lacks."""
    video = h264_mp4(tmp_path / "a")
    whole = extracted(video, tmp_path / "whole.h5", SEGMENTS, monkeypatch)
    real = ResumePoint.matches

    def concealed(self: ResumePoint, frames: Iterator[LazyFrame], encoded: object) -> bool:
        return real(self, frames, lambda frame: (encoded(frame) or b"") + b"!")  # type: ignore[operator]

    monkeypatch.setattr(ResumePoint, "matches", concealed)
    parted = extracted(video, tmp_path / "parted.h5", SEGMENTS, monkeypatch, stops=(25,))
    assert parted.contents == whole.contents
    assert parted.decoded >= COUNT
