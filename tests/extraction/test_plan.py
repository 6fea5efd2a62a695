"""Sources against a store: which are new, stored, changed; and options that must not differ."""

from __future__ import annotations

import dataclasses
import hashlib
import os
from pathlib import Path

import pytest

from flowkit.errors import StoreOptionsError
from flowkit.extraction.plan import Plan, check_options, fingerprint, make_plan
from flowkit.extraction.sources import VideoSource
from flowkit.store.inventory import Inventory, inventory
from flowkit.store.record import SolverRecord, SourceShape, StoredVideoShape, TimeRange, VideoRecord
from tests.rawframes.conftest import make_options


def write_source(folder: Path, name: str, content: bytes = b"0123456789") -> VideoSource:
    path = folder / f"{name}.avi"
    path.write_bytes(content)
    return VideoSource(path=path, video_id=name)


def holding(folder: Path, *sources: VideoSource) -> Inventory:
    """Inventory of a store that was made from these sources as they are now."""
    records = {
        source.video_id: VideoRecord.of(
            source.video_id,
            stored=StoredVideoShape(width=24, height=16, fps=25.0, n_frames=3, n_flow=2),
            source=fingerprint(source.path),
            source_shape=SourceShape(source_width=24, source_height=16),
            solver=SolverRecord(backend="cpu"),
            times=TimeRange(start_seconds=source.start_seconds, end_seconds=source.end_seconds),
        )
        for source in sources
    }
    return dataclasses.replace(inventory(folder / "none.h5"), records=records)


def only(**parts: tuple[VideoSource, ...] | frozenset[str]) -> Plan:
    """A plan of these parts, the others empty."""
    empty = {"todo": (), "stored": (), "changed": (), "replaced": frozenset()}
    return Plan(**{**empty, **parts})  # type: ignore[arg-type]


def test_a_source_that_the_store_lacks_is_to_do_and_one_it_has_is_stored(tmp_path: Path) -> None:
    c, a, b = (write_source(tmp_path, name) for name in "cab")
    assert make_plan([c, a, b], holding(tmp_path, a)) == only(todo=(c, b), stored=(a,))


def test_other_contents_of_the_same_size_are_a_change(tmp_path: Path) -> None:
    source = write_source(tmp_path, "a")
    found = holding(tmp_path, source)
    write_source(tmp_path, "a", b"9876543210")
    os.utime(source.path, (1, 1))
    assert make_plan([source], found) == only(changed=(source,))


def test_a_source_that_was_only_touched_is_the_same(tmp_path: Path) -> None:
    source = write_source(tmp_path, "a")
    found = holding(tmp_path, source)
    os.utime(source.path, (1, 1))
    assert make_plan([source], found, update=True) == only(stored=(source,))


def test_a_copy_of_another_size_is_a_change_even_with_the_old_time(tmp_path: Path) -> None:
    source = write_source(tmp_path, "a")
    found = holding(tmp_path, source)
    time_ns = source.path.stat().st_mtime_ns
    write_source(tmp_path, "a", b"longer than before")
    os.utime(source.path, ns=(time_ns, time_ns))
    assert make_plan([source], found) == only(changed=(source,))


def test_update_redoes_changed_sources_and_only_those(tmp_path: Path) -> None:
    a, b, c = (write_source(tmp_path, name) for name in "abc")
    found = holding(tmp_path, a, b)
    write_source(tmp_path, "b", b"another video")
    plan = make_plan([a, b, c], found, update=True)
    assert plan == only(todo=(b, c), stored=(a,), replaced=frozenset({"b"}))


def test_another_part_of_the_same_file_is_a_change(tmp_path: Path) -> None:
    source = write_source(tmp_path, "a")
    part = dataclasses.replace(source, start_seconds=1.0, end_seconds=2.0)
    assert make_plan([part], holding(tmp_path, part)) == only(stored=(part,))
    assert make_plan([part], holding(tmp_path, source)) == only(changed=(part,))
    assert make_plan([source], holding(tmp_path, part)) == only(changed=(source,))


def test_a_stored_source_that_is_gone_stays_stored(tmp_path: Path) -> None:
    source = write_source(tmp_path, "a")
    found = holding(tmp_path, source)
    source.path.unlink()
    assert make_plan([source], found, update=True) == only(stored=(source,))


def test_the_fingerprint_of_a_file_has_its_size_time_and_digest(tmp_path: Path) -> None:
    content = bytes(range(256)) * 5000  # more than one block of reading
    path = write_source(tmp_path, "a", content).path
    os.utime(path, ns=(7, 123_456_789))
    state = fingerprint(path)
    assert (state.name, state.bytes, state.mtime_ns) == ("a.avi", len(content), 123_456_789)
    assert state.sha256 == hashlib.sha256(content).hexdigest()
    assert fingerprint(path, with_hash=False) == dataclasses.replace(state, sha256="")


def test_the_fingerprint_of_a_folder_is_that_of_its_list_of_files(tmp_path: Path) -> None:
    folder = tmp_path / "frames"
    folder.mkdir()
    (folder / "2.png").write_bytes(b"two")
    (folder / "1.png").write_bytes(b"first")
    os.utime(folder / "1.png", ns=(7, 9))
    os.utime(folder / "2.png", ns=(7, 8))
    state = fingerprint(folder)
    assert (state.name, state.bytes, state.mtime_ns) == ("frames", 8, 9)
    assert state.sha256 == hashlib.sha256(b"1.png\0first2.png\0two").hexdigest()
    (folder / "1.png").rename(folder / "3.png")
    assert fingerprint(folder).sha256 != state.sha256


def test_a_source_that_cannot_be_read_has_no_fingerprint(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"gone\.avi"):
        fingerprint(tmp_path / "gone.avi")


def test_a_new_store_and_equal_options_pass() -> None:
    check_options(make_options(step=2), None, Path("out.h5"))
    check_options(make_options(step=2), make_options(step=2), Path("out.h5"))


def test_each_option_that_differs_is_named_as_stored_and_as_asked() -> None:
    asked = make_options(step=2, flow_codec="i16")
    with pytest.raises(StoreOptionsError) as caught:
        check_options(asked, make_options(), Path("out.h5"))
    assert str(caught.value) == (
        "out.h5 was made with other options: step: stored 1, asked 2; flow_codec: stored 'q8', asked 'i16'; "
        "repeat its options, or extract into another file"
    )


def test_a_source_of_several_folders_has_the_state_of_all(tmp_path: Path) -> None:
    for name, text in (("u/a.jpg", "one"), ("v/a.jpg", "two")):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_text(text)
    alone, both = fingerprint(tmp_path / "u"), fingerprint(tmp_path / "u", tmp_path / "v")
    assert (alone.bytes, both.bytes) == (3, 6)
    (tmp_path / "v/a.jpg").write_text("new")
    assert fingerprint(tmp_path / "u", tmp_path / "v").sha256 != both.sha256
    assert fingerprint(tmp_path / "u").sha256 == alone.sha256
