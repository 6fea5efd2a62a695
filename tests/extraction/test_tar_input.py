"""Videos in tar archives, hostile ones among them."""

from __future__ import annotations

import dataclasses
import io
import struct
import tarfile
import tempfile
from pathlib import Path
from typing import Literal, TypeAlias

import pytest

from flowkit.errors import InputError
from flowkit.executor import InlineExecutor
from flowkit.extraction.run import ExtractReport, prepare, run
from flowkit.extraction.sources import find_sources
from flowkit.extraction.tar_input import tar_compression
from flowkit.store.read.store import open_store
from flowkit.tvl1.params import PRESETS
from tests.make import clips, small

Mode: TypeAlias = Literal["w", "w:gz", "w:xz"]

FAST = dataclasses.replace(small.SMALL, params=PRESETS["fast"])


@pytest.fixture
def video(tmp_path: Path) -> bytes:
    path = tmp_path / "made.avi"
    clips.mjpeg_avi(path, clips.moving_texture(2))
    return path.read_bytes()


@pytest.fixture(autouse=True)
def scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Nothing may be left where temporaries are."""
    folder = tmp_path / "temporaries"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


def member(name: str, data: bytes = b"", **facts: object) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.size, info.mtime = len(data), 1_700_000_000
    for key, value in facts.items():
        setattr(info, key, value)
    return info, data


def write_tar(path: Path, *members: tuple[tarfile.TarInfo, bytes], mode: Mode = "w") -> Path:
    with tarfile.open(path, mode) as archive:
        for info, data in members:
            archive.addfile(info, io.BytesIO(data))
    return path


def extract(archive: Path, store: Path, **changes: object) -> ExtractReport:
    config = dataclasses.replace(FAST, **changes)  # type: ignore[arg-type]
    setup = prepare(find_sources(archive, on_note=lambda _: None), store, config=config)
    with InlineExecutor() as executor:
        return run(setup, executor=executor)


@pytest.mark.parametrize(
    ("name", "mode"), [("v.tar", "w"), ("v.tar.gz", "w:gz"), ("v.TGZ", "w:gz"), ("v.txz", "w:xz")]
)
def test_ids_are_the_paths_of_members(
    tmp_path: Path, video: bytes, name: str, mode: Mode, scratch: Path
) -> None:
    members = [member(f"./run/{k}.avi", video) for k in "ba"]
    archive = write_tar(tmp_path / name, *members, member("notes.txt", b"x"), mode=mode)
    report = extract(archive, tmp_path / "out.h5")
    assert report.failures == ()
    with open_store(tmp_path / "out.h5") as store:
        assert list(store) == ["run/a", "run/b"]
        assert store.labels == ("run",)
        record = store["run/a"].record
    assert record.source_name == f"{archive}/./run/a.avi"
    assert (record.source_bytes, record.source_mtime_ns) == (len(video), 1_700_000_000 * 10**9)
    assert list(scratch.iterdir()) == []


def test_a_member_gives_what_its_file_gives(tmp_path: Path, video: bytes) -> None:
    (tmp_path / "videos").mkdir()
    (tmp_path / "videos" / "a.avi").write_bytes(video)
    extract(tmp_path / "videos", tmp_path / "file.h5")
    extract(write_tar(tmp_path / "v.tar.gz", member("a.avi", video), mode="w:gz"), tmp_path / "member.h5")
    with open_store(tmp_path / "file.h5") as one, open_store(tmp_path / "member.h5") as other:
        assert (one["a"].flow() == other["a"].flow()).all()
        assert one["a"].record.source_sha256 == other["a"].record.source_sha256


def test_a_second_run_does_what_is_new_and_notices_what_changed(tmp_path: Path, video: bytes) -> None:
    archive, store = tmp_path / "v.tar", tmp_path / "out.h5"
    write_tar(archive, member("a.avi", video))
    extract(archive, store)
    write_tar(archive, member("a.avi", video), member("b.avi", video))
    plan = prepare(archive, store, config=FAST).plan
    assert [source.video_id for source in plan.todo] == ["b"]
    write_tar(archive, member("a.avi", video + b"more"))
    assert [source.video_id for source in prepare(archive, store, config=FAST).plan.changed] == ["a"]
    write_tar(archive, member("a.avi", video, mtime=5))
    assert len(prepare(archive, store, config=FAST).plan.stored) == 1


HOSTILE = {
    "absolute": member("/etc/a.avi", b"x"),
    "upwards": member("x/../../a.avi", b"x"),
    "symbolic": member("a.avi", type=tarfile.SYMTYPE, linkname="/etc/passwd"),
    "hard": member("a.avi", type=tarfile.LNKTYPE, linkname="good.avi"),
    "device": member("a.avi", type=tarfile.CHRTYPE, devmajor=1, devminor=5),
    "pipe": member("a.avi", type=tarfile.FIFOTYPE),
    "long": member("a/" * 600 + "a.avi", b"x"),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_hostile_member_costs_itself(tmp_path: Path, video: bytes, kind: str, scratch: Path) -> None:
    archive = write_tar(tmp_path / "v.tar", HOSTILE[kind], member("good.avi", video))
    report = extract(archive, tmp_path / "out.h5")
    assert [failure.reason for failure in report.failures] == ["unopenable"]
    assert HOSTILE[kind][0].name[:50] in report.failures[0].source
    assert "it was not read" in report.failures[0].detail
    with open_store(tmp_path / "out.h5") as store:
        assert list(store) == ["good"]
        assert store.labels == ()
    assert list(scratch.iterdir()) == []


def test_a_sparse_member_costs_itself(tmp_path: Path, video: bytes) -> None:
    # GNU's old form: 8 TB in one block of zeros.
    info, _ = member("bomb.avi", type=b"S")
    info.size = 512
    header = bytearray(info.tobuf(tarfile.GNU_FORMAT))
    header[386:398], header[398:410] = b"00000000000\0", b"00000001000\0"
    header[483:495] = b"\x80" + struct.pack(">3xQ", 8 << 40)
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    archive = tmp_path / "v.tar"
    rest = write_tar(tmp_path / "rest.tar", member("good.avi", video)).read_bytes()
    archive.write_bytes(bytes(header) + bytes(512) + rest)
    report = extract(archive, tmp_path / "out.h5")
    assert ["sparse" in failure.detail for failure in report.failures] == [True]
    assert report.stored == 1


def test_a_header_that_claims_gigabytes_is_not_read(tmp_path: Path, video: bytes) -> None:
    info, _ = member("x", type=tarfile.XHDTYPE)
    info.size = 1 << 34
    good = write_tar(tmp_path / "good.tar", member("good.avi", video)).read_bytes()
    end = good.rstrip(b"\0")
    (tmp_path / "v.tar").write_bytes(end + bytes(-len(end) % 512) + info.tobuf())
    with pytest.warns(UserWarning, match="damaged behind member 1"):
        assert [source.video_id for source in find_sources(tmp_path / "v.tar")] == ["good"]


def test_a_member_that_leads_back_ends_the_list(tmp_path: Path, video: bytes) -> None:
    # Without a check tarfile reads the same header for ever: CVE-2025-8194.
    info, _ = member("back.avi")
    header = bytearray(info.tobuf(tarfile.GNU_FORMAT))
    header[124:136] = b"\xff" * 4 + struct.pack(">q", -1024)
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    good = write_tar(tmp_path / "good.tar", member("good.avi", video)).read_bytes()
    end = good.rstrip(b"\0")
    (tmp_path / "v.tar").write_bytes(end + bytes(-len(end) % 512) + bytes(header) + bytes(1024))
    with pytest.warns(UserWarning, match="damaged behind member 1"):
        assert [source.video_id for source in find_sources(tmp_path / "v.tar")] == ["good"]


def test_an_archive_that_was_cut_short_gives_its_whole_members(tmp_path: Path, video: bytes) -> None:
    archive = write_tar(tmp_path / "v.tar", member("a.avi", video), member("b.avi", video))
    archive.write_bytes(archive.read_bytes()[: len(video) + 2000])
    report = extract(archive, tmp_path / "out.h5")
    assert [failure.reason for failure in report.failures] == ["io_error"]
    assert "cut short" in report.failures[0].detail
    assert report.stored == 1


def test_the_later_of_two_members_of_one_name_counts(tmp_path: Path, video: bytes) -> None:
    archive = write_tar(tmp_path / "v.tar", member("a.avi", b"old"), member("a.avi", video))
    assert extract(archive, tmp_path / "out.h5").stored == 1


def test_a_video_larger_than_the_scratch_folder_costs_itself(tmp_path: Path, video: bytes) -> None:
    archive = write_tar(tmp_path / "v.tar", member("a.avi", video), member("b.avi", video + bytes(10_000)))
    report = extract(archive, tmp_path / "out.h5", scratch_bytes=len(video) + 5000)
    assert ["--scratch-size" in failure.detail for failure in report.failures] == [True]
    assert report.stored == 1


def test_a_broken_video_is_named_as_in_the_archive(tmp_path: Path, scratch: Path) -> None:
    archive = write_tar(tmp_path / "v.tar", member("a.avi", b"no video at all"))
    (failure,) = extract(archive, tmp_path / "out.h5").failures
    assert failure.reason == "unopenable"
    assert str(scratch) not in failure.detail
    assert f"{archive}/a.avi" in failure.detail


def test_an_archive_without_videos_and_a_file_that_is_none_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no video in .*1 \.txt"):
        find_sources(write_tar(tmp_path / "v.tar", member("a.txt", b"x")))
    (tmp_path / "w.tar.gz").write_bytes(b"this is no gzip")
    with pytest.raises(InputError, match="no tar archive"):
        find_sources(tmp_path / "w.tar.gz")


def test_an_archive_that_changed_since_it_was_listed_fails_its_videos(tmp_path: Path, video: bytes) -> None:
    archive = write_tar(tmp_path / "v.tar", member("a.avi", video))
    setup = prepare(archive, tmp_path / "out.h5", config=FAST)
    write_tar(archive, member("a.avi", video), member("b.avi", video))
    with InlineExecutor() as executor:
        report = run(setup, executor=executor)
    assert [failure.reason for failure in report.failures] == ["io_error"]


def test_suffixes_of_archives() -> None:
    names = ["a.tar", "a.tar.gz", "a.tgz", "a.tar.bz2", "a.txz", "tar", "a.tar.mp4", "a.gz"]
    assert [tar_compression(name) for name in names] == ["", "gz", "gz", "bz2", "xz", None, None, None]
