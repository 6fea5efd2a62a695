"""merge, subset, relabel and recode as a user calls them, one after the other on one store."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from flowkit.store.read.store import open_store
from flowkit_cli import merge, recode, relabel, subset
from tests.store.tools.test_combine import make


def run(module: object, *words: object) -> Result:
    return CliRunner().invoke(module.command, [*map(str, words)])  # type: ignore[attr-defined]


@pytest.fixture
def merged(tmp_path: Path) -> Path:
    first, second = make(tmp_path / "1.h5", {"a/1": 0}), make(tmp_path / "2.h5", {"b/1": 1, "b/2": 2})
    done = run(merge, first, second, "-o", tmp_path / "m.h5")
    assert (done.exit_code, "3 videos of 2 stores" in done.output) == (0, True)
    return tmp_path / "m.h5"


def test_subset_reads_a_list(merged: Path, tmp_path: Path) -> None:
    listed = tmp_path / "ids.txt"
    listed.write_text("# chosen\nb/2\n\n")
    done = run(subset, merged, "--list", listed, "-o", tmp_path / "s.h5")
    assert "1 videos" in done.output
    with open_store(tmp_path / "s.h5") as store:
        assert list(store) == ["b/2"]


def test_relabel_reads_a_table(merged: Path, tmp_path: Path) -> None:
    table, classes = tmp_path / "labels.csv", tmp_path / "classes.txt"
    table.write_text("id,label\na/1,walk\n")
    classes.write_text("walk\nb\n")
    done = run(relabel, merged, "--labels", table, "--classes", classes, "-o", tmp_path / "r.h5")
    assert "1 labels changed, 2 classes" in done.output
    with open_store(tmp_path / "r.h5") as store:
        assert (store["a/1"].label, store.labels) == ("walk", ("walk", "b"))
    table.write_text("name\n")
    wrong = run(relabel, merged, "--labels", table, "-o", tmp_path / "x.h5")
    assert (wrong.exit_code, "columns id and label" in wrong.output) == (2, True)


def test_recode_drops_frames_and_changes_the_codec(merged: Path, tmp_path: Path) -> None:
    done = run(recode, merged, "--flow-codec", "i16", "--drop-frames", "-o", tmp_path / "c.h5")
    assert "flow i16, frames none" in done.output
    with open_store(tmp_path / "c.h5") as store:
        assert (store.options.flow_codec, store.options.frame_codec) == ("i16", "none")


def test_all_three_divide_what_is_larger_than_a_shard(merged: Path, tmp_path: Path) -> None:
    listed, table = tmp_path / "ids.txt", tmp_path / "labels.csv"
    listed.write_text("a/1\nb/1\nb/2\n")
    table.write_text("id,label\na/1,walk\n")
    for name, module, words in (
        ("m", merge, (merged,)),
        ("s", subset, (merged, "--list", listed)),
        ("r", relabel, (merged, "--labels", table)),
    ):
        out = tmp_path / f"{name}-small.h5"
        done = run(module, *words, "-o", out, "--shard-size", "1")
        assert done.exit_code == 0, done.output
        with open_store(out) as store:
            assert (len(store), len(store.info().shards)) == (3, 3)
