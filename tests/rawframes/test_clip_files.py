"""The files of one clip: stored bytes as they are, other flow encoded, all of it counted."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

import flowkit
from flowkit import jpeg
from flowkit.errors import StoreCorruptError
from flowkit.flow_files.flo import read_flo
from flowkit.quantize import quantize_u8
from flowkit.rawframes.clip_files import ExportedClip, ExportTally, Recipe
from flowkit.rawframes.layouts import LAYOUTS
from flowkit.store.schema import FieldOptions
from tests.rawframes.conftest import HEIGHT, WIDTH, MakeStore, make_flow, names_in, run_export

TSN = Recipe(layout=LAYOUTS["tsn"], frames=True, flow=True, field="flow", bound_px=20.0, quality=95)


@pytest.mark.parametrize("codec", ["q8", "i8", "i16", "jpeg"])
def test_frames_are_the_stored_bytes(make_store: MakeStore, tmp_path: Path, codec: str) -> None:
    store = make_store({"walk/a": 3}, flow_codec=codec)
    run_export(store, tmp_path / "out")
    with flowkit.open(store) as opened:
        stored = opened.stored_video("walk/a").frames
        for index in range(3):
            assert (tmp_path / f"out/walk/a/img_{index + 1:05d}.jpg").read_bytes() == stored[index]


def test_flow_of_a_jpeg_store_is_the_stored_bytes(make_store: MakeStore, tmp_path: Path) -> None:
    store = make_store({"walk/a": 4}, flow_codec="jpeg")
    run_export(store, tmp_path / "out", "denseflow")
    with flowkit.open(store) as opened:
        field = opened.stored_video("walk/a").field("flow")
        for index in range(3):
            written = tuple(
                (tmp_path / f"out/walk/a/flow_{axis}_{index:05d}.jpg").read_bytes() for axis in "xy"
            )
            assert written == field.chunks(index)


@pytest.mark.parametrize("codec", ["q8", "i8", "i16"])
def test_other_flow_is_quantised_and_encoded_as_the_jpeg_codec_does(
    make_store: MakeStore, tmp_path: Path, codec: str
) -> None:
    store = make_store({"walk/a": 3}, flow_codec=codec)
    run_export(store, tmp_path / "out")
    with flowkit.open(store) as opened:
        codes, _ = quantize_u8(opened["walk/a"].flow(1, 2)[0], bound_px=20)
    for plane, axis in zip(codes, "xy", strict=True):
        written = (tmp_path / f"out/walk/a/flow_{axis}_00002.jpg").read_bytes()
        assert written == jpeg.encode_grey(plane, 95)


def test_clipped_components_are_counted(make_store: MakeStore, tmp_path: Path) -> None:
    store = make_store({"walk/a": 4}, px=12.0, flow_codec="i16")
    report = run_export(store, tmp_path / "out", bound_px=15.0)
    with flowkit.open(store) as opened:
        expected = float(np.mean(np.abs(opened["walk/a"].flow()) > 15))
    assert expected > 0.01
    assert report.clipped_fraction == pytest.approx(expected, abs=1e-12)


def test_flo_files_hold_the_stored_flow(make_store: MakeStore, tmp_path: Path) -> None:
    store = make_store({"a": 3})
    run_export(store, tmp_path / "out", "flo", content="flow")
    assert names_in(tmp_path / "out" / "a") == ["flow_00000.flo", "flow_00001.flo"]
    with flowkit.open(store) as opened:
        assert np.array_equal(read_flo(tmp_path / "out/a/flow_00001.flo"), opened["a"].flow(1, 2)[0])


def test_npy_files_hold_flow_and_frames(make_store: MakeStore, tmp_path: Path) -> None:
    store = make_store({"a": 3, "walk/b": 5})
    run_export(store, tmp_path / "out", "npy")
    with flowkit.open(store) as opened:
        for video_id, n_frames in (("a", 3), ("walk/b", 5)):
            folder, clip = tmp_path / "out" / video_id, opened[video_id]
            assert names_in(folder) == ["flow.npy", "frames.npy"]
            flow, frames = (np.load(folder / name) for name in ("flow.npy", "frames.npy"))
            assert (flow.dtype, flow.shape) == (np.float32, (n_frames - 1, 2, clip.height, clip.width))
            assert (frames.dtype, frames.shape) == (np.uint8, (n_frames, clip.height, clip.width, 3))
            assert np.array_equal(flow, clip.flow())
            assert np.array_equal(frames, clip.frames(range(n_frames)))
            assert flow.any()
            assert frames.any()


def test_a_frame_comes_before_the_flow_that_begins_at_it(make_store: MakeStore) -> None:
    seen: list[str] = []
    with flowkit.open(make_store({"a": 3})) as store:
        clip = ExportedClip(store, "a", TSN, ExportTally())
        for name, _ in clip.files(lambda: seen.append("frame done")):
            seen.append(name)
    assert seen == [
        *("img_00001.jpg", "flow_x_00001.jpg", "flow_y_00001.jpg", "frame done"),
        *("img_00002.jpg", "flow_x_00002.jpg", "flow_y_00002.jpg", "frame done"),
        *("img_00003.jpg", "frame done"),
    ]


@pytest.mark.parametrize(
    ("changes", "tally"),
    [
        ({}, ExportTally(n_frames=4, n_flow=3, values=3 * 2 * HEIGHT * WIDTH)),
        ({"frames": False}, ExportTally(n_flow=3, values=3 * 2 * HEIGHT * WIDTH)),
        ({"flow": False}, ExportTally(n_frames=4)),
        # .flo has no range that could clip.
        ({"layout": LAYOUTS["flo"]}, ExportTally(n_frames=4, n_flow=3)),
    ],
)
def test_the_tally_has_what_was_written(
    make_store: MakeStore, changes: dict[str, object], tally: ExportTally
) -> None:
    counted = ExportTally()
    with flowkit.open(make_store({"a": 4})) as store:
        recipe = dataclasses.replace(TSN, **changes)  # type: ignore[arg-type]
        names = [name for name, _ in ExportedClip(store, "a", recipe, counted).files()]
    assert counted == tally
    assert len([name for name in names if name.startswith("img_")]) == tally.n_frames


def test_one_tally_adds_up_over_clips(make_store: MakeStore) -> None:
    tally, done = ExportTally(), []
    with flowkit.open(make_store({"a": 4, "b": 2}, px=12.0, flow_codec="i16")) as store:
        recipe = dataclasses.replace(TSN, bound_px=10.0)
        for video_id in ("a", "b"):
            list(ExportedClip(store, video_id, recipe, tally).files(lambda: done.append(1)))
        flow = np.concatenate([store[video_id].flow() for video_id in ("a", "b")])
    assert (tally.n_frames, tally.n_flow, tally.values, len(done)) == (6, 4, flow.size, 6)
    assert tally.clipped == np.count_nonzero(np.abs(flow) > 10) > 0


def test_the_recipes_field_is_written(make_store: MakeStore, tmp_path: Path) -> None:
    fields = tuple(
        FieldOptions(name=name, tvl1_preset="fast", tvl1_params="{}") for name in ("flow", "flow_backward")
    )
    folder = tmp_path / "a"
    folder.mkdir()
    recipe = dataclasses.replace(TSN, layout=LAYOUTS["npy"], field="flow_backward", frames=False)
    with flowkit.open(make_store({"a": 3}, fields=fields, flow_codec="i16")) as store:
        ExportedClip(store, "a", recipe, ExportTally()).write_npy(folder)
    assert names_in(folder) == ["flow.npy"]
    # i16 keeps steps of 1/64 px or finer; the two fields differ by several px.
    np.testing.assert_allclose(np.load(folder / "flow.npy"), make_flow(1, 2), atol=1 / 64)


def test_a_damaged_frame_is_an_error_and_no_file(make_store: MakeStore, tmp_path: Path) -> None:
    path = make_store({"a": 3})
    with flowkit.open(path) as store:
        chunk = store.stored_video("a").frames[1]
    data = bytearray(path.read_bytes())
    data[data.index(chunk) + 30] ^= 1
    path.write_bytes(data)
    with flowkit.open(path) as store:
        clip = ExportedClip(store, "a", dataclasses.replace(TSN, flow=False), ExportTally())
        files = clip.files()
        assert next(files)[0] == "img_00001.jpg"
        with pytest.raises(StoreCorruptError, match="CRC"):
            next(files)
        with pytest.raises(StoreCorruptError, match="CRC"):
            clip.write_npy(tmp_path)
