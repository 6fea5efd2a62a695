from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from flowkit.errors import DecodeError, UnopenableError
from flowkit.video import reader as video
from flowkit.video.image_folder import is_image_folder
from flowkit.video.reader import DecodeReport
from tests.make import clips
from tests.make.clips import UInt8

FRAMES = clips.moving_texture(12)


def read(folder: Path, **options: object) -> tuple[list[UInt8], list[float], DecodeReport]:
    with video.open_video(folder, **options) as reader:  # type: ignore[arg-type]
        frames = list(reader)
    return [frame.rgb for frame in frames], [frame.pts_seconds for frame in frames], reader.report


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".ppm", ".tif"])
def test_lossless_images_come_back_to_the_pixel(tmp_path: Path, suffix: str) -> None:
    images, times, report = read(clips.image_folder(tmp_path / "a", FRAMES, suffix=suffix))
    np.testing.assert_array_equal(images, FRAMES)
    np.testing.assert_allclose(times, np.arange(12) / 25)
    assert report == DecodeReport(frames=12, finished=True)


@pytest.mark.parametrize("suffix", [".jpg", ".webp", ".JPEG"])
def test_lossy_images_come_in_order(tmp_path: Path, suffix: str) -> None:
    flashes = clips.numbered_flashes(12)
    images, _, _ = read(clips.image_folder(tmp_path / "a", flashes, suffix=suffix))
    assert clips.flash_numbers(images) == list(range(12))


def test_order_is_that_of_numbers_not_of_letters(tmp_path: Path) -> None:
    folder = clips.image_folder(tmp_path / "a", FRAMES)
    for k, path in enumerate(sorted(folder.iterdir())):
        path.rename(folder / f"shot2_{k + 8}.png")  # 8, 9, 10, ...
    np.testing.assert_array_equal(read(folder)[0], FRAMES)


def test_rate_is_the_callers(tmp_path: Path) -> None:
    folder = clips.image_folder(tmp_path / "a", FRAMES)
    _, times, _ = read(folder, fps=10)
    np.testing.assert_allclose(times, np.arange(12) / 10)
    info = video.probe(folder, fps=10)
    assert (info.fps, info.codec, info.container, info.decoder) == (10, "png", "images", "images")
    assert (info.header_frames, info.header_seconds) == (12, 1.2)


def test_numbers_may_start_anywhere_and_go_in_steps(tmp_path: Path) -> None:
    images, times, report = read(clips.image_folder(tmp_path / "a", FRAMES, start=700, step=5))
    np.testing.assert_array_equal(images, FRAMES)
    np.testing.assert_allclose(times, np.arange(12) / 25)
    assert not report.truncated


def test_missing_number_keeps_its_place_in_time_and_is_counted(tmp_path: Path) -> None:
    folder = clips.image_folder(tmp_path / "a", FRAMES)
    (folder / "img_00004.png").unlink()
    images, times, report = read(folder)
    kept = [k for k in range(12) if k != 3]
    np.testing.assert_array_equal(images, FRAMES[kept])
    np.testing.assert_allclose(times, np.array(kept) / 25)
    assert (report.frames, report.skipped_frames, report.truncated) == (11, 1, True)
    assert "image 4 of the sequence is missing" in report.truncated_reason


@pytest.mark.parametrize("suffix", [".png", ".jpg"])
def test_broken_image_is_skipped_and_counted(tmp_path: Path, suffix: str) -> None:
    folder = clips.image_folder(tmp_path / "a", FRAMES, suffix=suffix)
    broken = folder / f"img_00001{suffix}"
    broken.write_bytes(broken.read_bytes()[:300])
    images, times, report = read(folder)
    assert len(images) == 11
    assert times[0] == pytest.approx(1 / 25)
    assert (report.skipped_frames, report.truncated) == (1, True)
    assert f"img_00001{suffix} does not decode" in report.truncated_reason


def test_window_reads_only_its_images(tmp_path: Path) -> None:
    folder = clips.image_folder(tmp_path / "a", FRAMES)
    (folder / "img_00002.png").write_bytes(b"broken, and outside the window")
    images, times, report = read(folder, start_seconds=0.12, end_seconds=0.2)
    np.testing.assert_array_equal(images, FRAMES[3:5])
    np.testing.assert_allclose(times, [0.12, 0.16])
    assert report == DecodeReport(frames=2, finished=True)


def test_grey_and_16_bit_images_become_rgb(tmp_path: Path) -> None:
    folder = tmp_path / "a"
    folder.mkdir()
    grey = FRAMES[0, ..., 0]
    assert cv2.imwrite(str(folder / "1.png"), grey)
    assert cv2.imwrite(str(folder / "2.png"), grey.astype(np.uint16) * 257)
    images, _, _ = read(folder)
    np.testing.assert_array_equal(images, np.stack([grey, grey, grey], -1)[None].repeat(2, 0))


def test_folder_is_a_video_only_with_numbered_images(tmp_path: Path) -> None:
    folder = clips.image_folder(tmp_path / "a", FRAMES[:1])
    assert is_image_folder(folder)
    assert not is_image_folder(tmp_path)  # holds a folder only
    assert not is_image_folder(folder / "img_00001.png")
    assert not is_image_folder(tmp_path / "none")
    (folder / "img_00001.png").rename(folder / "cover.png")
    assert not is_image_folder(folder)
    with pytest.raises(UnopenableError, match="without numbered images"):
        video.open_video(folder)


def test_several_sequences_in_one_folder_are_refused(tmp_path: Path) -> None:
    folder = clips.image_folder(tmp_path / "a", FRAMES)
    (folder / "img_00003.png").rename(folder / "flow_x_00003.png")
    with pytest.raises(UnopenableError, match=r"flow_x_#, img_#"):
        video.open_video(folder)


def test_one_number_twice_is_refused(tmp_path: Path) -> None:
    folder = clips.image_folder(tmp_path / "a", FRAMES)
    (folder / "img_00003.png").rename(folder / "img_0004.png")
    with pytest.raises(UnopenableError, match="have one number"):
        video.open_video(folder)


def test_numbers_that_count_no_frames_are_refused(tmp_path: Path) -> None:
    folder = clips.image_folder(tmp_path / "a", FRAMES[:3])
    (folder / "img_00002.png").rename(folder / "img_1305031102175304.png")
    with pytest.raises(UnopenableError, match="do not count frames"):
        video.open_video(folder)


def test_folder_of_broken_images_is_a_decode_error(tmp_path: Path) -> None:
    folder = tmp_path / "a"
    folder.mkdir()
    for k in range(3):
        (folder / f"{k}.jpg").write_bytes(b"no image")
    with pytest.raises(DecodeError, match="none of its 3 images"):
        video.open_video(folder)
