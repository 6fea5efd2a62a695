from __future__ import annotations

import dataclasses
import itertools
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import flowkit
from flowkit.errors import BackendError
from flowkit.executor import InlineExecutor
from flowkit.extraction.pipeline import (
    FieldSolver,
    Item,
    Pipeline,
    PipelineConfig,
)
from flowkit.extraction.run import extract, prepare
from flowkit.extraction.sources import VideoSource
from flowkit.frames import pair_indices, resize, to_grey
from flowkit.resize_rule import ResizeRule
from flowkit.store.codecs import DEFAULT_FLOW_CODEC, flow_codec
from flowkit.store.codecs.storage import EncodedFlow
from flowkit.tvl1.backend import choose_backend
from flowkit.tvl1.cuda import solver as cuda
from flowkit.tvl1.cuda.plan import TileShape
from flowkit.tvl1.engine import FlowCodes, Solver
from flowkit.tvl1.params import TVL1Params
from flowkit.tvl1.server.client import RemoteSolver, ServerConfig, Servers
from flowkit.typing import Decoder
from tests.make import clips
from tests.make.small import NATIVE, SMALL, run, still_mkv
from tests.tvl1.emulation.emulator import COMPILER
from tests.tvl1.emulation.fake_cupy import FakeGpu, install


def test_identical_decoded_frames_give_flow_exactly_zero(tmp_path: Path, store: Path) -> None:
    (tmp_path / "videos").mkdir()
    still_mkv(tmp_path / "videos" / "still.mkv", 4)
    run(tmp_path / "videos", store)
    with flowkit.open(store) as opened:
        assert not np.any(opened["still"].flow())


def test_flow_is_in_pixels_of_the_stored_size(tmp_path: Path, store: Path) -> None:
    (tmp_path / "videos").mkdir()
    frames = clips.moving_texture(3, height=64, width=96, shift=(4, 0))
    clips.lossless_mkv(tmp_path / "videos" / "x.mkv", frames)
    run(tmp_path / "videos", store, dataclasses.replace(SMALL, resize=ResizeRule(short_side=32)))
    with flowkit.open(store) as opened:
        clip = opened["x"]
        assert (clip.width, clip.height) == (48, 32)
        assert (clip.record.source_width, clip.record.source_height) == (96, 64)
        u = clip.flow()[:, 0, 8:-8, 8:-8]
    # 4 px at 96 wide are 2 px at 48; half a pixel allows for TV-L1 on a texture shrunk to half.
    assert abs(float(np.median(u)) - 2) < 0.5


@pytest.mark.parametrize("decoder", ["av", "opencv"])
def test_all_eight_orientations_store_one_flow_and_say_which_they_were(
    tmp_path: Path, store: Path, decoder: Decoder
) -> None:
    (tmp_path / "videos").mkdir()
    upright = clips.moving_texture(4, height=32, width=48, shift=(1, 2))
    asked = {}
    for rotation, mirrored in itertools.product((0, 90, 180, 270), (False, True)):
        name = f"{rotation}{'m' if mirrored else ''}"
        asked[name] = (rotation, int(mirrored))
        path = tmp_path / "videos" / f"{name}.mkv"
        clips.oriented_video(path, upright, rotation, mirrored, codec="ffv1", pixel_format="bgr0")
    run(tmp_path / "videos", store, dataclasses.replace(SMALL, decoder=decoder))
    with flowkit.open(store) as opened:
        expected = opened["0"].flow()
        assert abs(float(np.median(expected[:, 1])) - 2) < 0.25  # v: down, whatever the mirror
        for name, orientation in asked.items():
            record = opened[name].record
            assert (record.rotation, record.mirrored) == orientation
            np.testing.assert_array_equal(opened[name].flow(), expected)


def test_step_pairs_each_frame_with_the_one_step_later(tmp_path: Path, store: Path) -> None:
    (tmp_path / "videos").mkdir()
    clips.lossless_mkv(tmp_path / "videos" / "x.mkv", clips.moving_texture(6, shift=(1, 0)))
    run(tmp_path / "videos", store, dataclasses.replace(SMALL, step=3))
    with flowkit.open(store) as opened:
        assert (opened["x"].n_frames, opened["x"].n_flow) == (6, 3)
        u = opened["x"].flow()[:, 0, 8:-8, 8:-8]
    assert abs(float(np.median(u)) - 3) < 0.2


def test_backward_flow_is_the_flow_of_the_swapped_pair(videos: Path, store: Path) -> None:
    run(videos, store, dataclasses.replace(SMALL, backward=True, flow_codec="i16"))
    with flowkit.open(store) as opened:
        assert opened["two"].fields == ("flow", "flow_backward")
        clip = opened["two"]
        first, second = (clip_grey(frame) for frame in clips_decoded(videos / "two.avi")[:2])
        expected = flowkit.tvl1_flow(second, first)
        # i16 rounds to 1/64 px.
        assert np.max(np.abs(clip.flow(0, 1, field="flow_backward")[0] - expected)) <= 1 / 128 + 1e-6


def clips_decoded(path: Path) -> list[np.ndarray]:
    with flowkit.open_video(path) as reader:
        return [frame.rgb for frame in reader]


def clip_grey(rgb: np.ndarray) -> np.ndarray:
    return to_grey(rgb)


def test_stored_frames_are_the_decoded_ones(videos: Path, store: Path) -> None:
    run(videos, store)
    decoded = clips_decoded(videos / "drift" / "one.mkv")
    with flowkit.open(store) as opened:
        stored = opened["drift/one"].frames(range(6))
    # JPEG of quality 95 with half the chroma: a few levels in the mean.
    assert np.mean(np.abs(stored.astype(int) - np.stack(decoded).astype(int))) < 4


def test_fps_resamples_by_time(tmp_path: Path, store: Path) -> None:
    (tmp_path / "videos").mkdir()
    clips.lossless_mkv(tmp_path / "videos" / "x.mkv", clips.moving_texture(11), fps=10)
    run(tmp_path / "videos", store, dataclasses.replace(SMALL, fps=5.0))
    with flowkit.open(store) as opened:
        assert np.allclose(opened["x"].pts, np.arange(6) / 5, atol=1e-3)
        assert opened["x"].record.fps == 5


def test_fps_does_not_fill_a_jump_of_the_clock_with_copies(tmp_path: Path, store: Path) -> None:
    (tmp_path / "videos").mkdir()
    parts = [
        clips.transport_stream(tmp_path / f"{start}.ts", clips.numbered_flashes(10), start_seconds=start)
        for start in (0, 600)
    ]
    (tmp_path / "videos" / "joined.ts").write_bytes(b"".join(part.read_bytes() for part in parts))
    report = run(tmp_path / "videos", store, dataclasses.replace(SMALL, fps=25.0))
    (outcome,) = report.outcomes
    assert (outcome.n_frames, outcome.truncated) == (20, False)
    assert any("clock jumps once by +599.60 s, after 0.36 s" in warning for warning in outcome.warnings)
    with flowkit.open(store) as opened:
        record = opened["joined"].record
    assert (record.status, record.pts_repaired) == ("ok", 10)
    assert "clock jumps" in record.status_reason


def test_a_list_with_times_takes_only_that_part(tmp_path: Path, store: Path) -> None:
    video = clips.lossless_mkv(tmp_path / "x.mkv", clips.moving_texture(20), fps=10)
    part = VideoSource(path=video, video_id="x_part", start_seconds=0.5, end_seconds=1.0)
    with InlineExecutor() as executor:
        extract([part], store, config=SMALL, executor=executor)
    with flowkit.open(store) as opened:
        assert np.allclose(opened["x_part"].pts, [0.5, 0.6, 0.7, 0.8, 0.9], atol=1e-3)
        assert opened["x_part"].record.start_seconds == 0.5


def test_a_video_that_changes_its_size_keeps_the_first_and_says_so(tmp_path: Path, store: Path) -> None:
    frames = clips.moving_texture(6)
    folder = clips.image_folder(tmp_path / "videos" / "walk", frames[:4])
    import cv2

    for k in (5, 6):
        assert cv2.imwrite(str(folder / f"img_{k:05d}.png"), resize(frames[k - 1], (32, 24)))
    report = run(tmp_path / "videos", store)
    with flowkit.open(store) as opened:
        assert opened["walk"].frames([5]).shape == (1, 48, 64, 3)
        assert "size changes from 64x48 to 32x24 at frame 4" in opened["walk"].record.status_reason
    assert any("size changes" in warning for warning in report.outcomes[0].warnings)


def test_segments_and_one_piece_give_the_same_clip(videos: Path, store: Path, tmp_path: Path) -> None:
    run(videos, store)
    run(videos, tmp_path / "segments.h5", dataclasses.replace(SMALL, segment_frames=2))
    with flowkit.open(store) as one, flowkit.open(tmp_path / "segments.h5") as two:
        assert list(one) == list(two) == ["drift/one", "two"]
        for video_id in one:
            assert np.array_equal(one[video_id].flow(), two[video_id].flow())
            assert np.array_equal(one[video_id].frames([0, 4]), two[video_id].frames([0, 4]))
            assert one[video_id].record == two[video_id].record


def test_a_bounded_codec_that_clips_warns(tmp_path: Path, store: Path) -> None:
    (tmp_path / "videos").mkdir()
    clips.lossless_mkv(tmp_path / "videos" / "x.mkv", clips.moving_texture(3, shift=(3, 0)))
    config = dataclasses.replace(SMALL, flow_codec="jpeg", bound_px=1.0)
    report = run(tmp_path / "videos", store, config)
    (warning,) = report.outcomes[0].warnings
    assert "was clipped" in warning
    with flowkit.open(store) as opened:
        clip = opened["x"]
        assert clip.record.clipped_fraction > 0.3
        found = clip.clipped()
        assert found is not None
        assert (found > 0).all()
        assert found.sum() / (2 * clip.n_flow * clip.width * clip.height) == clip.record.clipped_fraction
    assert flowkit.verify(store).sound


class Collected:
    """A sink that keeps what it is given."""

    committed = 0

    def __init__(self) -> None:
        self.flows: list[EncodedFlow] = []

    def resume_point(self) -> None: ...

    def open_video(self, **_: int) -> None: ...

    def add(self, item: Item, **_: bool) -> None:
        self.flows += item.flows


def extracted(video: Path, store: Path, solver: Solver, codec: str) -> tuple[list[EncodedFlow], set[str]]:
    """Return the packed flow of a video, and the stages that were timed."""
    config = dataclasses.replace(SMALL, flow_codec=codec, bound_px=0.5)
    options = prepare([], store, config=config).options
    source = VideoSource(path=video, video_id="x")
    pipeline = Pipeline(
        source, PipelineConfig(options=options, resize=NATIVE, solvers=(FieldSolver(solver=solver),))
    )
    sink = Collected()
    pipeline.run(sink, lambda *_: None)
    return sink.flows, set(pipeline.clock.seconds)


def from_floats(video: Path, solver: Solver, codec: str) -> list[EncodedFlow]:
    greys = np.stack([clip_grey(rgb) for rgb in clips_decoded(video)])
    flows = solver.flow_batch(greys, pair_indices(len(greys), 1))
    return [flow_codec(codec, bound_px=0.5).encode(flow) for flow in flows]


CPU_STAGES = {"decode", "resize", "jpeg", "solve", "encode", "write"}


@pytest.mark.parametrize("codec", ["q8", "i8", "i16", "jpeg"])
def test_stored_flow_is_the_engines_floats_packed(tmp_path: Path, store: Path, codec: str) -> None:
    video = clips.lossless_mkv(tmp_path / "x.mkv", clips.moving_texture(4, shift=(2, 0)))
    solver = choose_backend("auto").solver
    flows, stages = extracted(video, store, solver, codec)
    assert flows == from_floats(video, solver, codec)
    assert stages == CPU_STAGES


@pytest.mark.skipif(COMPILER is None, reason="no C++ compiler here")
@pytest.mark.parametrize("codec", ["q8", "i8", "i16", "jpeg"])
def test_emulated_gpu_hands_out_codes_that_are_its_floats_packed(
    tmp_path: Path, store: Path, codec: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(monkeypatch, FakeGpu())
    video = clips.lossless_mkv(tmp_path / "x.mkv", clips.moving_texture(4, height=24, width=32, shift=(1, 0)))
    tile = TileShape(columns=1, rows=2, warps=8, halo=5)
    solver = cuda.load(TVL1Params(nscales=2, warps=2, iterations=20), tile=tile)
    expected = from_floats(video, solver, codec)
    monkeypatch.delattr(cuda.CudaSolver, "flow_batch")
    flows, stages = extracted(video, store, solver, codec)
    assert flows == expected
    assert stages == CPU_STAGES | {"upload", "download"}


def test_a_gpus_server_that_ends_in_the_middle_of_a_video_is_replaced(tmp_path: Path, store: Path) -> None:
    """Engines of the CPU stand for two GPUs; what comes of it is what one engine gives."""
    video = clips.mjpeg_avi(tmp_path / "x.avi", clips.moving_texture(90, height=16, width=16))
    params = TVL1Params(warps=1, iterations=5)
    engine = choose_backend("auto", params).solver
    options = prepare([], store, config=SMALL).options
    sink, engines = Collected(), [ServerConfig(backend=engine.name)]
    with Servers(engines, params) as doomed, Servers(engines, params) as other:
        solver = RemoteSolver([*doomed.addresses, *other.addresses])
        field = FieldSolver(solver=solver, elsewhere=lambda: True)
        config = PipelineConfig(options=options, resize=NATIVE, solvers=(field,))
        pipeline = Pipeline(VideoSource(path=video, video_id="x"), config)
        ended_at: list[int] = []

        def end_one(decoded: int, _: float) -> None:
            if sink.flows and not ended_at:
                ended_at.append(decoded)
                doomed.close()

        pipeline.run(sink, end_one)
    assert 0 < ended_at[0] < 90
    assert list(map(repr, sink.flows)) == list(map(repr, from_floats(video, engine, DEFAULT_FLOW_CODEC)))


def test_an_engine_that_fails_ends_the_video_and_leaves_no_thread(tmp_path: Path, store: Path) -> None:
    video = clips.mjpeg_avi(tmp_path / "x.avi", clips.moving_texture(90, height=16, width=16))

    class Failing:
        pairs_per_call, calls = 4, 0

        def codes_batch(self, *_: object, **__: object) -> FlowCodes:
            self.calls += 1
            raise BackendError("the GPU fell off the bus")

    before, engine = threading.active_count(), Failing()
    with pytest.raises(BackendError, match="fell off the bus"):
        extracted(video, store, engine, DEFAULT_FLOW_CODEC)  # type: ignore[arg-type]
    assert threading.active_count() == before
    # Not the whole video is tried: the first failure is seen as soon as its turn to be written comes.
    assert engine.calls < 10


def test_memory_does_not_grow_with_the_video(tmp_path: Path, store: Path) -> None:
    """The work in flight is bounded: the decoder waits for the solver."""
    threads = threading.active_count()
    video = clips.mjpeg_avi(tmp_path / "x.avi", clips.moving_texture(120, height=16, width=16))
    setup = prepare([VideoSource(path=video, video_id="x")], store, config=SMALL)
    config = PipelineConfig(
        options=setup.options,
        resize=NATIVE,
        solvers=(FieldSolver(solver=choose_backend("auto").solver),),
        decoder="av",
    )
    most = 0
    pipeline = Pipeline(VideoSource(path=video, video_id="x"), config)

    class Counter:
        committed = 0
        added = 0

        def resume_point(self) -> None: ...

        def open_video(self, **_: int) -> None: ...

        def add(self, *_: object, **__: object) -> None:
            self.added += 1

    sink = Counter()

    def watch(decoded: int, _: float) -> None:
        nonlocal most
        most = max(most, decoded - sink.added)

    pipeline.run(sink, watch)
    assert sink.added == 120
    assert most <= 5 * config.pairs_per_call
    assert threading.active_count() == threads


def test_tiny_frames_are_worked_on_where_they_are_decoded(tmp_path: Path, store: Path) -> None:
    """To hand them to a thread would take longer; what is stored is the same."""
    threads: set[str] = set()

    class Noting:
        """The CPU engine, which notes its threads."""

        def __getattr__(self, name: str) -> object:
            return getattr(choose_backend("auto").solver, name)

        def flow_batch(self, *args: Any, **options: Any) -> Any:
            threads.add(threading.current_thread().name)
            return choose_backend("auto").solver.flow_batch(*args, **options)

    for side, expected in ((64, {"MainThread"}), (65, {"ThreadPoolExecutor"})):
        threads.clear()
        video = clips.lossless_mkv(
            tmp_path / f"{side}.mkv", clips.moving_texture(4, height=64, width=side, shift=(1, 0))
        )
        flows, _ = extracted(video, store, Noting(), DEFAULT_FLOW_CODEC)  # type: ignore[arg-type]
        assert {name.partition("-")[0] for name in threads} == expected
        assert flows == from_floats(video, choose_backend("auto").solver, DEFAULT_FLOW_CODEC)
