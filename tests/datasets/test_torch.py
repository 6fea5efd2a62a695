from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from .conftest import HEIGHT, WIDTH, MakeStore

torch = pytest.importorskip("torch")
from torch.utils.data import DataLoader  # noqa: E402

from flowkit.datasets import (  # noqa: E402
    ClipDataset,
    ClipSampler,
    ClipSamples,
    collate_clips,
    collate_padded,
    transform_flow,
    transform_frames,
)
from flowkit.errors import InputError, InvalidParameterError  # noqa: E402

FRAMES = {f"{'run' if k % 2 else 'walk'}/{k:02d}": 8 + k for k in range(11)}


@pytest.fixture
def path(make_store: MakeStore) -> Path:
    return make_store(FRAMES)


def ids(loader: Any) -> list[list[str]]:
    return [list(batch["id"]) for batch in loader]


def test_items_are_tensors_of_the_samples(path: Path) -> None:
    item, sample = ClipDataset(path)[3], ClipSamples(path).sample(3)
    assert (item["id"], item["label"]) == (sample.video_id, sample.label)
    assert (item["rgb"].dtype, tuple(item["rgb"].shape)) == (torch.uint8, (3, 3, HEIGHT, WIDTH))
    assert (item["flow"].dtype, tuple(item["flow"].shape)) == (torch.int8, (3, 10, HEIGHT, WIDTH))
    assert sample.rgb is not None
    assert np.array_equal(item["rgb"].numpy(), sample.rgb)
    assert np.array_equal(item["flow"].numpy(), sample.flow)
    assert "rgb" not in ClipDataset(path, frames=False)[0]
    with pytest.raises(IndexError, match="item 11"):
        ClipDataset(path)[11]


@pytest.mark.parametrize(
    ("workers", "context", "collate"),
    [
        (0, None, None),
        (0, None, collate_clips),
        (2, "fork", None),
        (2, "fork", collate_clips),
        (1, "spawn", collate_clips),
    ],
)
def test_loaders_give_the_same_whatever_their_workers(
    path: Path, workers: int, context: str | None, collate: Any
) -> None:
    dataset = ClipDataset(path, training=True, seed=5, threads=2)
    loader = DataLoader(
        dataset,
        4,
        sampler=ClipSampler(dataset),
        num_workers=workers,
        multiprocessing_context=context,
        collate_fn=collate,
    )
    expected = ClipSamples(path, training=True, seed=5)
    for batch, wanted in zip(loader, expected.batches(4), strict=True):
        assert tuple(batch["id"]) == wanted.video_ids
        assert np.array_equal(batch["flow"].numpy(), wanted.flow)
        assert np.array_equal(batch["flow_scale"].numpy(), wanted.flow_scale)
        assert batch["label"].tolist() == wanted.labels.tolist()
        assert wanted.rgb is not None
        assert np.array_equal(batch["rgb"].numpy(), wanted.rgb)


def test_each_pass_is_the_next_epoch(path: Path) -> None:
    dataset = ClipDataset(path, training=True)
    sampler = ClipSampler(dataset)
    first, second = list(sampler), list(sampler)
    assert {epoch for epoch, _ in first} == {0}
    assert {epoch for epoch, _ in second} == {1}
    assert [k for _, k in first] != [k for _, k in second]
    assert not torch.equal(dataset[0, 3]["flow"], dataset[1, 3]["flow"])


def test_a_loop_that_counts_its_batches_gets_each_epoch_whole(path: Path) -> None:
    dataset = ClipDataset(path, training=True)
    loader = DataLoader(dataset, 1, sampler=ClipSampler(dataset), collate_fn=collate_clips)
    for _ in range(3):
        batches = itertools.islice(loader, len(loader))  # never told that there are no more
        assert sorted(batch["id"][0] for batch in batches) == sorted(FRAMES)


def test_an_epoch_that_was_left_at_its_end_is_followed_by_the_next(path: Path) -> None:
    sampler = ClipSampler(ClipDataset(path, training=True))
    sampler.seek(3, len(FRAMES))
    assert list(sampler) == []
    assert {epoch for epoch, _ in sampler} == {4}


def test_a_sampler_goes_on_from_its_state(path: Path) -> None:
    dataset = ClipDataset(path, training=True)
    whole = list(ClipSampler(dataset))
    half = ClipSampler(dataset)
    handed = [key for key, _ in zip(half, range(4), strict=False)]
    state = {"epoch": 0, "position": len(handed)}
    resumed = ClipSampler(dataset)
    resumed.load_state_dict(state)
    assert (resumed.state_dict(), len(resumed)) == (state, len(FRAMES) - 4)
    assert handed + list(resumed) == whole
    with pytest.raises(InvalidParameterError, match="position"):
        resumed.seek(0, 100)


def test_ranks_take_different_videos(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = ClipDataset(path)
    taken = []
    for rank in range(3):
        monkeypatch.setenv("RANK", str(rank))
        monkeypatch.setenv("WORLD_SIZE", "3")
        taken += [dataset.samples.ids[index] for _, index in ClipSampler(dataset)]
    assert sorted(taken) == sorted(FRAMES)
    with pytest.raises(InvalidParameterError, match="go together"):
        ClipSampler(dataset, rank=1)


def test_a_batch_is_read_into_place_and_collated_without_a_copy(path: Path) -> None:
    items = ClipDataset(path).__getitems__([3, 1, 2])
    batch = collate_clips(items)
    assert batch["flow"].data_ptr() == items[0]["flow"].data_ptr()
    for part in (items[:2], items[::-1], [*items[:2], ClipDataset(path)[2]]):
        copied = collate_clips(part)
        assert copied["flow"].data_ptr() != items[0]["flow"].data_ptr()
        assert [torch.equal(copied["flow"][k], item["flow"]) for k, item in enumerate(part)] == [True] * len(
            part
        )


def test_items_of_several_sizes_are_read_one_by_one(make_store: MakeStore) -> None:
    path = make_store(FRAMES, sizes={"walk/00": (40, 20)})
    items = ClipDataset(path).__getitems__([0, 5])
    assert {tuple(item["flow"].shape[2:]) for item in items} == {(HEIGHT, WIDTH), (20, 40)}
    cut = ClipDataset(path, transform=lambda item: item["flow"][..., :8, :8])
    assert collate_clips(cut.__getitems__([0, 5])).shape == (2, 3, 10, 8, 8)


@pytest.mark.parametrize(("workers", "persistent"), [(0, False), (2, False), (2, True)])
def test_indices_alone_draw_anew_in_each_epoch_of_training(
    path: Path, workers: int, persistent: bool
) -> None:
    def epochs() -> list[dict[str, Any]]:
        torch.manual_seed(3)
        dataset = ClipDataset(path, training=True)
        loader = DataLoader(
            dataset,
            3,
            shuffle=True,
            num_workers=workers,
            persistent_workers=persistent,
            collate_fn=collate_clips,
        )
        found = []
        for _ in range(3):
            batches = list(loader)
            ids = [video_id for batch in batches for video_id in batch["id"]]
            assert sorted(ids) == sorted(FRAMES)
            found.append(dict(zip(ids, torch.cat([batch["flow"] for batch in batches]), strict=True)))
        return found

    first, second, third = epochs()
    last = max(FRAMES)  # of 18 frames, and so 12 starts for 3 segments: chance repeats some clips, not all
    for one, other in ((first, second), (second, third), (first, third)):
        assert sum(not torch.equal(one[k], other[k]) for k in FRAMES) > len(FRAMES) // 2
        assert one.keys() == other.keys() >= {last}
    # The order and the segments follow from torch's seed.
    for one, other in zip((first, second, third), epochs(), strict=True):
        assert list(one) == list(other)
        assert all(torch.equal(one[k], other[k]) for k in FRAMES)


def test_indices_alone_are_centred_without_training(path: Path) -> None:
    dataset = ClipDataset(path)
    assert torch.equal(dataset[3]["flow"], dataset[3]["flow"])
    assert torch.equal(dataset[3]["flow"], dataset[0, 3]["flow"])


MADE: dict[str, Any] = {
    "nothing": None,
    "the item": lambda item: item,
    "a dict": lambda item: {"x": item["flow"].float(), "label": item["label"]},
    "a tuple": lambda item: (item["rgb"], item["label"]),
    "another size": lambda item: {"label": item["label"], "rgb": item["rgb"][..., :12, :]},
    "a nested dict": lambda item: {"net": {"rgb": item["rgb"]}, "label": item["label"]},
    "a list": lambda item: [item["label"], item["flow"]],
    "a tensor": lambda item: item["flow"],
}
"""Transforms, by what they make of an item."""


@pytest.mark.parametrize("collate", [None, collate_clips])
@pytest.mark.parametrize(
    ("made", "workers"), [*((made, 0) for made in MADE), ("nothing", 1), ("a dict", 1), ("a tensor", 1)]
)
def test_a_batch_of_several_sizes_hints_at_crop(
    make_store: MakeStore, workers: int, collate: Any, made: str
) -> None:
    path = make_store(FRAMES, sizes={"walk/00": (40, 20)})
    dataset = ClipDataset(path, transform=MADE[made])
    loader = DataLoader(dataset, 4, num_workers=workers, collate_fn=collate)
    with pytest.raises(InputError, match=r"several sizes, \[\(1[26], 24\), \((12|20), 40\)\]; pass crop="):
        list(loader)


def test_a_transform_to_one_size_gives_tuples_and_dicts_as_torch_does(make_store: MakeStore) -> None:
    path = make_store(FRAMES, sizes={"walk/00": (40, 20)})

    def batches(transform: Any) -> list[Any]:
        return list(DataLoader(ClipDataset(path, transform=transform), 4))

    for x, labels in batches(lambda item: (item["flow"][..., :8, :8], item["label"])):
        assert (x.shape[1:], labels.ndim) == ((3, 10, 8, 8), 1)
    for batch in batches(lambda item: item["flow"][..., :8, :8]):
        assert (type(batch), batch.shape[1:]) == (torch.Tensor, (3, 10, 8, 8))
    for x, labels in batches(lambda item: [item["flow"][..., :8, :8], item["label"]]):
        assert (x.shape[1:], labels.ndim) == ((3, 10, 8, 8), 1)
    for batch in batches(lambda item: {"x": item["flow"][..., :8, :8]}):
        assert (type(batch), batch["x"].shape[1:]) == (dict, (3, 10, 8, 8))


def test_other_errors_of_collating_stay_as_they_are(path: Path) -> None:
    dataset = ClipDataset(path, transform=lambda item: item | {"text": torch.zeros(len(item["id"]))})
    items = [dataset[0], dataset[0]]
    items[1]["text"] = torch.zeros(3)
    with pytest.raises(RuntimeError, match="equal size"):
        collate_clips(items)


@pytest.mark.parametrize("collate", [None, collate_clips])
def test_a_transform_in_place_is_in_the_batch(path: Path, collate: Any) -> None:
    def halve(item: dict[str, Any]) -> dict[str, Any]:
        item["flow"] = item["flow"].float() / 2
        return item

    plain = next(iter(DataLoader(ClipDataset(path), 4, collate_fn=collate_clips)))
    changed = next(iter(DataLoader(ClipDataset(path, transform=halve), 4, collate_fn=collate)))
    assert torch.equal(changed["flow"], plain["flow"].float() / 2)
    assert torch.equal(changed["rgb"], plain["rgb"])


def test_transforms_see_each_item(path: Path) -> None:
    dataset = ClipDataset(path, transform=lambda item: item["label"])
    assert [dataset[k] for k in (0, 10)] == [0, 1]


@pytest.mark.parametrize("form", ["codes", "px", "tsn"])
def test_a_dataset_resizes_and_mirrors_as_its_samples(path: Path, form: Any) -> None:
    settings: dict[str, Any] = {"resize": 20, "crop": (16, 16), "flip": 0.5, "flow_form": form}
    dataset = ClipDataset(path, training=True, **settings)
    expected = ClipSamples(path, training=True, **settings)
    loader = DataLoader(dataset, 4, sampler=ClipSampler(dataset), collate_fn=collate_clips)
    for batch, wanted in zip(loader, expected.batches(4), strict=True):
        assert np.array_equal(batch["flow"].numpy(), wanted.flow)
        assert np.array_equal(batch["flow_scale"].numpy(), wanted.flow_scale)
        assert wanted.rgb is not None
        assert np.array_equal(batch["rgb"].numpy(), wanted.rgb)


def test_a_transform_sees_what_is_resized_and_may_mirror_it_again(path: Path) -> None:
    def mirror(item: dict[str, Any]) -> dict[str, Any]:
        return item | {
            "flow": transform_flow(item["flow"], flip=True),
            "rgb": transform_frames(item["rgb"], flip=True),
        }

    plain = ClipDataset(path, resize=(8, 12), flow_form="px")[3]
    twice = ClipDataset(path, resize=(8, 12), flow_form="px", flip=1, transform=mirror)[3]
    assert plain["flow"].shape == (3, 10, 8, 12)
    assert torch.equal(twice["flow"], plain["flow"])
    assert torch.equal(twice["rgb"], plain["rgb"])


def test_videos_of_several_sizes_are_read_in_place_once_resized(make_store: MakeStore) -> None:
    path = make_store(FRAMES, sizes={"walk/00": (40, 20)})
    items = ClipDataset(path, resize=(16, 24)).__getitems__([0, 5])
    assert collate_clips(items)["flow"].data_ptr() == items[0]["flow"].data_ptr()


@pytest.mark.parametrize(("form", "workers"), [("codes", 0), ("px", 0), ("tsn", 0), ("tsn", 2)])
def test_padding_keeps_each_item_and_marks_it(make_store: MakeStore, form: Any, workers: int) -> None:
    path = make_store(FRAMES, sizes={"walk/00": (40, 20), "walk/04": (12, 30)})
    dataset = ClipDataset(path, flow_form=form)
    still, seen = 128 if form == "tsn" else 0, 0
    for batch in DataLoader(dataset, 4, num_workers=workers, collate_fn=collate_padded):
        for k, video_id in enumerate(batch["id"]):
            item, valid = dataset[dataset.samples.ids.index(video_id)], batch["valid"][k]
            height, width = item["flow"].shape[-2:]
            assert (valid.dtype, valid.shape) == (torch.bool, batch["flow"].shape[-2:])
            assert valid[:height, :width].all()
            assert int(valid.sum()) == height * width
            for name, filled in (("flow", still), ("rgb", 0)):
                assert torch.equal(batch[name][k, ..., :height, :width], item[name])
                assert (batch[name][k][..., ~valid] == filled).all()
            assert torch.equal(batch["flow_scale"][k], item["flow_scale"])
            assert int(batch["label"][k]) == item["label"]
            seen += 1
    assert seen == len(FRAMES)


def test_padding_nothing_copies_nothing(path: Path) -> None:
    items = ClipDataset(path, frames=False).__getitems__([3, 1])
    batch = collate_padded(items)
    assert batch["flow"].data_ptr() == items[0]["flow"].data_ptr()
    assert batch["valid"].all()
    assert batch["valid"].shape == (2, HEIGHT, WIDTH)


def test_what_cannot_be_padded_is_named(path: Path) -> None:
    item = ClipDataset(path)[0]
    for wrong in (item | {"rgb": item["rgb"][..., :8]}, {"label": 1}, item["flow"]):
        with pytest.raises(InputError, match="collate_padded takes dicts whose rgb and flow have one size"):
            collate_padded([wrong])
