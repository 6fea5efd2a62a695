from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from .conftest import HEIGHT, WIDTH, MakeStore

torch = pytest.importorskip("torch")
from torch.utils.data import DataLoader  # noqa: E402

from flowkit.datasets import ClipDataset, ClipSampler, ClipSamples, collate_clips  # noqa: E402
from flowkit.errors import InvalidParameterError  # noqa: E402

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


def test_transforms_see_each_item(path: Path) -> None:
    dataset = ClipDataset(path, transform=lambda item: item["label"])
    assert [dataset[k] for k in (0, 10)] == [0, 1]
