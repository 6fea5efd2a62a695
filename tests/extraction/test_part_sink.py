from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

import flowkit
from flowkit import jpeg
from flowkit.extraction.part_sink import PartSink
from flowkit.extraction.pipeline import Item
from flowkit.store.parts_folder import PartsFolder
from flowkit.store.record import SourceFingerprint
from flowkit.store.schema import StoreOptions
from flowkit.store.write.pack import finalize
from flowkit.tvl1.engine import EngineInfo
from tests.rawframes.conftest import HEIGHT, WIDTH, make_flow, make_frames, make_options, make_record

STATE = SourceFingerprint(name="a.avi", bytes=10, mtime_ns=1, sha256="0" * 64)


@pytest.fixture
def parts(tmp_path: Path) -> PartsFolder:
    made = PartsFolder(tmp_path / "out.h5")
    made.path.mkdir()
    return made


def names(parts: PartsFolder) -> list[str]:
    return sorted(path.name for path in parts.path.iterdir())


def sink_of(
    parts: PartsFolder,
    *,
    segment_frames: int,
    options: StoreOptions | None = None,
    state: SourceFingerprint = STATE,
) -> PartSink:
    return PartSink(parts, "a", options or make_options(), state, segment_frames=segment_frames)


def fill(sink: PartSink, first: int, stop: int, *, whole: bool = False) -> None:
    """Add frames first to stop - 1, each with a field; of a whole video the last one has none."""
    frames, flow = make_frames(0, stop), make_flow(0, stop)
    sink.open_video(width=WIDTH, height=HEIGHT)
    for index in range(first, stop):
        flows = () if whole and index == stop - 1 else (make_options().codec.encode(flow[index]),)
        sink.add(Item(pts_seconds=index / 25, jpeg=jpeg.encode(frames[index]), flows=flows))


@pytest.mark.parametrize(("segment_frames", "committed"), [(600, 0), (5, 0), (2, 4)])
def test_a_video_becomes_one_part_with_the_totals_of_its_flow(
    parts: PartsFolder, segment_frames: int, committed: int
) -> None:
    with sink_of(parts, segment_frames=segment_frames) as sink:
        fill(sink, 0, 5, whole=True)
        assert sink.committed == committed
        record = sink.commit(make_record("a", 5, 4, 0))
    assert names(parts) == ["a.h5"]
    largest = float(np.abs(make_flow(0, 5)[:4]).max())
    assert record.flow_max_px == pytest.approx(largest)
    finalize(parts.store_path, options=make_options())
    with flowkit.open(parts.store_path) as store:
        clip = store["a"]
        clipped = clip.clipped()
        assert clipped is not None
        assert clip.record == record
        assert record.clipped_fraction == pytest.approx(clipped.sum() / (2 * 4 * HEIGHT * WIDTH))
        assert clip.pts.tolist() == [k / 25 for k in range(5)]
        assert np.abs(clip.flow() - make_flow(0, 5)[:4]).max() < 0.1


def test_a_sink_left_without_commit_keeps_its_full_segments_only(parts: PartsFolder) -> None:
    with sink_of(parts, segment_frames=2) as sink:
        fill(sink, 0, 5)
        assert sink.committed == 4
    assert names(parts) == ["a~s00000.h5", "a~s00001.h5"]
    assert sink_of(parts, segment_frames=2).committed == 4


@pytest.mark.parametrize("changed", ["source", "options"])
def test_segments_of_another_source_or_other_options_do_not_count(parts: PartsFolder, changed: str) -> None:
    with sink_of(parts, segment_frames=2) as sink:
        fill(sink, 0, 5)
    state = dataclasses.replace(STATE, bytes=11) if changed == "source" else STATE
    options = make_options(jpeg_quality=80) if changed == "options" else make_options()
    assert sink_of(parts, segment_frames=2, options=options, state=state).committed == 0
    assert names(parts) == []


def test_engines_are_those_that_computed_in_their_order(parts: PartsFolder) -> None:
    cpu, gpu = (EngineInfo(name=name, device="", version="1") for name in ("cpu", "cuda"))
    with sink_of(parts, segment_frames=600) as sink:
        sink.open_video(width=WIDTH, height=HEIGHT)
        for index, engine in enumerate((gpu, cpu, gpu)):
            flows = (make_options().codec.encode(make_flow(0, 1)[0]),)
            frame = jpeg.encode(make_frames(0, 1)[0])
            sink.add(Item(pts_seconds=float(index), jpeg=frame, flows=flows, engines=(engine,)))
        assert sink.engines == (gpu, cpu)
