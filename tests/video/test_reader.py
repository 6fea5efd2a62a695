"""Promises of `flowkit.video.reader` whatever the decoder, and those that only PyAV can keep."""

from __future__ import annotations

import os
import sys
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from av.video.stream import VideoStream

from flowkit.errors import (
    BackendUnavailableError,
    DecodeError,
    InvalidParameterError,
    NoVideoStreamError,
    UnopenableError,
)
from flowkit.typing import Decoder
from flowkit.video import reader as video
from flowkit.video.reader import DecodeReport, VideoInfo
from tests.make import clips
from tests.make.clips import UInt8

FRAMES = clips.moving_texture(12)


def read(path: Path, **options: object) -> tuple[UInt8, list[float], VideoInfo, DecodeReport]:
    with video.open_video(path, **options) as reader:  # type: ignore[arg-type]
        frames = list(reader)
    images = np.stack([frame.rgb for frame in frames]) if frames else np.empty((0,), np.uint8)
    return images, [frame.pts_seconds for frame in frames], reader.info, reader.report


@pytest.fixture(params=["av", "opencv"])
def decoder(request: pytest.FixtureRequest) -> Decoder:
    name: Decoder = request.param
    return name


def test_lossless_video_comes_back_to_the_pixel(tmp_path: Path, decoder: Decoder) -> None:
    images, times, info, report = read(clips.lossless_mkv(tmp_path / "a.mkv", FRAMES), decoder=decoder)
    np.testing.assert_array_equal(images, FRAMES)
    np.testing.assert_allclose(times, np.arange(12) / 25, atol=1e-9)
    assert (info.width, info.height, info.fps, info.rotation, info.decoder) == (64, 48, 25, 0, decoder)
    assert report == DecodeReport(frames=12, finished=True)


@pytest.mark.parametrize(
    ("name", "codec", "pixel_format", "size"),
    [
        ("a.mp4", "libx264", "yuv420p", (48, 64)),
        ("a.mp4", "libx264", "yuv444p", (47, 63)),
        ("a.mp4", "libx264", "yuv420p10le", (48, 64)),
        ("a.mkv", "ffv1", "gray", (47, 63)),
        ("a.mp4", "libx265", "yuv420p", (64, 64)),
        ("a.avi", "mjpeg", "yuvj420p", (47, 63)),
        ("a.avi", "mpeg4", "yuv420p", (47, 63)),
        ("a.mpg", "mpeg1video", "yuv420p", (48, 64)),
        ("a.mpg", "mpeg2video", "yuv420p", (47, 63)),
        ("a.webm", "libvpx", "yuv420p", (48, 64)),
        ("a.webm", "libvpx-vp9", "yuv420p", (48, 64)),
        ("a.flv", "flv", "yuv420p", (48, 64)),
        ("a.ts", "libx264", "yuv420p", (48, 64)),
        ("a.y4m", "wrapped_avframe", "yuv420p", (48, 64)),
    ],
)
def test_codecs_and_containers_give_their_frames(
    tmp_path: Path, decoder: Decoder, name: str, codec: str, pixel_format: str, size: tuple[int, int]
) -> None:
    flashes = clips.numbered_flashes(12, height=size[0], width=size[1])
    path = clips.write_video(tmp_path / name, flashes, codec=codec, pixel_format=pixel_format)
    images, times, info, report = read(path, decoder=decoder)
    assert images.shape == flashes.shape
    assert clips.flash_numbers(list(images)) == list(range(12))
    assert (np.diff(times) > 0).all()
    assert (info.height, info.width) == size
    assert not report.truncated
    assert report.skipped_frames == 0


def test_both_decoders_give_the_same_pixels(tmp_path: Path) -> None:
    for codec, pixel_format in (("libx264", "yuv420p"), ("libx264", "yuv420p10le"), ("mpeg4", "yuv420p")):
        path = clips.write_video(tmp_path / f"{codec}.mkv", FRAMES, codec=codec, pixel_format=pixel_format)
        np.testing.assert_array_equal(read(path, decoder="av")[0], read(path, decoder="opencv")[0])


@pytest.mark.parametrize(
    ("name", "codec"),
    [("a.mp4", "libx264"), ("a.mkv", "libx264"), ("a.mpg", "mpeg2video"), ("a.avi", "mpeg4")],
)
def test_aspect_of_pixels_is_known(tmp_path: Path, decoder: Decoder, name: str, codec: str) -> None:
    # MPEG-2 names that of the screen alone: 4:3.
    aspect = Fraction(1) if name == "a.mpg" else Fraction(16, 11)
    path = clips.write_video(tmp_path / name, FRAMES, codec=codec, pixel_aspect=aspect)
    info = video.probe(path, decoder=decoder)
    assert info.pixel_aspect == pytest.approx(float(aspect))
    assert (info.width, info.height) == (64, 48)
    assert video.probe(clips.lossless_mkv(tmp_path / "b.mkv", FRAMES), decoder=decoder).pixel_aspect == 1


def test_aspect_of_pixels_turns_with_them(tmp_path: Path, decoder: Decoder) -> None:
    path = clips.write_video(tmp_path / "a.mp4", FRAMES, pixel_aspect=Fraction(2), rotation_anticlockwise=90)
    info = video.probe(path, decoder=decoder)
    assert (info.width, info.height, info.pixel_aspect) == (48, 64, 0.5)


def test_interlaced_frames_are_counted(tmp_path: Path) -> None:
    path = clips.interlaced(tmp_path / "a.mpg", FRAMES)
    _, _, info, report = read(path)
    assert (info.interlaced, report.interlaced_frames) == (True, len(FRAMES))
    _, _, info, report = read(clips.h264_mp4(tmp_path / "b.mp4", FRAMES))
    assert (info.interlaced, report.interlaced_frames) == (False, 0)


def test_frames_are_the_readers_gift(tmp_path: Path, decoder: Decoder) -> None:
    path = clips.h264_mp4(tmp_path / "a.mp4", FRAMES)
    kept, copies = [], []
    with video.open_video(path, decoder=decoder) as reader:
        for frame in reader:
            assert frame.rgb.flags.c_contiguous
            assert frame.rgb.dtype == np.uint8
            kept.append(frame.rgb)
            copies.append(frame.rgb.copy())
    np.testing.assert_array_equal(kept, copies)
    kept[0][:] = 0  # writable


@pytest.mark.parametrize("rotation", [90, 180, 270])
def test_rotated_video_stands_upright(tmp_path: Path, decoder: Decoder, rotation: int) -> None:
    upright = np.zeros((4, 48, 80, 3), np.uint8)
    upright[:, :24, :40] = (220, 30, 30)  # red above left
    upright[:, 24:, 40:] = (30, 30, 220)  # blue below right
    images, _, info, _ = read(clips.rotated_mp4(tmp_path / "a.mp4", upright, rotation), decoder=decoder)
    assert images.shape == upright.shape
    assert (info.width, info.height, info.rotation) == (80, 48, rotation)
    # In the middle of each quarter, the level that h264 leaves of a flat colour.
    assert np.abs(images[:, 6:18, 8:32].astype(int) - upright[:, 6:18, 8:32]).max() < 12
    assert np.abs(images[:, 30:42, 48:72].astype(int) - upright[:, 30:42, 48:72]).max() < 12


def test_variable_frame_rate_keeps_its_times(tmp_path: Path, decoder: Decoder) -> None:
    at = [0, 40, 80, 400, 410, 1000]
    images, times, _, report = read(clips.uneven_mkv(tmp_path / "a.mkv", FRAMES[:6], at), decoder=decoder)
    np.testing.assert_array_equal(images, FRAMES[:6])
    np.testing.assert_allclose(times, np.array(at) / 1000, atol=1e-9)
    assert report.pts_repaired == 0


def test_time_starts_with_the_video(tmp_path: Path) -> None:
    path = clips.uneven_mkv(tmp_path / "a.mkv", FRAMES[:3], [5000, 5040, 5080])
    _, times, info, _ = read(path)
    np.testing.assert_allclose(times, [0, 0.04, 0.08], atol=1e-9)
    assert info.origin_seconds == 5


def test_clock_that_is_set_back_runs_on(tmp_path: Path) -> None:
    part = clips.write_video(tmp_path / "a.ts", clips.numbered_flashes(10)).read_bytes()
    (tmp_path / "twice.ts").write_bytes(part + part)
    images, times, _, report = read(tmp_path / "twice.ts")
    assert clips.flash_numbers(list(images)) == [*range(10), *range(10)]
    np.testing.assert_allclose(times, np.arange(20) / 25, atol=1e-6)
    assert report.pts_repaired == 10


@pytest.mark.parametrize("order", [(0, 600), (600, 0), (0, 600, 0), (2**33 / 90_000 - 0.2, 600), (0, 50_000)])
@pytest.mark.parametrize("suffix", [".ts", ".mpg"])
def test_clock_that_jumps_is_mended_by_the_frame_rate(
    tmp_path: Path, decoder: Decoder, suffix: str, order: tuple[float, ...]
) -> None:
    joined = tmp_path / f"joined{suffix}"
    flashes = clips.numbered_flashes(28)
    with joined.open("wb") as file:
        for k, start in enumerate(order):
            part = tmp_path / f"{k}{suffix}"
            clips.transport_stream(part, flashes[9 * k : 9 * k + 9], start_seconds=start)
            file.write(part.read_bytes())
    images, times, _, report = read(joined, decoder=decoder)
    assert clips.flash_numbers(list(images)) == list(range(9 * len(order)))
    np.testing.assert_allclose(times, np.arange(9 * len(order)) / 25, atol=0.021)
    # FFmpeg derives the last time of a part of MPEG-PS; the frame before the join may be mended too.
    assert 9 <= report.pts_repaired <= 9 * (len(order) - 1) + len(order)
    assert not report.truncated
    (note,) = report.notes
    assert "the file's clock jumps" in note
    assert "by the frame rate" in note


def test_33_bit_clock_that_wraps_runs_on(tmp_path: Path, decoder: Decoder) -> None:
    start = (2**33 / 90_000) - 0.2
    path = clips.transport_stream(tmp_path / "a.ts", clips.numbered_flashes(20), start_seconds=start)
    images, times, _, report = read(path, decoder=decoder)
    assert clips.flash_numbers(list(images)) == list(range(20))
    np.testing.assert_allclose(times, np.arange(20) / 25, atol=1e-4)
    assert report.notes == []


def test_frame_that_stays_for_a_minute_is_true_in_a_container_with_a_time_axis(
    tmp_path: Path, decoder: Decoder
) -> None:
    path = clips.uneven_mkv(tmp_path / "a.mkv", FRAMES[:4], [0, 40, 60_000, 60_040])
    _, times, _, report = read(path, decoder=decoder)
    np.testing.assert_allclose(times, [0, 0.04, 60, 60.04], atol=1e-9)
    assert report.notes == []


def test_stream_without_times_gets_them_from_its_rate(tmp_path: Path) -> None:
    _, times, _, report = read(clips.write_video(tmp_path / "a.h264", FRAMES))
    np.testing.assert_allclose(times, np.arange(12) / 25, atol=1e-9)
    assert report.pts_repaired == 12


def test_size_that_changes_midway_comes_as_it_is(tmp_path: Path) -> None:
    parts = [
        clips.write_video(tmp_path / f"{width}.ts", clips.numbered_flashes(6, width=width))
        for width in (64, 96)
    ]
    (tmp_path / "both.ts").write_bytes(b"".join(part.read_bytes() for part in parts))
    with video.open_video(tmp_path / "both.ts") as reader:
        widths = [frame.rgb.shape[1] for frame in reader]
    assert widths == [64] * 6 + [96] * 6
    assert reader.info.width == 64


def test_larger_of_two_streams_is_taken(tmp_path: Path) -> None:
    large = clips.moving_texture(5, height=96, width=128)
    images, _, info, _ = read(clips.two_streams_mkv(tmp_path / "a.mkv", FRAMES[:5], large))
    np.testing.assert_array_equal(images, large)
    assert info.stream_index == 1


def test_broken_packets_are_skipped_counted_and_passed(tmp_path: Path) -> None:
    whole = clips.mjpeg_avi(tmp_path / "a.avi", clips.numbered_flashes(12))
    images, times, _, report = read(clips.with_broken_packets(tmp_path / "b.avi", whole, [4, 7]))
    alive = [0, 1, 2, 3, 5, 6, 8, 9, 10, 11]
    assert clips.flash_numbers(list(images)) == alive
    np.testing.assert_allclose(times, np.array(alive) / 25, atol=1e-9)
    assert (report.frames, report.skipped_frames, report.truncated) == (10, 2, True)
    assert "at 0.16 s" in report.truncated_reason


def test_broken_start_keeps_later_times(tmp_path: Path) -> None:
    whole = clips.mjpeg_avi(tmp_path / "a.avi", clips.numbered_flashes(12))
    images, times, _, report = read(clips.with_broken_packets(tmp_path / "b.avi", whole, [0, 1]))
    assert clips.flash_numbers(list(images)) == list(range(2, 12))
    assert times[0] == pytest.approx(2 / 25)
    assert report.skipped_frames == 2


def test_decoders_keep_stderr_clean(
    tmp_path: Path, decoder: Decoder, capfd: pytest.CaptureFixture[str]
) -> None:
    whole = clips.h264_mp4(tmp_path / "a.mp4", FRAMES)
    read(clips.with_broken_packets(tmp_path / "b.mp4", whole, [3]), decoder=decoder)
    (tmp_path / "c.mp4").write_bytes(b"no video" * 100)
    with pytest.raises(UnopenableError):
        video.open_video(tmp_path / "c.mp4", decoder=decoder)
    assert capfd.readouterr().err == ""


def test_frames_of_an_earlier_reading_count_as_read(tmp_path: Path) -> None:
    """The report is that of the whole video, though it is read from its middle; of a cut one as well."""
    whole = clips.mjpeg_avi(tmp_path / "a.avi", clips.numbered_flashes(40))
    cut = clips.truncated(tmp_path / "b.avi", whole, 0.5)
    for path in (whole, cut):
        _, times, _, of_whole = read(path)
        images, later, _, report = read(path, start_seconds=times[8], frames_before=8)
        assert (later, report) == (times[8:], of_whole)
        assert clips.flash_numbers(list(images[:2])) == [8, 9]
    assert of_whole.truncated
    with pytest.raises(InvalidParameterError, match="needs the start_seconds that they end at"):
        read(whole, frames_before=8)


@pytest.mark.parametrize("name", ["a.avi", "a.mkv"])
def test_video_cut_short_is_truncated(tmp_path: Path, decoder: Decoder, name: str) -> None:
    frames = clips.moving_texture(40)
    whole = clips.write_video(tmp_path / f"whole_{name}", frames, codec="mjpeg", pixel_format="yuvj420p")
    cut = clips.truncated(tmp_path / name, whole, 0.5)
    images, _, _, report = read(cut, decoder=decoder)
    assert 5 < len(images) < 30
    assert report.truncated
    assert report.frames == len(images)
    assert "header" in report.truncated_reason


@pytest.mark.parametrize(
    ("name", "codec"),
    [("a.mkv", "libx264"), ("a.webm", "libvpx"), ("a.flv", "libx264"), ("a.mp4", "libx264")],
)
@pytest.mark.parametrize("start_ms", [80, 5000])
def test_complete_video_that_does_not_start_at_0_is_complete(
    tmp_path: Path, decoder: Decoder, name: str, codec: str, start_ms: int
) -> None:
    at = [start_ms + 40 * k for k in range(12)]
    path = clips.write_video(tmp_path / name, clips.numbered_flashes(12), codec=codec, times_ms=at)
    _, _, _, report = read(path, decoder=decoder)
    assert (report.frames, report.truncated, report.truncated_reason) == (12, False, "")


@pytest.mark.parametrize("count", [4, 6, 12, 30])
def test_short_flash_video_with_b_frames_is_complete(tmp_path: Path, decoder: Decoder, count: int) -> None:
    path = clips.write_video(tmp_path / "a.flv", clips.numbered_flashes(count))
    _, _, _, report = read(path, decoder=decoder)
    assert (report.frames, report.truncated) == (count, False)


def test_edit_list_that_hides_groups_of_pictures_leaves_a_complete_video(
    tmp_path: Path, decoder: Decoder
) -> None:
    options = {"g": "7", "bf": "0"}
    whole = clips.write_video(tmp_path / "whole.mp4", clips.numbered_flashes(28), options=options)
    images, times, _, report = read(
        clips.with_edit_list(tmp_path / "a.mp4", whole, first_ms=560), decoder=decoder
    )
    assert clips.flash_numbers(list(images)) == list(range(14, 28))
    np.testing.assert_allclose(times, np.arange(14) / 25, atol=1e-6)
    assert not report.truncated


def test_raw_dv_has_its_rate_and_is_complete(tmp_path: Path) -> None:
    frames = clips.numbered_flashes(5, height=576, width=720)
    path = clips.write_video(tmp_path / "a.dv", frames, codec="dvvideo")
    _, times, info, report = read(path)
    assert info.fps == 25
    np.testing.assert_allclose(times, np.arange(5) / 25, atol=1e-6)
    assert not report.truncated


@pytest.mark.parametrize(("name", "codec"), [("a.flv", "flv"), ("a.mp4", "libx264")])
def test_other_containers_cut_short_are_truncated(tmp_path: Path, name: str, codec: str) -> None:
    options = {"movflags": "faststart"} if name == "a.mp4" else {}
    whole = clips.write_video(
        tmp_path / f"whole_{name}", clips.moving_texture(60), codec=codec, container_options=options
    )
    assert not read(whole)[3].truncated
    assert read(clips.truncated(tmp_path / name, whole, 0.6))[3].truncated


def test_report_has_whether_the_end_was_reached(tmp_path: Path) -> None:
    with video.open_video(clips.h264_mp4(tmp_path / "a.mp4", FRAMES)) as reader:
        next(reader)
        assert (reader.report.frames, reader.report.finished) == (1, False)
    assert not reader.report.finished
    assert list(reader) == []  # closed


@pytest.mark.parametrize(("start", "end"), [(0.0, 0.5), (0.3, 1.0), (1.11, 1.61), (1.9, None), (None, 0.2)])
@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.ts", "a.mpg", "a.avi", "a.h264"])
def test_window_gives_the_frames_of_its_time(
    tmp_path: Path, name: str, start: float | None, end: float | None
) -> None:
    codec = {"a.mpg": "mpeg1video", "a.avi": "mpeg4"}.get(name, "libx264")
    path = clips.write_video(tmp_path / name, clips.moving_texture(50), codec=codec, options={"g": "12"})
    images, times, _, _ = read(path)
    inside = [k for k, time in enumerate(times) if (start or 0) <= time < (end or 99)]
    window, window_times, _, report = read(path, start_seconds=start, end_seconds=end)
    np.testing.assert_array_equal(window, images[inside])
    np.testing.assert_allclose(window_times, np.array(times)[inside], atol=1e-9)
    assert (report.frames, report.truncated) == (len(inside), False)


def test_window_ignores_faults_outside(tmp_path: Path) -> None:
    whole = clips.mjpeg_avi(tmp_path / "a.avi", clips.numbered_flashes(20))
    broken = clips.with_broken_packets(tmp_path / "b.avi", whole, [3, 12])
    assert read(broken, start_seconds=0.2, end_seconds=0.4)[3].skipped_frames == 0
    assert read(broken, start_seconds=0.2)[3].skipped_frames == 1


def test_window_behind_the_end_is_empty_and_no_error(tmp_path: Path, decoder: Decoder) -> None:
    path = clips.h264_mp4(tmp_path / "a.mp4", FRAMES)
    _, times, _, report = read(path, start_seconds=60, decoder=decoder)
    assert times == []
    assert report == DecodeReport(finished=True)


def test_threads_give_the_same_frames(tmp_path: Path) -> None:
    path = clips.h264_mp4(tmp_path / "a.mp4", clips.moving_texture(30))
    np.testing.assert_array_equal(read(path, threads=1)[0], read(path, threads=3)[0])


def test_probe_decodes_the_first_frame_only(tmp_path: Path) -> None:
    info = video.probe(clips.h264_mp4(tmp_path / "a.mp4", FRAMES))
    assert (info.codec, info.pixel_format, info.width, info.height) == ("h264", "yuv420p", 64, 48)
    assert (info.header_frames, info.stream_index, info.origin_seconds) == (12, 0, 0)
    assert info.header_seconds == pytest.approx(12 / 25)
    assert "mp4" in info.container


@pytest.mark.parametrize(
    ("content", "words"),
    [(b"", "file is empty"), (b"these are words, no video " * 40, "not a video|cannot open")],
)
def test_what_is_no_video_is_unopenable(tmp_path: Path, decoder: Decoder, content: bytes, words: str) -> None:
    path = tmp_path / "a.mp4"
    path.write_bytes(content)
    with pytest.raises(UnopenableError, match=words):
        video.open_video(path, decoder=decoder)


def test_missing_file_is_unopenable(tmp_path: Path, decoder: Decoder) -> None:
    with pytest.raises(UnopenableError, match="No such file"):
        video.open_video(tmp_path / "none.mp4", decoder=decoder)


def test_pipe_is_unopenable_and_does_not_hang(tmp_path: Path, decoder: Decoder) -> None:
    os.mkfifo(tmp_path / "pipe.mp4")
    with pytest.raises(UnopenableError, match="neither a file nor a folder"):
        video.open_video(tmp_path / "pipe.mp4", decoder=decoder)


def test_sound_alone_is_no_video_stream(tmp_path: Path) -> None:
    with pytest.raises(NoVideoStreamError, match="only audio"):
        video.open_video(clips.audio_only(tmp_path / "a.mp4"))


def test_cover_of_a_song_is_no_video_stream(tmp_path: Path) -> None:
    with pytest.raises(NoVideoStreamError, match="no video stream"):
        video.open_video(clips.song_with_cover(tmp_path / "a.m4a", FRAMES[0]))


def test_unknown_codec_is_unopenable_and_named_so(tmp_path: Path) -> None:
    data = clips.h264_mp4(tmp_path / "a.mp4", FRAMES).read_bytes()
    assert data.count(b"avc1") >= 1
    (tmp_path / "b.mp4").write_bytes(data.replace(b"avc1", b"zzz9").replace(b"avcC", b"zzzC"))
    with pytest.raises(UnopenableError, match=r"b\.mp4: the codec of its video stream is unknown"):
        video.open_video(tmp_path / "b.mp4")


def test_stream_of_a_known_codec_is_taken_beside_one_of_an_unknown(tmp_path: Path) -> None:
    large = clips.moving_texture(3, height=96, width=128)
    data = clips.two_streams_mkv(tmp_path / "a.mkv", FRAMES[:3], large).read_bytes()
    at = data.rindex(b"V_FFV1")
    (tmp_path / "b.mkv").write_bytes(data[:at] + b"V_ZZZ9" + data[at + 6 :])
    images, _, info, _ = read(tmp_path / "b.mkv")
    np.testing.assert_array_equal(images, FRAMES[:3])
    assert info.stream_index == 0


def test_title_in_another_encoding_costs_no_video(tmp_path: Path, decoder: Decoder) -> None:
    with av.open(str(tmp_path / "a.avi"), "w") as container:
        container.metadata["title"] = "ZZZZ"
        stream = container.add_stream("mjpeg", rate=25)
        assert isinstance(stream, VideoStream)
        stream.height, stream.width, stream.pix_fmt = 48, 64, "yuvj420p"
        for frame in FRAMES[:3]:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode(None))
    data = (tmp_path / "a.avi").read_bytes()
    assert data.count(b"ZZZZ") == 1
    (tmp_path / "b.avi").write_bytes(data.replace(b"ZZZZ", b"\xfcber"))  # Latin-1
    assert read(tmp_path / "b.avi", decoder=decoder)[3].frames == 3


def test_stream_of_broken_packets_is_a_decode_error(tmp_path: Path) -> None:
    whole = clips.mjpeg_avi(tmp_path / "a.avi", FRAMES[:5])
    broken = clips.with_broken_packets(tmp_path / "b.avi", whole, range(5))
    with pytest.raises(DecodeError, match="5 packets fail"):
        video.open_video(broken)


def test_playlist_that_poses_as_video_opens_nothing(tmp_path: Path) -> None:
    real = clips.write_video(tmp_path / "real.ts", FRAMES)
    (tmp_path / "list.mp4").write_text(
        f"#EXTM3U\n#EXTINF:1,\nhttp://localhost:9/{real.name}\n#EXT-X-ENDLIST\n"
    )
    with pytest.raises(UnopenableError):
        video.open_video(tmp_path / "list.mp4")


@pytest.mark.parametrize("name", ["a:b.mp4", "sp ace.mp4", "ünï.mp4", "%03d.mp4", "-x.mp4"])
def test_odd_names_open(tmp_path: Path, decoder: Decoder, name: str) -> None:
    plain = clips.h264_mp4(tmp_path / "plain.mp4", FRAMES[:3])
    plain.rename(tmp_path / name)
    assert read(tmp_path / name, decoder=decoder)[3].frames == 3


def test_name_that_is_not_utf8_opens_or_is_refused(tmp_path: Path) -> None:
    path = clips.h264_mp4(tmp_path / "plain.mp4", FRAMES[:3]).rename(tmp_path / "a\udcff.mp4")
    assert read(path, decoder="av")[3].frames == 3
    with pytest.raises(UnopenableError, match="not UTF-8"):  # OpenCV itself would crash
        video.open_video(path, decoder="opencv")


@pytest.mark.parametrize(
    "options",
    [
        {"decoder": "ffmpeg"},
        {"fps": 0},
        {"fps": float("nan")},
        {"threads": -1},
        {"start_seconds": -1},
        {"end_seconds": float("inf")},
        {"start_seconds": 2, "end_seconds": 2},
    ],
)
def test_options_out_of_range_are_refused(tmp_path: Path, options: dict[str, object]) -> None:
    path = clips.h264_mp4(tmp_path / "a.mp4", FRAMES[:2])
    with pytest.raises(InvalidParameterError, match=next(iter(options))):
        video.open_video(path, **options)  # type: ignore[arg-type]


def test_missing_pyav_is_named_and_opencv_is_offered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert video.default_decoder()[0] == "av"
    monkeypatch.setitem(sys.modules, "flowkit.video.pyav", None)
    decoder, reason = video.default_decoder()
    assert decoder == "opencv"
    assert "PyAV" in reason
    path = clips.h264_mp4(tmp_path / "a.mp4", FRAMES[:2])
    with pytest.raises(BackendUnavailableError, match="install `av` or choose 'opencv'"):
        video.open_video(path, decoder="av")
    assert (video.probe(path).decoder, video.probe(path, decoder="opencv").decoder) == ("opencv", "opencv")


def test_auto_reads_with_pyav_where_it_imports(tmp_path: Path) -> None:
    assert video.probe(clips.h264_mp4(tmp_path / "a.mp4", FRAMES[:2])).decoder == "av"


def test_suffixes_are_lower_case_with_a_dot() -> None:
    assert {".mp4", ".avi", ".mkv", ".mov", ".webm", ".mpg", ".y4m", ".vob"} <= video.VIDEO_SUFFIXES
    assert all(suffix == suffix.lower() and suffix.startswith(".") for suffix in video.VIDEO_SUFFIXES)
