from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from flowkit.datasets import ClipSamples, Sampling, transform_flow, transform_frames
from flowkit.errors import ClipNotFoundError, InputError, InvalidParameterError
from flowkit.quantize import quantize_u8
from tests.make.stores import claim_size

from .conftest import HEIGHT, WIDTH, MakeStore

FRAMES = {"run/a": 13, "run/b": 9, "walk/c": 4, "walk/d": 21}


def samples(path: Path, **settings: Any) -> ClipSamples:
    return ClipSamples(path, **settings)


def test_a_sample_has_its_segments(make_store: MakeStore) -> None:
    sample = samples(make_store(FRAMES), flow_form="px").sample(0)
    assert (sample.video_id, sample.label) == ("run/a", 0)
    assert sample.rgb is not None
    assert (sample.rgb.dtype.name, sample.rgb.shape) == ("uint8", (3, 3, HEIGHT, WIDTH))
    assert (sample.flow.dtype.name, sample.flow.shape) == ("float32", (3, 10, HEIGHT, WIDTH))
    # 12 fields: starts of 5 are in [0, 8); the middles of three parts are 1, 4 and 6.
    for segment, start in enumerate([1, 4, 6]):
        # 1 level: what JPEG does to a grey image.
        assert np.abs(sample.rgb[segment].astype(int) - 10 * start).max() <= 1
        assert sample.flow[segment, 0::2, 0, 0].tolist() == [start + k for k in range(5)]
        assert np.array_equal(sample.flow[segment, 1, 0], np.arange(WIDTH) / 8)


def test_short_clips_repeat_their_last_field(make_store: MakeStore) -> None:
    path = make_store(FRAMES)
    assert samples(path, flow_form="px").sample(2).flow[0, 0::2, 0, 0].tolist() == [0, 1, 2, 2, 2]
    wrapped = samples(path, flow_form="px", sampling=Sampling(short="wrap")).sample(2)
    assert wrapped.flow[0, 0::2, 0, 0].tolist() == [0, 1, 2, 0, 1]


@pytest.mark.parametrize("flow_codec", ["q8", "i8", "i16", "jpeg"])
def test_forms_of_flow_agree(make_store: MakeStore, flow_codec: str) -> None:
    path = make_store(FRAMES, flow_codec=flow_codec)
    made = {form: samples(path, flow_form=form) for form in ("px", "codes", "tsn")}
    px, codes, tsn = (made[form].sample(0) for form in ("px", "codes", "tsn"))
    for form, sample in (("px", px), ("codes", codes), ("tsn", tsn)):
        assert sample.flow_scale.shape == (3, 10, 1, 1)
        back = sample.flow * sample.flow_scale + made[form].flow_offset_px
        # Half a step of TSN's images; float32 at 20 px otherwise.
        assert np.abs(back - px.flow).max() <= (20 / 255 + 1e-5 if form == "tsn" else 1e-5)
    assert tsn.flow.dtype == np.uint8
    expected = quantize_u8(px.flow, bound_px=20.0)[0].astype(int)
    # A JPEG's own codes are kept: 20 px in float32 may be on either side of a half.
    assert np.abs(tsn.flow.astype(int) - expected).max() <= (flow_codec == "jpeg")


def test_draws_depend_on_seed_epoch_and_video_alone(make_store: MakeStore) -> None:
    path = make_store(FRAMES)
    training = samples(path, training=True, seed=3, crop=(8, 8))

    first = training.sample(3, 5).flow
    assert np.array_equal(first, samples(path, training=True, seed=3, crop=(8, 8)).sample(3, 5).flow)
    assert not np.array_equal(first, training.sample(3, 6).flow)
    assert not np.array_equal(first, samples(path, training=True, seed=4, crop=(8, 8)).sample(3, 5).flow)


def test_crops_are_shared_and_centred_in_tests(make_store: MakeStore) -> None:
    path = make_store(FRAMES)
    centred = samples(path, crop=(8, 10)).sample(0)
    assert centred.rgb is not None
    assert (centred.flow.shape, centred.rgb.shape) == ((3, 10, 8, 10), (3, 3, 8, 10))
    assert np.array_equal(centred.flow[0, 1, 0], np.arange(7, 17))
    lefts = {
        int(samples(path, crop=(8, 10), training=True).sample(0, epoch).flow[0, 1, 0, 0])
        for epoch in range(40)
    }
    assert lefts <= set(range(15))
    assert len(lefts) > 5


def test_batches_stack_samples_and_go_on_where_they_were(make_store: MakeStore) -> None:
    training = samples(make_store(FRAMES), training=True)
    whole = list(training.batches(2, epoch=1, threads=3))
    assert [len(batch.video_ids) for batch in whole] == [2, 2]
    assert sorted(k for batch in whole for k in batch.video_ids) == sorted(FRAMES)
    assert whole[0].rgb is not None
    assert whole[0].rgb.shape == (2, 3, 3, HEIGHT, WIDTH)
    rest = list(training.batches(2, epoch=1, start=2))
    assert len(rest) == 1
    assert rest[0].video_ids == whole[1].video_ids
    assert np.array_equal(rest[0].flow, whole[1].flow)
    assert [batch.video_ids for batch in training.batches(2, epoch=2)] != [b.video_ids for b in whole]


def test_processes_share_an_epoch(make_store: MakeStore) -> None:
    path = make_store(FRAMES)
    training, testing = samples(path, training=True), samples(path)
    partitions = [training.partition(7, rank=rank, world_size=3).tolist() for rank in range(3)]
    assert [len(share) for share in partitions] == [1, 1, 1]
    assert len({index for share in partitions for index in share}) == 3
    assert [testing.partition(rank=rank, world_size=3).tolist() for rank in range(3)] == [[0, 3], [1], [2]]
    with pytest.raises(InvalidParameterError, match="rank"):
        testing.partition(rank=3, world_size=3)


def test_one_side_of_a_split_is_read(make_store: MakeStore) -> None:
    path = make_store(FRAMES)
    side = samples(path, ids=["walk/d", "run/a"])
    assert (len(side), side.labels, side.classes) == (2, [1, 0], ("run", "walk"))
    assert side.sample(0).video_id == "walk/d"
    with pytest.raises(ClipNotFoundError, match="walk/z"):
        samples(path, ids=["walk/z"])


def test_without_flow_the_same_frames_are_read(make_store: MakeStore) -> None:
    path = make_store(FRAMES)
    for training in (False, True):
        whole, bare = (samples(path, training=training, flow=flow).sample(3) for flow in (True, False))
        assert whole.rgb is not None
        assert bare.rgb is not None
        assert np.array_equal(whole.rgb, bare.rgb)
        assert bare.flow.shape == (3, 0, HEIGHT, WIDTH)
        assert bare.flow_scale.shape == (3, 0, 1, 1)


def test_without_frames_only_flow_is_read(make_store: MakeStore) -> None:
    path = make_store(FRAMES, frame_codec="none")
    assert samples(path, frames=False).sample(0).rgb is None
    assert next(samples(path, frames=False).batches(2)).rgb is None
    with pytest.raises(InvalidParameterError, match="frames=False"):
        samples(path)


def test_videos_of_several_sizes_need_a_crop(make_store: MakeStore) -> None:
    path = make_store(FRAMES, sizes={"run/b": (40, 20)})
    with pytest.raises(InputError, match=r"several sizes.*crop"):
        list(samples(path).batches(4))
    batch = next(samples(path, crop=(16, 24)).batches(4))
    assert batch.flow.shape == (4, 3, 10, 16, 24)
    with pytest.raises(InputError, match=r"3 videos.*smaller than 24x18.*run/a \(24x16"):
        samples(path, crop=(18, 24))


@pytest.mark.parametrize("wrong", [{"flow_form": "float"}, {"field": "flow_backward"}, {"seed": -1}])
def test_wrong_settings_are_refused(make_store: MakeStore, wrong: dict[str, object]) -> None:
    with pytest.raises(InvalidParameterError, match=next(iter(wrong))):
        samples(make_store(FRAMES), **wrong)


def test_a_size_that_is_never_decoded_is_refused_before_a_batch_is_allocated(make_store: MakeStore) -> None:
    path = make_store(FRAMES)
    for video_id in FRAMES:
        claim_size(path, video_id, 65_535, 65_535)
    made = samples(path)
    with pytest.raises(InputError, match=r"are 65535x65535 px in .*; more than 134217728 px are not decoded"):
        made.layout([(0, 0)])


@pytest.mark.parametrize("flow_codec", ["q8", "i8", "i16", "jpeg"])
@pytest.mark.parametrize("resize", [(8, 12), (32, 48), 20])
def test_every_form_of_resized_flow_agrees(make_store: MakeStore, flow_codec: str, resize: Any) -> None:
    path = make_store(FRAMES, flow_codec=flow_codec)
    stored = samples(path, flow_form="px").sample(0)
    expected = transform_flow(stored.flow, size=resize)
    px = samples(path, flow_form="px", resize=resize).sample(0)
    assert np.array_equal(px.flow, expected)
    assert stored.rgb is not None
    assert px.rgb is not None
    assert np.array_equal(px.rgb, transform_frames(stored.rgb, size=resize))
    for form in ("codes", "tsn"):
        made = samples(path, flow_form=form, resize=resize)
        sample = made.sample(0)
        assert sample.flow.dtype == samples(path, flow_form=form).sample(0).flow.dtype
        assert sample.flow_scale.shape == (3, 10, 1, 1)
        back = sample.flow * sample.flow_scale + made.flow_offset_px
        bounded = form == "tsn" or flow_codec == "jpeg"
        wanted = np.clip(expected, -20, 20) if bounded else expected
        # Half a code: of 40/255 px, of 1/8 px and more, of 1/64 px.
        assert (np.abs(back - wanted) <= sample.flow_scale / 2 + 1e-5).all()
    assert np.array_equal(sample.flow, quantize_u8(expected, bound_px=20.0)[0])


@pytest.mark.parametrize("flow_codec", ["q8", "i8", "i16", "jpeg"])
def test_every_form_of_mirrored_flow_is_that_of_the_opposite_motion(
    make_store: MakeStore, flow_codec: str
) -> None:
    path = make_store(FRAMES, flow_codec=flow_codec)
    stored = samples(path, flow_form="px").sample(0)
    expected = transform_flow(stored.flow, flip=True)
    for form in ("px", "codes", "tsn"):
        made = samples(path, flow_form=form, flip=1)
        sample = made.sample(0)
        back = sample.flow * sample.flow_scale + made.flow_offset_px
        assert np.abs(back - expected).max() <= (20 / 255 + 1e-5 if form == "tsn" else 1e-5)
        assert sample.rgb is not None
        assert stored.rgb is not None
        assert np.array_equal(sample.rgb, stored.rgb[..., ::-1])
    assert np.array_equal(sample.flow, quantize_u8(expected, bound_px=20.0)[0])
    # Field 0 of the store does not move to the side: its code is the same in the mirror, but for a JPEG's.
    still = samples(path, flow_form="tsn", flip=True, ids=["walk/c"]).sample(0).flow[0, 0]
    assert set(still.ravel().tolist()) == ({127} if flow_codec == "jpeg" else {128})


def test_a_flip_is_drawn_for_frames_and_flow_together_and_only_in_training(make_store: MakeStore) -> None:
    path = make_store(FRAMES)
    settings: dict[str, Any] = {"training": True, "seed": 2, "flow_form": "px"}
    plain, drawn = samples(path, **settings), samples(path, flip=0.5, **settings)
    flipped = []
    for epoch in range(40):
        one, other = drawn.sample(0, epoch), plain.sample(0, epoch)
        # Columns of v rise from left to right; the segments are those of a seed without flips.
        flipped.append(bool(one.flow[0, 1, 0, 0] != other.flow[0, 1, 0, 0]))
        assert np.array_equal(one.flow, transform_flow(other.flow, flip=flipped[-1]))
        assert one.rgb is not None
        assert other.rgb is not None
        assert np.array_equal(one.rgb, transform_frames(other.rgb, flip=flipped[-1]))
        assert np.array_equal(one.flow, samples(path, flip=0.5, **settings).sample(0, epoch).flow)
    assert 8 < sum(flipped) < 32
    with pytest.raises(InvalidParameterError, match=r"flip must be 0 or 1 without training, .* got 0.5"):
        samples(path, flip=0.5)
    with pytest.raises(InvalidParameterError, match=r"flip must be in \[0, 1\], got 2"):
        samples(path, flip=2)


def test_videos_of_several_sizes_are_resized_to_one_and_then_cropped(make_store: MakeStore) -> None:
    path = make_store(FRAMES, sizes={"run/b": (40, 20), "walk/d": (10, 12)})
    whole = samples(path, resize=(20, 24), flow_form="px")
    assert whole.read([(0, k) for k in range(4)]).flow.shape == (4, 3, 10, 20, 24)
    shorter = samples(path, resize=14, crop=(14, 14), flow_form="px")
    batch = shorter.read([(0, k) for k in range(4)])
    assert batch.rgb is not None
    assert (batch.flow.shape, batch.rgb.shape) == ((4, 3, 10, 14, 14), (4, 3, 3, 14, 14))
    resized = transform_flow(samples(path, flow_form="px").sample(1).flow, size=14)
    assert resized.shape == (3, 10, 14, 28)
    assert np.array_equal(batch.flow[1], resized[..., 7:21])
    with pytest.raises(InputError, match=r"smaller than 20x20: \['run/a \(21x14, 12 fields\)'"):
        samples(path, resize=14, crop=(20, 20))
    with pytest.raises(InvalidParameterError, match="size must be an integer"):
        samples(path, resize=0.5)
