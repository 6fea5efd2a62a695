"""The targets of the fuzzer on their corpora: what is sound is read, what is altered gets past checksums."""

from __future__ import annotations

from pathlib import Path

import pytest

import flowkit
from benchmarks.fuzz import StoreParts, lists_target, write_list_corpus
from flowkit.errors import StoreFormatError


def test_sound_lists_are_parsed_and_others_refused_in_words(tmp_path: Path) -> None:
    parse = lists_target()
    write_list_corpus(tmp_path)
    for path in tmp_path.iterdir():
        parse(path.read_bytes())
        parse(path.read_bytes()[:-3] + b"\0\xff,\n")


def test_a_store_is_read_and_one_of_other_blocks_too_as_far_as_they_make_sense(tmp_path: Path) -> None:
    parts = StoreParts(tmp_path)
    sound = parts.blocks()
    parts.write(sound)
    with flowkit.open(parts.path) as store:
        ids = list(store)
        assert store[ids[0]].n_flow > 0
    parts.write([sound[0].replace(b'"step": 1', b'"step": 3'), *sound[1:]])
    with flowkit.open(parts.path) as store:
        assert store.options.step == 3
    parts.write([b"{}", *sound[1:]])
    with pytest.raises(StoreFormatError):
        flowkit.open(parts.path)
