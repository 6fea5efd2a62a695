from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

import flowkit
from flowkit import jpeg
from flowkit.extraction.part_sink import PartSink
from flowkit.extraction.pipeline import Item
from flowkit.extraction.resume import UNDISTURBED
from flowkit.store.parts_folder import PartsFolder
from flowkit.store.record import SourceFingerprint
from flowkit.store.schema import StoreOptions
from flowkit.store.write.pack import finalize
from flowkit.store.write.segments import committed_segments
from flowkit.tvl1.engine import EngineInfo
from tests.rawframes.conftest import HEIGHT, WIDTH, make_flow, make_frames, make_options, make_record

STATE = SourceFingerprint(name="a.avi", bytes=10, mtime_ns=1, sha256="0" * 64)
FRAMES, FLOW = make_frames(0, 5), make_flow(0, 5)
FLOW[1] *= 3  # the largest of the video, neither in the last field nor in the last segment


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


def item(index: int, *, options: StoreOptions | None = None, **changes: object) -> Item:
    """Return frame `index` with the field that begins at it."""
    flows = ((options or make_options()).codec.encode(FLOW[index]),)
    made = Item(pts_seconds=index / 25, jpeg=jpeg.encode(FRAMES[index]), flows=flows)
    return dataclasses.replace(made, **changes)  # type: ignore[arg-type]


def fill(sink: PartSink, *, options: StoreOptions | None = None) -> None:
    """Add the five frames, each but the last with a field."""
    sink.open_video(width=WIDTH, height=HEIGHT)
    for index in range(4):
        sink.add(item(index, options=options))
    sink.add(item(4, flows=()))


@pytest.mark.parametrize(("segment_frames", "committed"), [(600, 0), (5, 0), (2, 4)])
@pytest.mark.parametrize("codec", ["q8", "jpeg"])
def test_a_video_becomes_one_part_with_the_totals_of_its_flow(
    parts: PartsFolder, codec: str, segment_frames: int, committed: int
) -> None:
    options = make_options(flow_codec=codec, bound_px=8.0)
    with sink_of(parts, segment_frames=segment_frames, options=options) as sink:
        fill(sink, options=options)
        assert sink.committed == committed
        record = sink.commit(make_record("a", 5, 4, 0))
    assert names(parts) == ["a.h5"]
    assert record.flow_max_px == pytest.approx(float(np.abs(FLOW[:4]).max()))
    finalize(parts.store_path, options=options)
    with flowkit.open(parts.store_path) as store:
        clip, stored = store["a"], store.stored_video("a")
        clipped = clip.clipped()
        assert clipped is not None
        assert clip.record == record
        assert record.clipped_fraction == pytest.approx(clipped.sum() / (2 * 4 * HEIGHT * WIDTH))
        assert (record.clipped_fraction > 0) == (codec == "jpeg")
        assert clip.pts.tolist() == [k / 25 for k in range(5)]
        assert [stored.frames[k] for k in range(5)] == [jpeg.encode(frame) for frame in FRAMES]
        expected = [options.codec.encode(field).chunks for field in FLOW[:4]]
        assert [stored.field("flow").chunks(k) for k in range(4)] == expected


def test_a_video_of_one_segment_is_written_once(parts: PartsFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr("flowkit.extraction.part_sink.assemble")
    with sink_of(parts, segment_frames=5) as sink:
        fill(sink)
        sink.commit(make_record("a", 5, 4, 0))
    assert names(parts) == ["a.h5"]


def test_a_sink_left_without_commit_keeps_its_full_segments_only(parts: PartsFolder) -> None:
    with sink_of(parts, segment_frames=2) as sink:
        fill(sink)
        assert sink.committed == 4
    assert names(parts) == ["a~s00000.h5", "a~s00001.h5"]
    assert sink_of(parts, segment_frames=2).committed == 4


@pytest.mark.parametrize("changed", ["source", "options"])
def test_segments_of_another_source_or_other_options_do_not_count(parts: PartsFolder, changed: str) -> None:
    with sink_of(parts, segment_frames=2) as sink:
        fill(sink)
    state = dataclasses.replace(STATE, bytes=11) if changed == "source" else STATE
    options = make_options(jpeg_quality=80) if changed == "options" else make_options()
    assert sink_of(parts, segment_frames=2, options=options, state=state).committed == 0
    assert names(parts) == []


def test_engines_are_those_that_computed_in_their_order(parts: PartsFolder) -> None:
    cpu, gpu = (EngineInfo(name=name, device="", version="1") for name in ("cpu", "cuda"))
    with sink_of(parts, segment_frames=2) as sink:
        sink.open_video(width=WIDTH, height=HEIGHT)
        for index, engine in enumerate((gpu, cpu, cpu, cpu, gpu)):
            sink.add(item(index, engines=(engine,)))
        assert sink.engines == (gpu, cpu)
        segments = committed_segments(parts, "a", make_options(), STATE)
        assert [segment.backend for segment in segments.values()] == ["cuda, cpu", "cpu"]


def test_a_segment_is_undisturbed_while_its_last_frame_is(parts: PartsFolder) -> None:
    with sink_of(parts, segment_frames=2) as sink:
        sink.open_video(width=WIDTH, height=HEIGHT)
        for index, undisturbed in enumerate((True, True, True, False, False)):
            sink.add(item(index), undisturbed=undisturbed)
    segments = committed_segments(parts, "a", make_options(), STATE)
    assert [segment.status_reason for segment in segments.values()] == [UNDISTURBED.status_reason, ""]
