"""Fields of other methods than TV-L1 in a store: their values, what is kept of them, and what is refused."""

from __future__ import annotations

import dataclasses
import itertools
import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

import flowkit
from flowkit.errors import InvalidParameterError, StoreOptionsError
from flowkit.extraction import run as extraction
from flowkit.extraction.config import ExtractConfig, methods_of
from flowkit.extraction.sources import find_sources
from flowkit.store.codecs import flow_codec
from flowkit.tvl1.backend import choose_backend
from flowkit.tvl1.params import PRESETS
from tests.make import clips, flow_functions
from tests.make.small import NATIVE, SMALL, run
from tests.methods.test_opencv_methods import CV2

FUNCTIONS = "tests.make.flow_functions"


def config(**choices: object) -> ExtractConfig:
    return ExtractConfig(resize=NATIVE, jobs=1, **choices)  # type: ignore[arg-type]


def video_of(folder: Path, name: str, frames: NDArray[np.uint8]) -> Path:
    folder.mkdir(exist_ok=True)
    return clips.lossless_mkv(folder / f"{name}.mkv", frames)


def stored_exactly(flow: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return flow as codec i16 gives it back."""
    codes = flow_codec("i16").quantizer.quantize(flow).codes
    return np.asarray(codes, np.float32) / np.float32(64)


@pytest.mark.parametrize("method", CV2)
def test_a_whole_extraction_stores_cv2s_flow_of_cv2s_grey_bit_for_bit(method: str, tmp_path: Path) -> None:
    """From the file to the store against a loop of cv2 alone, but for the rounding of the codec."""
    video = video_of(tmp_path / "v", "x", clips.moving_texture(11, height=96, width=128, shift=(3, 1)))
    run(tmp_path / "v", tmp_path / "out.h5", config(method=method, flow_codec="i16", step=2))
    with flowkit.open_video(video) as reader:
        bgr = [frame.rgb[..., ::-1].copy() for frame in reader]
    greys = [np.asarray(cv2.cvtColor(frame, cv2.COLOR_BGR2GRAY), np.uint8) for frame in bgr]
    with flowkit.open(tmp_path / "out.h5") as store:
        flow = store["x"].flow()
    assert len(flow) == 9
    for k in range(9):
        expected = stored_exactly(CV2[method](greys[k], greys[k + 2]).transpose(2, 0, 1))
        assert np.array_equal(flow[k], expected), k


def test_methods_lie_side_by_side_as_fields_of_one_store(videos: Path, store: Path) -> None:
    function = f"{FUNCTIONS}:red"
    fields = (("flow_dis", "dis/fast"), ("red", function), ("flow_fast", "tvl1/fast"))
    run(videos, store, config(more_fields=fields, flow_codec="i16"))
    with flowkit.open(store) as opened:
        assert {one.name: (one.method, one.tvl1_preset) for one in opened.options.fields} == {
            "flow": ("tvl1", "fast"),
            "flow_dis": ("dis", "fast"),
            "red": (function, ""),
            "flow_fast": ("tvl1", "fast"),
        }
        clip = opened["drift/one"]
        frames, pairs = clip_frames(videos / "drift" / "one.mkv"), list(itertools.pairwise(range(6)))
        for name, method in (("flow", "tvl1"), *fields):
            expected = flowkit.flow_batch(frames, pairs, method=method)
            assert np.array_equal(clip.flow(field=name), stored_exactly(expected)), name
        engine = choose_backend("auto").solver.name
        assert clip.record.backend == f"{engine}, dis, {function}"
        assert clip.record.opencv_version == f"OpenCV {cv2.__version__}"
    assert flowkit.verify(store).sound


def clip_frames(path: Path) -> NDArray[np.uint8]:
    with flowkit.open_video(path) as reader:
        return np.stack([frame.rgb for frame in reader])


def test_backward_flow_is_of_the_fields_method_and_of_the_pairs_turned_round(
    videos: Path, store: Path
) -> None:
    function = f"{FUNCTIONS}:red"
    run(videos, store, config(method=function, backward=True, step=2, flow_codec="i16"))
    frames = clip_frames(videos / "drift" / "one.mkv")
    with flowkit.open(store) as opened:
        assert [one.method for one in opened.options.fields] == [function, function]
        red = frames[..., 0].astype(np.float32) / 8
        both = [(opened["drift/one"].flow(field=name)) for name in ("flow", "flow_backward")]
    assert np.array_equal(both[0], np.stack([red[:-2], red[2:]], axis=1))
    assert np.array_equal(both[1], np.stack([red[2:], red[:-2]], axis=1))


def test_a_functions_batch_is_its_own_or_that_of_the_option(videos: Path, tmp_path: Path) -> None:
    for batch_size, expected in ((None, [3, 2]), (2, [2, 2, 1])):
        flow_functions.calls.clear()
        choices = config(method=f"{FUNCTIONS}:red", batch_size=batch_size)
        run(videos / "drift", tmp_path / f"{batch_size}.h5", choices)
        assert flow_functions.calls == expected


def test_a_store_keeps_method_parameters_and_versions_of_a_field(videos: Path, store: Path) -> None:
    run(videos, store, config(method="farneback"))
    with flowkit.open(store) as opened:
        (field,) = opened.options.fields
        assert opened.options.engine_family == "opencv"
    assert json.loads(field.tvl1_params) == {
        "method": "farneback",
        "params": {
            "pyr_scale": 0.5,
            "levels": 3,
            "winsize": 15,
            "iterations": 3,
            "poly_n": 5,
            "poly_sigma": 1.2,
            "flags": 0,
        },
        "versions": {"opencv": cv2.__version__},
    }


@pytest.mark.parametrize(
    ("asked", "difference"),
    [
        ({}, "method of flow: stored dis preset medium, asked TV-L1 preset fast; "),
        (
            {"method": "farneback"},
            "method of flow: stored dis preset medium, asked farneback preset samples; ",
        ),
        ({"method": "dis/fast"}, "method of flow: stored dis preset medium, asked dis preset fast; "),
        (
            {"method": "dis", "more_fields": (("b", "tvl1"),)},
            'fields: stored \'["flow"]\', asked \'["flow", "b"]\'; ',
        ),
    ],
)
def test_a_store_is_not_continued_with_another_method(
    asked: dict[str, object], difference: str, videos: Path, store: Path
) -> None:
    run(videos, store, config(method="dis"))
    before = store.read_bytes()
    with pytest.raises(StoreOptionsError) as caught:
        run(videos, store, config(**asked))
    assert difference in str(caught.value)
    assert "tvl1_params" not in str(caught.value) or "b" in str(asked)
    assert store.read_bytes() == before
    assert run(videos, store, config(method="dis")).already_stored == 2


def test_a_store_is_not_continued_by_another_version_of_a_function(
    videos: Path, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(videos, store, config(method=f"{FUNCTIONS}:red"))
    flowkit.methods.function.read_function.cache_clear()
    monkeypatch.setattr(flow_functions.red, "version", "8")
    with pytest.raises(
        StoreOptionsError, match=r"versions of flow: stored \{'tests': '7'\}, asked \{'tests': '8'\}"
    ):
        run(videos, store, config(method=f"{FUNCTIONS}:red"))
    flowkit.methods.function.read_function.cache_clear()


def test_a_function_that_fails_costs_only_its_video(tmp_path: Path) -> None:
    texture = clips.moving_texture(4)
    video_of(tmp_path / "v", "dark", texture // 4)
    video_of(tmp_path / "v", "bright", texture)
    report = run(tmp_path / "v", tmp_path / "out.h5", config(method=f"{FUNCTIONS}:bright"))
    (failure,) = report.failures
    assert (failure.video_id, failure.reason, report.stored) == ("bright", "engine_error", 1)
    assert f"method '{FUNCTIONS}:bright' returned " in failure.detail
    assert "not finite, expected float32 (3, 2, 48, 64)" in failure.detail


@pytest.mark.parametrize(("function", "processes"), [("alone", 1), ("process", 2)])
def test_a_function_that_asks_for_one_process_gets_one_and_others_one_a_worker(
    function: str, processes: int, tmp_path: Path
) -> None:
    for k in range(6):
        video_of(tmp_path / "v", f"clip{k}", clips.moving_texture(3 + k))
    chosen = dataclasses.replace(config(method=f"{FUNCTIONS}:{function}", flow_codec="i16"), jobs=2)
    setup = extraction.prepare(find_sources([tmp_path / "v"]), tmp_path / "out.h5", config=chosen)
    assert extraction.run(setup).stored == 6
    with flowkit.open(tmp_path / "out.h5") as opened:
        assert len({float(opened[k].flow(0, 1).max()) for k in opened}) == processes


@pytest.mark.parametrize(
    ("choices", "message"),
    [
        ({"method": "raft"}, "Invalid method"),
        ({"more_fields": (("b", "dis/slow"),)}, "Invalid preset of method 'dis'"),
        ({"more_fields": (("flow_backward", "dis"),)}, "a further field cannot be 'flow_backward'"),
        ({"method": "dis", "params": PRESETS["tsn"]}, "TV-L1 parameters belong to method 'tvl1'"),
        ({"method": "tvl1/fast", "params": PRESETS["tsn"]}, "TV-L1 parameters belong to method 'tvl1'"),
        ({"method": "dis", "backend": "cpu"}, "backend 'cpu' is an engine of TV-L1, and no field is: dis"),
        ({"batch_size": 4}, "batch_size must be given with a method package.module:function, got 4"),
        ({"method": "a:b", "batch_size": 0}, "batch_size must be an integer >= 1 pairs, got 0"),
    ],
)
def test_choices_that_contradict_one_another_are_refused(choices: dict[str, object], message: str) -> None:
    with pytest.raises(InvalidParameterError, match=message):
        config(**choices)


@pytest.mark.parametrize(
    ("choices", "message"),
    [
        ({"more_fields": (("Flow Dis", "dis"),)}, r"Invalid field name \('Flow Dis'\)"),
        ({"more_fields": (("b", "dis"), ("b", "dis/fast"))}, "fields must be distinct"),
        ({"method": "dis", "gpus": (0,)}, "the backend is none, since no field is TV-L1"),
        ({"method": f"{FUNCTIONS}:none"}, "has no function 'none'"),
    ],
)
def test_what_a_plan_finds_wrong_is_refused_before_the_first_video(
    choices: dict[str, object], message: str, videos: Path, store: Path
) -> None:
    with pytest.raises(InvalidParameterError, match=message):
        flowkit.prepare(videos, store, config=config(**choices))
    assert not store.exists()


def test_fields_of_one_method_are_computed_together() -> None:
    chosen = config(backward=True, more_fields=(("b", "tvl1"), ("c", "dis"), ("d", "dis/medium")))
    assert [(each.method.name, each.fields) for each in methods_of(chosen)] == [
        ("tvl1", ("flow", "flow_backward", "b")),
        ("dis", ("c", "d")),
    ]


def test_without_tvl1_no_engine_is_chosen_for_it(videos: Path, store: Path) -> None:
    setup = flowkit.prepare(videos, store, config=dataclasses.replace(SMALL, method="dis"))
    assert setup.backend is None
    assert setup.tvl1 == ()
