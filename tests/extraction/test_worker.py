"""One video in a worker: its part, its segments, its outcome and warnings."""

from __future__ import annotations

import dataclasses
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

import flowkit
from flowkit.errors import TooShortError, UnopenableError
from flowkit.executor import InlineExecutor
from flowkit.extraction import engines
from flowkit.extraction import run as extraction
from flowkit.extraction.config import store_options
from flowkit.extraction.sources import VideoSource, find_sources
from flowkit.store.codecs import DEFAULT_FLOW_CODEC
from flowkit.store.parts_folder import PartsFolder
from flowkit.store.write.pack import finalize
from tests.make import clips
from tests.make.one_video import Stop, extract_one, make_task
from tests.make.small import NATIVE, SMALL, run, still_mkv


def parts_of(store: Path) -> list[str]:
    return sorted(path.name for path in PartsFolder(store).path.iterdir())


def test_pixels_that_are_not_square_and_interlaced_frames_are_recorded_with_a_warning(
    tmp_path: Path, store: Path
) -> None:
    (tmp_path / "videos").mkdir()
    frames = clips.moving_texture(4)
    clips.write_video(tmp_path / "videos" / "wide.mp4", frames, pixel_aspect=Fraction(3, 2))
    clips.interlaced(tmp_path / "videos" / "fields.mpg", frames)
    clips.lossless_mkv(tmp_path / "videos" / "plain.mkv", frames)
    config = dataclasses.replace(SMALL, resize=dataclasses.replace(NATIVE, pixels="stored"))
    report = run(tmp_path / "videos", store, config)
    warnings = {outcome.video_id: " ".join(outcome.warnings) for outcome in report.outcomes}
    assert "64x48 is shown as 96x48" in warnings["wide"]
    assert "--pixels square, into another file" in warnings["wide"]
    assert "4 of 4 frames are interlaced" in warnings["fields"]
    assert warnings["plain"] == ""
    with flowkit.open(store) as opened:
        found = {name: (clip.record.pixel_aspect, clip.record.interlaced) for name, clip in opened.items()}
    assert found == {"wide": (1.5, 0), "fields": (1.0, 1), "plain": (1.0, 0)}


def test_a_long_video_goes_on_from_its_last_segment(
    videos: Path, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = dataclasses.replace(SMALL, segment_frames=2)
    with monkeypatch.context() as patch:
        patch.setattr("flowkit.extraction.part_sink.assemble", lambda *_: (_ for _ in ()).throw(Stop))
        with pytest.raises(Stop):
            run(videos, store, config)
    assert len(list(PartsFolder(store).path.glob("*~s*.h5"))) == 3

    solved = []

    class Counting:
        def __init__(self, solver: object) -> None:
            self._solver = solver

        def __getattr__(self, name: str) -> object:
            return getattr(self._solver, name)

        def flow_batch(self, frames: object, pairs: np.ndarray, **options: object) -> object:
            solved.append(len(pairs))
            return self._solver.flow_batch(frames, pairs, **options)  # type: ignore[attr-defined]

    real = engines._solver
    monkeypatch.setattr(engines, "_solver", lambda *args: Counting(real(*args)))
    setup = extraction.prepare(find_sources([videos])[:1], store, config=config)
    with InlineExecutor() as executor:
        extraction.run(setup, executor=executor)
    assert not solved
    with flowkit.open(store) as opened:
        assert opened["drift/one"].n_flow == 5


@pytest.mark.parametrize("codec", ["q8", "i8", "jpeg"])
def test_segments_leave_the_part_that_one_piece_would(tmp_path: Path, codec: str) -> None:
    path = clips.lossless_mkv(tmp_path / "a.mkv", clips.moving_texture(7, shift=(4, 0)))
    config = dataclasses.replace(SMALL, flow_codec=codec, bound_px=2.0, backward=True)
    made = {}
    # 7 frames in segments of 7 and more, 4 and 3, 2 and 1 left over.
    for length in (600, 7, 4, 2):
        source, store = VideoSource(path=path, video_id="a"), tmp_path / f"{length}.h5"
        chosen = dataclasses.replace(config, segment_frames=length)
        extract_one(make_task(source, store, chosen))
        assert parts_of(store) == ["a.h5"]
        finalize(store, options=store_options(config, backend="cpu"))
        with flowkit.open(store) as opened:
            video, record = opened.stored_video("a"), opened["a"].record
            made[length] = (
                [video.frames[k] for k in range(7)],
                [video.field(name).chunks(k) for name in ("flow", "flow_backward") for k in range(6)],
                opened["a"].pts.tolist(),
                [clipped_of(opened["a"], name) for name in ("flow", "flow_backward")],
                # The sum over segments of their fractions rounds.
                dataclasses.replace(record, clipped_fraction=round(record.clipped_fraction, 12)),
            )
            assert (record.clipped_fraction > 0.05) == (codec == "jpeg")
    assert made[7] == made[600]
    assert made[4] == made[600]
    assert made[2] == made[600]


def clipped_of(clip: flowkit.Clip, field: str) -> list[int]:
    """Return the stored numbers of clipped components of a field."""
    found = clip.clipped(field=field)
    assert found is not None
    return list(found.tolist())


def test_the_outcome_counts_what_was_stored(tmp_path: Path) -> None:
    path = clips.lossless_mkv(tmp_path / "a.mkv", clips.moving_texture(5))
    source = VideoSource(path=path, video_id="walk/a", label="walk")
    outcome = extract_one(make_task(source, tmp_path / "out.h5"))
    assert (outcome.video_id, outcome.source, outcome.label) == ("walk/a", str(path), "walk")
    assert (outcome.status, outcome.n_frames, outcome.n_flow, outcome.truncated) == ("stored", 5, 4, False)
    assert outcome.warnings == ()
    assert {"fingerprint", "decode", "write"} <= set(outcome.stages)
    assert parts_of(tmp_path / "out.h5") == ["walk%2Fa.h5"]


def test_clipped_flow_is_a_warning_with_its_remedy(tmp_path: Path) -> None:
    path = clips.lossless_mkv(tmp_path / "a.mkv", clips.moving_texture(4, shift=(4, 0)))
    config = dataclasses.replace(SMALL, flow_codec="jpeg", bound_px=1.0)
    outcome = extract_one(make_task(VideoSource(path=path, video_id="a"), tmp_path / "out.h5", config))
    (warning,) = outcome.warnings
    assert "of the flow is beyond the range of --flow-codec jpeg and was clipped (largest" in warning
    assert f"expected 0.1% at most; use --flow-codec {DEFAULT_FLOW_CODEC} or a larger --bound" in warning


def test_a_cut_video_is_stored_and_said_to_be_truncated(tmp_path: Path) -> None:
    whole = clips.mjpeg_avi(tmp_path / "whole.avi", clips.moving_texture(20))
    path = clips.truncated(tmp_path / "a.avi", whole, 0.5)
    outcome = extract_one(make_task(VideoSource(path=path, video_id="a"), tmp_path / "out.h5"))
    assert outcome.status == "stored"
    assert outcome.truncated
    assert 2 <= outcome.n_frames < 20
    assert outcome.warnings[0].startswith("truncated: ")


def test_a_video_that_fails_leaves_neither_part_nor_temporary(tmp_path: Path) -> None:
    path, store = still_mkv(tmp_path / "a.mkv", 1), tmp_path / "out.h5"
    with pytest.raises(TooShortError):
        extract_one(make_task(VideoSource(path=path, video_id="a"), store))
    assert parts_of(store) == []


def test_a_missing_file_has_the_decoders_reason(tmp_path: Path) -> None:
    source = VideoSource(path=tmp_path / "gone.mkv", video_id="a")
    with pytest.raises(UnopenableError, match="No such file"):
        extract_one(make_task(source, tmp_path / "out.h5"))
