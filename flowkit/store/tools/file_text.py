"""The text of a file of videos: its records, from where a checksum covers them, and what is wrong with it."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator, Mapping, Sequence

from flowkit.errors import StoreCorruptError, StoreError, StoreUnreadableError
from flowkit.store import checked_hdf5, index
from flowkit.store.file_crc import FileState, file_state
from flowkit.store.metadata import read_records, wrong_attributes
from flowkit.store.open_file import StoreFile
from flowkit.store.record import VideoRecord
from flowkit.store.schema import StoreOptions


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class FileText:
    """The records and tables of a file of videos."""

    records: Mapping[str, VideoRecord | StoreError]
    """Of each video; or why it cannot be read."""
    indexed: tuple[str, ...] | None
    """Ids of the index; None where it cannot be read."""
    problems: tuple[str, ...]


def read_text(file: StoreFile, video_ids: Sequence[str]) -> FileText:
    """Read the records and tables of a file, whatever is damaged.

    Records are those of the index, which has a checksum; of files of format 1.0 or written anew by another
    program, and where the index is damaged, those of the videos' groups.

    Raises
    ------
    StoreUnreadableError
        The system does not let the file be read now.
    """
    problems: list[str] = []
    state = _checked_state(file, file.metadata.options, problems)
    rows: dict[str, VideoRecord] = {}
    indexed: tuple[str, ...] | None = None
    with noted(problems, file.filename):
        rows, _ = index.read_index(file)
        indexed = tuple(rows)
    with noted(problems, file.filename):
        index.read_failures(file)
    covered = state in ("sound", "changed")
    groups: dict[str, VideoRecord | StoreError] = {}
    asked = [video_id for video_id in video_ids if not covered or video_id not in rows]
    if asked:
        with noted(problems, file.filename):
            groups = read_records(file, asked)
    for video_id, record in groups.items():
        if video_id in rows and rows[video_id] != record:
            problems.append(f"the index of {file.filename} and the group of {video_id!r} differ")
    unknown = StoreCorruptError("its record cannot be read")
    return FileText(
        records={
            k: _better(groups.get(k), rows.get(k), row_holds=state != "unknown") or unknown for k in video_ids
        },
        indexed=indexed,
        problems=tuple(dict.fromkeys(problems)),
    )


def _better(
    group: VideoRecord | StoreError | None, row: VideoRecord | None, *, row_holds: bool
) -> VideoRecord | StoreError | None:
    """Return the record of a group; that of the index where the group has none, or a damaged one."""
    if group is None or (row_holds and isinstance(group, StoreError)):
        return row or group
    return group


def head_problems(file: StoreFile) -> list[str]:
    """Return what is wrong with the metadata and the bytes of a master.

    Raises
    ------
    StoreUnreadableError
        The system does not let the file be read now.
    """
    problems: list[str] = []
    _checked_state(file, None, problems)
    return problems


def _checked_state(file: StoreFile, options: StoreOptions | None, problems: list[str]) -> FileState:
    """Return the state of a file's bytes; note what is wrong with them and with the metadata."""
    state: FileState = "changed"
    if file.damage:
        problems.append(file.damage)
    with noted(problems, file.filename):
        state = file_state(file, options)
        if state == "changed":
            problems.append(f"bytes of {file.filename} outside its chunks fail their CRC")
        if state == "rewritten":
            problems += [
                f"attribute {name} of {file.filename} differs from its metadata"
                for name in wrong_attributes(file, file.metadata)
            ]
        if not file.damage and index.read_labels(file) != file.metadata.labels:
            problems.append(f"the class names of {file.filename} differ from its metadata")
    return state


@contextlib.contextmanager
def noted(problems: list[str], path: str) -> Iterator[None]:
    """Note an error of reading as a problem, but for one that says nothing of the contents."""
    try:
        with checked_hdf5.contained(path):
            yield
    except StoreUnreadableError:
        raise
    except StoreError as error:
        problems.append(str(error))
