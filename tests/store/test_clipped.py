"""How many components of each field saturated: known flow with outliers, all the way through a store."""

from __future__ import annotations

import contextlib
import re
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import h5py
import numpy as np
import pytest
from numpy.typing import ArrayLike, NDArray

import flowkit
from flowkit import jpeg
from flowkit.extraction.part_sink import PartSink
from flowkit.extraction.pipeline import Item
from flowkit.store.parts_folder import PartsFolder
from flowkit.store.read.store import open_store
from flowkit.store.record import SourceFingerprint, VideoRecord
from flowkit.store.schema import FieldOptions, StoreOptions, clipped_name, field_names
from flowkit.store.tools.combine import merge, relabel, subset
from flowkit.store.tools.recode import recode
from flowkit.store.tools.repair import repair
from flowkit.store.tools.verify import verify
from flowkit.store.write.pack import finalize
from tests.make.stores import make_format_1_0
from tests.store.conftest import make_options, make_record

Flow = NDArray[np.float32]
Counts = NDArray[np.int32]

HEIGHT, WIDTH = 40, 50
"""4,000 components: four may saturate in `q8`, whose scale then stays 1/8 px."""
OUTLIER_PX = 700.0
"""Beyond what `q8` (15.9 px), `i16` (512 px) and `jpeg` (20 px) hold."""
N_FLOW = 7
COMPONENTS = 4000 * N_FLOW
GREY = np.full((HEIGHT, WIDTH, 3), 128, np.uint8)
SATURATING = pytest.mark.parametrize("codec", ["q8", "i16", "jpeg"])


def outliers(seed: int, most: int = 4) -> Flow:
    """Return noise of 1 px, float32 (N_FLOW, 2, H, W), with 0 to `most` wild components in each field."""
    rng = np.random.default_rng(seed)
    flow = rng.normal(0, 1, (N_FLOW, 2, HEIGHT, WIDTH)).astype(np.float32)
    for k, field in enumerate(flow):
        chosen = rng.choice(field.size, (k + seed) % (most + 1), replace=False)
        field.flat[chosen] = rng.choice([-OUTLIER_PX, OUTLIER_PX], len(chosen))
    return flow


def wild(flow: Flow) -> Counts:
    """Return the number of wild components of each field."""
    return counted(np.abs(flow) > OUTLIER_PX / 2)


def counted(components: NDArray[np.bool_]) -> Counts:
    """Return the number of true components of each field."""
    return np.array([np.count_nonzero(field) for field in components], np.int32)


def of_fields(*names: str, **changes: object) -> StoreOptions:
    fields = tuple(FieldOptions(name=name, tvl1_preset="fast", tvl1_params="{}") for name in names)
    return make_options(fields=fields or make_options().fields, **{"frame_codec": "none", **changes})


def record_of(video_id: str) -> VideoRecord:
    return make_record(video_id, width=WIDTH, height=HEIGHT, n_frames=N_FLOW + 1, n_flow=N_FLOW)


def extract(
    path: Path,
    options: StoreOptions,
    video_id: str,
    *fields: Flow,
    segment_frames: int = 600,
    stop: int | None = None,
) -> None:
    """Write a video's part as an extraction does; from frame `stop` on, nothing, as if it was killed."""
    parts, record = PartsFolder(path), record_of(video_id)
    parts.path.mkdir(exist_ok=True)
    state: SourceFingerprint = record.fingerprint
    with PartSink(parts, video_id, options, state, segment_frames=segment_frames) as sink:
        sink.open_video(width=WIDTH, height=HEIGHT)
        for k in range(sink.committed, N_FLOW + 1 if stop is None else stop):
            flows = tuple(options.codec.encode(flow[k]) for flow in fields) if k < N_FLOW else ()
            data = jpeg.encode(GREY) if options.frame_codec == "jpeg" else None
            sink.add(Item(pts_seconds=k / 25, jpeg=data, flows=flows))
        if stop is None:
            sink.commit(record)


def make_store(path: Path, options: StoreOptions, **seeds: int) -> Path:
    """Write a store; field f of a video has the outliers of its seed + f."""
    for video_id, seed in seeds.items():
        fields = [outliers(seed + f) for f in range(len(options.fields))]
        extract(path, options, video_id, *fields)
    finalize(path, options=options)
    return path


@contextlib.contextmanager
def earlier_flowkit() -> Iterator[None]:
    """Write stores as flowkit did before it stored the numbers."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("flowkit.store.write.part.clipped_name", lambda *_: None)
        yield


def read(path: Path, video_id: str = "a", field: str = "flow") -> Counts | None:
    """Return the numbers that the reader gives, by both ways of access."""
    with open_store(path) as direct, open_store(path, access="h5py") as through_hdf5:
        assert direct.access.method == "pread"
        found = [store[video_id].clipped(field=field) for store in (direct, through_hdf5)]
    if found[0] is None:
        assert found[1] is None
    else:
        assert (found[0].dtype.name, found[0].shape) == ("int32", (N_FLOW,))
        assert same(found[1], found[0])
    return found[0]


def same(found: Counts | None, expected: ArrayLike) -> bool:
    return found is not None and np.array_equal(found, expected)


def datasets(path: Path, video_id: str = "a") -> set[str]:
    with h5py.File(path) as file:
        return set(file[f"videos/{video_id}"])


@SATURATING
def test_each_field_has_the_number_of_its_components_that_saturate(tmp_path: Path, codec: str) -> None:
    flow, options = outliers(0), of_fields(flow_codec=codec)
    path = make_store(tmp_path / "out.h5", options, a=0)
    expected = [0, 1, 2, 3, 4, 0, 1]
    assert wild(flow).tolist() == expected
    with h5py.File(path) as file:
        group = file["videos/a"]
        stored = group["flow_clipped"]
        assert (stored.dtype.str, stored.shape, stored.fletcher32) == ("<i4", (N_FLOW,), True)
        assert stored[()].tolist() == expected
        assert group.attrs["flow_clipped_crc32"] == zlib.crc32(stored[()].tobytes())
        assert group.attrs["clipped_fraction"] == sum(expected) / COMPONENTS
        if codec != "jpeg":
            # What plain h5py decodes is off by half a scale at most, but for what saturated.
            px = group["flow"][()] * group["flow_scale"][()].reshape(-1, 1, 1, 1)
            assert np.array_equal(wild_errors(px - flow, group["flow_scale"][()]), expected)
    assert same(read(path), expected)
    assert verify(path).sound


def wild_errors(error: Flow, scales: NDArray[np.float32]) -> Counts:
    """Return how many components of each field are further off than half a scale."""
    bound = 0.5001 * scales.reshape(-1, 1, 1, 1)
    return counted(np.abs(error) > bound)


def test_more_outliers_than_a_thousandth_are_counted_by_what_saturates(tmp_path: Path) -> None:
    flow = outliers(0)
    flow[3].flat[:9] = np.arange(30, 39)  # the 99.9 % point is one of them
    options = of_fields()
    extract(tmp_path / "out.h5", options, "a", flow)
    finalize(tmp_path / "out.h5", options=options)
    with open_store(tmp_path / "out.h5") as store:
        codes, scales = store["a"].codes()
        steps = np.abs(np.rint(flow * (1 / scales.reshape(-1, 1, 1, 1))))
        expected = counted(steps > 127)
        assert scales[3] > 1 / 8
        assert 0 < expected[3] <= 4
        assert same(store["a"].clipped(), expected)
        assert np.abs(codes).max() == 127
    assert verify(tmp_path / "out.h5").sound


def test_a_codec_that_clips_nothing_stores_no_numbers_and_reads_as_zeros(tmp_path: Path) -> None:
    path = make_store(tmp_path / "out.h5", of_fields(flow_codec="i8"), a=0)
    assert datasets(path) == {"flow", "flow_scale", "flow_crc32", "pts"}
    assert same(read(path), np.zeros(N_FLOW))
    assert verify(path).sound


def test_each_further_field_has_its_own(tmp_path: Path) -> None:
    path = make_store(tmp_path / "out.h5", of_fields("flow", "flow_backward"), a=0)
    assert same(read(path), wild(outliers(0)))
    assert same(read(path, field="flow_backward"), wild(outliers(1)))
    with h5py.File(path) as file:
        assert file["videos/a/flow_backward_clipped"][()].tolist() == wild(outliers(1)).tolist()
    with open_store(path) as store:
        total = wild(outliers(0)).sum() + wild(outliers(1)).sum()
        assert store["a"].record.clipped_fraction == total / (2 * COMPONENTS)
        with pytest.raises(
            flowkit.FlowkitError, match=r"no flow field 'back'; this store has \['flow', 'flow_"
        ):
            store["a"].clipped(field="back")
    assert verify(path).sound


def test_a_field_that_has_the_name_of_the_numbers_keeps_it(tmp_path: Path) -> None:
    options = of_fields("flow", "flow_clipped")
    path = make_store(tmp_path / "out.h5", options, a=0)
    assert [clipped_name(name, options) for name in field_names(options)] == [None, "flow_clipped_clipped"]
    with open_store(path) as store:
        assert store["a"].flow(field="flow_clipped").shape == (N_FLOW, 2, HEIGHT, WIDTH)
    with h5py.File(path) as file:
        assert "flow_clipped_crc32" not in file["videos/a"].attrs
    assert read(path) is None
    assert same(read(path, field="flow_clipped"), wild(outliers(1)))
    merge([path], tmp_path / "copy.h5")
    assert verify(path).sound
    assert verify(tmp_path / "copy.h5").sound


@SATURATING
@pytest.mark.parametrize("killed_at", [None, 5, 7])
def test_a_video_of_segments_has_those_of_all_of_them(
    tmp_path: Path, codec: str, killed_at: int | None
) -> None:
    path, options = tmp_path / "out.h5", of_fields("flow", "flow_b", flow_codec=codec)
    fields = outliers(0), outliers(1)
    if killed_at is not None:
        extract(path, options, "a", *fields, segment_frames=2, stop=killed_at)
        assert len(list(PartsFolder(path).path.iterdir())) == (killed_at - 1) // 2
        for flow in fields:  # were they made again, these would have no outliers
            flow[: killed_at - 1] = 0
    extract(path, options, "a", *fields, segment_frames=2)
    finalize(path, options=options)
    assert same(read(path), wild(outliers(0)))
    assert same(read(path, field="flow_b"), wild(outliers(1)))
    assert verify(path).sound


@pytest.mark.parametrize("clips", [True, False])
def test_a_video_that_an_earlier_flowkit_began_goes_on_with_what_is_known(
    tmp_path: Path, clips: bool
) -> None:
    path, options, flow = tmp_path / "out.h5", of_fields(), outliers(0)
    if not clips:
        flow[:4] = 0
    with earlier_flowkit():
        extract(path, options, "a", flow, segment_frames=2, stop=5)
    segments = sorted(PartsFolder(path).path.iterdir())
    assert len(segments) == 2
    extract(path, options, "a", flow, segment_frames=2)
    finalize(path, options=options)
    # Two segments without clipped components are known; others are not, and are kept.
    found = read(path)
    assert ("flow_clipped" in datasets(path)) == (not clips)
    assert found is None if clips else same(found, wild(flow))
    with open_store(path) as store:
        assert store["a"].record.clipped_fraction == pytest.approx(wild(flow).sum() / COMPONENTS, abs=1e-12)
    assert verify(path).sound


@SATURATING
@pytest.mark.parametrize("version", ["1.0", "1.1"])
@pytest.mark.parametrize("clips", [True, False])
def test_an_earlier_store_is_sound_and_says_what_is_known(
    tmp_path: Path, codec: str, version: str, clips: bool
) -> None:
    path, options = tmp_path / "out.h5", of_fields(flow_codec=codec)
    with earlier_flowkit():
        extract(path, options, "a", outliers(0) * np.float32(1 if clips else 1e-3))
    finalize(path, options=options)
    if version == "1.0":
        with h5py.File(path, "r+") as file:
            make_format_1_0(file)
    assert "flow_clipped" not in datasets(path)
    assert verify(path).sound
    with open_store(path, access="h5py") as store:
        found = store["a"].clipped()
        assert (store["a"].record.clipped_fraction > 0) == clips
    if clips or codec == "jpeg":
        assert found is None
    else:
        assert found is not None
        assert found.tolist() == [0] * N_FLOW


@pytest.mark.parametrize("shard_bytes", [1, 1 << 30])
@pytest.mark.parametrize("order", [("old", "new"), ("new", "old")])
def test_earlier_and_new_stores_are_merged(tmp_path: Path, order: tuple[str, str], shard_bytes: int) -> None:
    options = of_fields("flow", "flow_b")
    with earlier_flowkit():
        make_store(tmp_path / "old.h5", options, a=1)
    make_store(tmp_path / "new.h5", options, b=2, c=3)
    out = tmp_path / "out.h5"
    merge([tmp_path / f"{name}.h5" for name in order], out, shard_bytes=shard_bytes)
    assert verify(out).sound
    assert read(out, "a") is None
    for video_id, seed in (("b", 2), ("c", 3)):
        assert same(read(out, video_id), wild(outliers(seed)))
        assert same(read(out, video_id, "flow_b"), wild(outliers(seed + 1)))
    subset(out, tmp_path / "part.h5", ["a", "c"])
    relabel(out, tmp_path / "named.h5", {"b": "x"})
    for made in ("part.h5", "named.h5"):
        assert verify(tmp_path / made).sound
        assert same(read(tmp_path / made, "c"), wild(outliers(3)))
        assert read(tmp_path / made, "a") is None


def test_an_earlier_store_goes_on_with_new_videos(tmp_path: Path) -> None:
    path, options = tmp_path / "out.h5", of_fields()
    with earlier_flowkit():
        make_store(path, options, a=1)
        extract(path, options, "b", outliers(2))  # a part that was not packed
    make_store(path, options, c=3)
    assert verify(path).sound
    assert [read(path, "a"), read(path, "b")] == [None, None]
    assert same(read(path, "c"), wild(outliers(3)))


def set_numbers(group: h5py.Group, values: list[int], dtype: str = "<i4") -> None:
    """Replace the stored numbers and their CRC."""
    numbers = np.array(values, dtype)
    del group["flow_clipped"]
    group["flow_clipped"] = numbers
    group.attrs["flow_clipped_crc32"] = zlib.crc32(numbers.tobytes())


SOUND = [1, 2, 3, 4, 0, 1, 2]
DAMAGES: dict[str, tuple[Callable[[h5py.Group], None], str]] = {
    "another number": (
        lambda group: group["flow_clipped"].__setitem__(slice(0, 2), [2, 1]),
        "flow_clipped of .* fails its CRC",
    ),
    "another sum": (
        lambda group: set_numbers(group, [1, 2, 3, 4, 0, 1, 3]),
        r"clipped components: 14 of 28000, but the record's fraction is 0\.000464",
    ),
    "below 0": (
        lambda group: set_numbers(group, [-1, 4, 3, 4, 0, 1, 2]),
        r"a number that is not in \[0, 4000\]",
    ),
    "more than a field has": (
        lambda group: set_numbers(group, [4001, 0, 0, 0, 0, 0, 0]),
        r"a number that is not in \[0, 4000\]",
    ),
    "too few": (
        lambda group: set_numbers(group, [13]),
        r"has shape \(1,\), expected \(7,\)",
    ),
    "another type": (
        lambda group: set_numbers(group, SOUND, "<i8"),
        "has type int64, expected <i4",
    ),
    "none, though they have a CRC": (
        lambda group: group.__delitem__("flow_clipped"),
        "flow_clipped is missing",
    ),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_wrong_numbers_are_found_and_repair_drops_their_video(tmp_path: Path, name: str) -> None:
    path = make_store(tmp_path / "out.h5", of_fields(), a=1, b=2)
    assert wild(outliers(1)).tolist() == SOUND
    damage, problem = DAMAGES[name]
    with h5py.File(path, "r+") as file:
        damage(file["videos/a"])
    report = verify(path)
    assert list(report.videos) == ["a"]
    assert re.search(problem, report.videos["a"][0])
    assert repair(path).dropped == ("a",)
    assert verify(path).sound
    assert same(read(path, "b"), wild(outliers(2)))


@SATURATING
def test_without_frames_an_earlier_store_stays_unknown_and_a_new_one_keeps_its_numbers(
    tmp_path: Path, codec: str
) -> None:
    options = of_fields(flow_codec=codec, frame_codec="jpeg")
    with earlier_flowkit():
        make_store(tmp_path / "old.h5", options, a=1)
    make_store(tmp_path / "new.h5", options, a=1)
    for name, known in (("old", None), ("new", wild(outliers(1)))):
        out = tmp_path / f"{name}-recoded.h5"
        recode(tmp_path / f"{name}.h5", out, drop_frames=True)
        assert same(read(out), known) if known is not None else read(out) is None
        assert ("flow_clipped" in datasets(out)) == (known is not None)
        assert verify(out).sound


@pytest.mark.parametrize(("before", "after"), [("i8", "i16"), ("i16", "q8"), ("i16", "jpeg"), ("jpeg", "i8")])
def test_recoded_flow_has_the_numbers_of_its_new_codec(tmp_path: Path, before: str, after: str) -> None:
    store = make_store(tmp_path / "out.h5", of_fields("flow", "flow_b", flow_codec=before), a=0)
    out = tmp_path / "new.h5"
    recode(store, out, flow_codec=after)
    with open_store(store) as old, open_store(out) as new:
        codec = new.options.codec
        for field in old["a"].fields:
            expected = [codec.encode(flow).clipped or 0 for flow in old["a"].iter_flow(field=field)]
            assert same(read(out, field=field), expected)
            assert ("flow_clipped" in datasets(out)) == (after != "i8")
        assert (new["a"].record.clipped_fraction > 0) == (after != "i8")
    assert verify(out).sound
