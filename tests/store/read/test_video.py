"""A video over byte strings in memory: decoding, counts and checks, without any file."""

from __future__ import annotations

import math
import tracemalloc
import zlib
from collections.abc import Iterator, Sequence

import numpy as np
import pytest
from numpy.typing import NDArray

from flowkit import jpeg
from flowkit.errors import ClipRangeError, StoreCorruptError, StoreFormatError
from flowkit.store.codecs import FLOW_CODECS, flow_codec
from flowkit.store.codecs.storage import Chunks, EncodedFlow, FieldSource
from flowkit.store.read.video import Extent, FlowField, StoredVideo, check_crc
from flowkit.store.record import VideoRecord
from flowkit.store.schema import FieldOptions, StoreOptions
from tests.store.conftest import HEIGHT, WIDTH, make_flow, make_frames, make_options, make_record

SIZE = (HEIGHT, WIDTH)
EVERY = pytest.mark.parametrize("codec", FLOW_CODECS)


class Strings:
    """Byte strings in a list; notes which were asked for."""

    def __init__(self, data: Sequence[bytes]) -> None:
        self.data = list(data)
        self.crcs = np.array([zlib.crc32(one) for one in data], np.uint32)
        self.asked: list[int] = []

    def __getitem__(self, index: int) -> bytes:
        self.asked.append(index)
        return self.data[index]

    def each(self, indices: Sequence[int]) -> Iterator[bytes]:
        return map(self.__getitem__, indices)


class Source:
    """A flow field, or the frames, whose strings are at hand."""

    def __init__(self, strings: Strings, scales: Sequence[float] = ()) -> None:
        self.strings, self.stored_scales = strings, np.array(scales, np.float32)

    def dataset_chunks(self, dtype: np.dtype[np.number], shape: tuple[int, ...]) -> Chunks:
        return self.strings

    def flat_chunks(self, suffix: str, count: int, raw_bytes: int) -> Chunks:
        return self.strings

    def scales(self, count: int) -> NDArray[np.float32]:
        return self.stored_scales


class Video(StoredVideo):
    """A video whose sources are given."""

    def __init__(self, options: StoreOptions, extent: Extent, sources: dict[str, Source]) -> None:
        super().__init__(extent, options)
        self.sources = sources
        self.opened: list[str] = []

    @property
    def record(self) -> VideoRecord:
        return make_record("a")

    @property
    def pts(self) -> NDArray[np.float64]:
        return np.zeros(self.extent.n_frames)

    def stored_clipped(self, name: str) -> NDArray[np.int32] | None:
        return None

    def _frame_source(self) -> FieldSource:
        return self._field_source("frames")

    def _field_source(self, name: str) -> FieldSource:
        self.opened.append(name)
        return self.sources[name]


def encoded(codec: str, count: int = 3) -> list[EncodedFlow]:
    """Return fields of growing flow, so that each has another scale where scales are stored."""
    return [flow_codec(codec).encode(flow * 10**k) for k, flow in enumerate(make_flow(0, count))]


def field_source(fields: Sequence[EncodedFlow]) -> Source:
    return Source(Strings([chunk for one in fields for chunk in one.chunks]), [one.scale for one in fields])


def extent(**changes: int) -> Extent:
    counts = {"n_frames": 4, "n_flow": 3, "height": HEIGHT, "width": WIDTH} | changes
    return Extent(video_id="a", **counts)


def video(codec: str = "i8", *, options: StoreOptions | None = None) -> Video:
    pictures = [jpeg.encode(frame) for frame in make_frames(0, 4)]
    sources = {"flow": field_source(encoded(codec)), "frames": Source(Strings(pictures))}
    return Video(options or make_options(flow_codec=codec), extent(), sources)


@EVERY
def test_codes_of_each_pair_are_unpacked_from_its_own_strings(codec: str) -> None:
    fields = encoded(codec)
    field = FlowField(flow_codec(codec), field_source(fields), count=3, size=SIZE)
    for k, one in enumerate(fields):
        assert field.chunks(k) == one.chunks
        assert np.array_equal(field.codes(k), flow_codec(codec).unpack(one.chunks, SIZE))
        assert field.scales[k] == np.float32(one.scale)


@EVERY
def test_a_pair_is_handed_on_as_it_is_stored(codec: str) -> None:
    fields = encoded(codec)
    field = FlowField(flow_codec(codec), field_source(fields), count=3, size=SIZE)
    for k, one in enumerate(fields):
        found = field.encoded(k, clipped=5)
        assert (found.codec, found.chunks, found.crcs) == (codec, one.chunks, one.crcs)
        assert found.scale == np.float32(one.scale)
        assert math.isnan(found.max_px)  # not stored for each field
        assert found.clipped == 5


@EVERY
def test_several_pairs_come_in_the_order_asked_and_only_they_are_read(codec: str) -> None:
    source = field_source(encoded(codec))
    field = FlowField(flow_codec(codec), source, count=3, size=SIZE)
    alone = [field.codes(k) for k in range(3)]
    source.strings.asked.clear()
    found = list(field.each([2, 0, 2]))
    assert all(np.array_equal(one, alone[k]) for one, k in zip(found, [2, 0, 2], strict=True))
    assert source.strings.asked == ([4, 5, 0, 1, 4, 5] if codec == "jpeg" else [2, 0, 2])


def test_a_scale_that_the_codec_cannot_have_is_found_on_opening() -> None:
    source = field_source(encoded("i8"))
    source.stored_scales[1] = 0.3
    with pytest.raises(StoreCorruptError, match="a scale that its codec cannot have"):
        FlowField(flow_codec("i8"), source, count=3, size=SIZE)


@EVERY
def test_arrays_of_a_video_are_stacks_of_its_single_ones(codec: str) -> None:
    read = video(codec)
    for wanted in ([], [1], [2, 0, 2]):
        codes, images = read.codes("flow", wanted), read.images(wanted)
        assert (codes.shape, codes.dtype) == ((len(wanted), 2, *SIZE), flow_codec(codec).dtype)
        assert (images.shape, images.dtype) == ((len(wanted), *SIZE, 3), np.dtype(np.uint8))
        for position, k in enumerate(wanted):
            assert np.array_equal(codes[position], read.field("flow").codes(k))
            assert np.array_equal(images[position], read.frame(k))


def test_frames_are_the_pixels_of_their_jpegs() -> None:
    read = video()
    for k, frame in enumerate(make_frames(0, 4)):
        assert np.array_equal(read.frame(k), jpeg.decode(jpeg.encode(frame)))


def test_each_source_is_opened_once_and_on_use() -> None:
    read = video()
    assert read.opened == []
    for _ in range(2):
        read.codes("flow", [0, 1])
        read.images([0])
    assert read.opened == ["flow", "frames"]


def test_a_field_that_the_store_lacks_is_answered_with_those_it_has() -> None:
    fields = tuple(
        FieldOptions(name=name, tvl1_preset="x", tvl1_params="{}") for name in ("flow", "flow_backward")
    )
    read = video(options=make_options(fields=fields))
    with pytest.raises(ClipRangeError, match=r"no flow field 'back'; .* has \['flow', 'flow_backward'\]"):
        read.field("back")
    assert read.opened == []


def test_a_store_without_frames_says_why() -> None:
    read = video(options=make_options(frame_codec="none"))
    with pytest.raises(ClipRangeError, match="keeps no frames: it was made with --frames none"):
        read.images([0])
    assert read.codes("flow", [0]).any()


def test_a_frame_of_another_size_is_corrupt() -> None:
    read = video()
    read.sources["frames"].strings.data[2] = jpeg.encode(np.zeros((HEIGHT, WIDTH + 1, 3), np.uint8))
    assert read.images([0, 1, 3]).any()
    with pytest.raises(StoreCorruptError, match="JPEG is 21x12, expected 20x12"):
        read.images([0, 2])


def test_a_claimed_size_is_held_to_the_bytes_before_it_is_allocated() -> None:
    claimed = extent(height=11_000, width=12_000)
    read = Video(make_options(), claimed, video().sources)
    tracemalloc.start()
    try:
        with pytest.raises(StoreCorruptError, match="cannot hold a field of 264000000 bytes"):
            read.codes("flow", [0, 1, 2])
        with pytest.raises(StoreCorruptError, match="expected 12000x11000"):
            read.images([0, 1, 2])
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(("n_flow", "n_frames"), [(5, 4), (-1, 4), (0, -1)])
def test_counts_that_no_video_has_are_corrupt(n_flow: int, n_frames: int) -> None:
    with pytest.raises(StoreCorruptError, match=f"'a' has {n_flow} flow fields for {n_frames} frames"):
        extent(n_flow=n_flow, n_frames=n_frames)
    assert extent(n_flow=0, n_frames=0).n_frames == 0


@pytest.mark.parametrize(("width", "height"), [(0, 12), (20, 0), (65_536, 12), (20, 65_536), (-1, 12)])
def test_sizes_that_no_image_has_are_refused(width: int, height: int) -> None:
    with pytest.raises(StoreFormatError, match=f"'a' cannot be {width}x{height}"):
        extent(width=width, height=height)
    assert extent(width=1, height=65_535).height == 65_535


@pytest.mark.parametrize(("width", "height"), [(65_535, 65_535), (65_535, 2049), (16_384, 8193)])
def test_sizes_of_which_a_field_takes_gigabytes_are_refused_whatever_is_stored(
    width: int, height: int
) -> None:
    read = Video(make_options(), extent(height=height, width=width), video().sources)
    for call in (lambda: read.codes("flow", [0]), lambda: read.images([0]), lambda: read.field("flow")):
        with pytest.raises(StoreFormatError, match=rf"'a' is {width}x{height} px; .* more than 134217728 px"):
            call()
    assert read.size == (height, width)  # its facts can be read


def test_another_checksum_names_the_chunk_and_its_place() -> None:
    check_crc(memoryview(b"123456789"), 0xCBF43926, 3, "flow of 'a'")
    with pytest.raises(StoreCorruptError, match="chunk 3 of flow of 'a' fails its CRC"):
        check_crc(b"123456788", 0xCBF43926, 3, "flow of 'a'")
