"""The targets of the fuzzer on their corpora: what is sound is read, what is altered gets past checksums."""

from __future__ import annotations

from pathlib import Path

import pytest

import flowkit
from benchmarks.fuzz import (
    StoreParts,
    campaign,
    lists_target,
    stores_target,
    write_list_corpus,
    write_store_corpus,
)
from flowkit.errors import FlowkitError, StoreFormatError


def test_every_sound_list_is_parsed_and_altered_ones_are_refused_in_words(tmp_path: Path) -> None:
    (tmp_path / "corpus").mkdir()
    parse = lists_target(tmp_path)
    write_list_corpus(tmp_path / "corpus")
    corpus = list((tmp_path / "corpus").iterdir())
    assert len(corpus) == 13
    for path in corpus:
        parse(path.read_bytes())
        with pytest.raises(FlowkitError):
            parse(path.read_bytes()[:-3] + b"\0\xff,\n")


def test_libfuzzer_runs_from_the_corpus(tmp_path: Path) -> None:
    pytest.importorskip("atheris")
    row = campaign("lists", tmp_path / "sound", minutes=0.05)
    assert (row["status"], row["faults"], row["seeds"]) == (0, [], 13)
    assert row["runs"] > 100


def test_the_reader_reads_sound_blocks_and_refuses_others(tmp_path: Path) -> None:
    read = stores_target(tmp_path)
    write_store_corpus(tmp_path)
    sound = (tmp_path / "sound").read_bytes()
    read(sound)
    with pytest.raises(StoreFormatError):
        read(sound.replace(b'"step": 1', b'"step": x'))


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
