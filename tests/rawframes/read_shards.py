"""Read shards with a library that is not ours, in a process of its own: `read_shards.py READER OUT
ARGUMENT...`.

Two epochs of samples are pickled to OUT. These libraries leave files open and warn on import, which would
fail whatever test runs meanwhile.
"""

from __future__ import annotations

import pickle
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

MISSING = 77
"""Exit status where the library does not import."""
EPOCHS = 2


def by_webdataset(workers: str, *shards: str) -> Iterator[Any]:
    import webdataset
    from torch.utils.data import DataLoader

    dataset = webdataset.WebDataset(list(shards), shardshuffle=False).decode()
    loader: Any = DataLoader(dataset, batch_size=None, num_workers=int(workers))
    for _ in range(EPOCHS):
        yield list(loader)


def streamed_by_datasets(cache: str, *shards: str) -> Iterator[Any]:
    from datasets import load_dataset

    dataset = load_dataset(
        "webdataset", data_files={"train": list(shards)}, split="train", streaming=True, cache_dir=cache
    )
    for _ in range(EPOCHS):
        yield list(dataset)


def tabled_by_datasets(cache: str, folder: str) -> Iterator[Any]:
    from datasets import load_dataset

    dataset = load_dataset(folder, split="train", cache_dir=cache)
    for epoch in range(EPOCHS):
        yield list(dataset.shuffle(seed=epoch))


READERS = {reader.__name__: reader for reader in (by_webdataset, streamed_by_datasets, tabled_by_datasets)}


def main(reader: str, out: str, *arguments: str) -> int:
    try:
        epochs = list(READERS[reader](*arguments))
    except ImportError as error:
        print(error)
        return MISSING
    Path(out).write_bytes(pickle.dumps(epochs))
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
