"""One thread and one seed for every test of the trainer, and one small labelled store for all."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from pathlib import Path

import pytest

import flowkit
from flowkit.store.read.store import Store


@pytest.fixture(autouse=True)
def one_thread_one_seed() -> Iterator[None]:
    """Small tensors gain nothing by threads, and random weights are to be the same each time."""
    if importlib.util.find_spec("torch") is None:
        yield
        return
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def labelled_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Path of the store of `tests.make.labelled`; not to be written to, nor its splits."""
    pytest.importorskip("torch")
    from tests.make import labelled

    return labelled.make_store(tmp_path_factory.mktemp("labelled"))


@pytest.fixture
def labelled_store(labelled_path: Path) -> Iterator[Store]:
    """That store, open."""
    with flowkit.open(labelled_path) as store:
        yield store
