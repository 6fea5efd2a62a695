"""Clips in tar shards, as webdataset and Hugging Face's datasets read them: one sample a clip.

A sample is a run of members whose names agree up to the first dot of their last segment; what follows
that dot is the field. So dots in the last segment of an id are written `%2E` (and `%` as `%25`).
A sample of layout `webdataset` has the same fields whatever the clip's length:

``frames.mjpeg``  the JPEGs of all frames, end to end
``flow.mjpeg``    grey JPEGs of u and v of each flow field in turn, over [-bound_px, bound_px]
``json``          id, label, n_frames, n_flow, step, width, height, fps, bound_px, and frames_offset and
                  flow_offset: where image k begins, and behind the last one the end
``cls``           the number of the class, -1 without one

Concatenated JPEGs are a raw Motion JPEG stream, which FFmpeg reads too; readers of shards leave a member
of such a name as bytes. An array would be ten times as large, and datasets makes lists of numbers of it.

Layout `webdataset-images` has a field for each image instead, `img_00000.jpg`, `flow_x_00000.jpg` and so on,
no `cls` where there is no class, and an index for `wids`, which webdataset had before version 1. Hugging
Face's datasets refuses it where clips are of unequal length.

Clips go to shards in the order of a hash of their ids, because training reads shards front to back:
sorted by id they would come a class at a time. Each subset of a split has shards of its own.

Source: the WebDataset file format's specification; wids's shard index, version 1.
"""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, cast

from flowkit.validate import check_at_least

DEFAULT_CLIPS = 100

NO_CLASS = -1
"""The class of a clip without one, where all samples have the field."""

STREAM_SUFFIX = ".mjpeg"
_MOST_IN_MEMORY = 64 << 20


def sample_key(video_id: str) -> str:
    """Return the name of a clip's sample: its id, without dots in the last segment."""
    folder, slash, name = video_id.rpartition("/")
    return folder + slash + name.replace("%", "%25").replace(".", "%2E")


def plan_shards(subset: str, video_ids: Sequence[str], clips: int) -> dict[str, tuple[str, ...]]:
    """Return the ids of each shard, by its file name: `<subset>-000000.tar` and on.

    Parameters
    ----------
    subset : str
        Name of the subset, without a slash.
    video_ids : sequence of str
        Its clips.
    clips : int
        Clips a shard, >= 1.
    """
    check_at_least("clips per shard", clips, 1)
    mixed = sorted(video_ids, key=lambda video_id: hashlib.sha256(video_id.encode()).digest())
    return {
        f"{subset}-{start // clips:06d}.tar": tuple(mixed[start : start + clips])
        for start in range(0, len(mixed), clips)
    }


class Stream:
    """Images end to end, and where each begins; a context manager."""

    def __init__(self, name: str, folder: Path) -> None:
        self.name = name
        self.offsets = [0]
        self._file: tempfile.SpooledTemporaryFile[bytes] = tempfile.SpooledTemporaryFile(
            max_size=_MOST_IN_MEMORY, dir=str(folder)
        )

    def add(self, data: bytes) -> None:
        """Append an image."""
        self._file.write(data)
        self.offsets.append(self.offsets[-1] + len(data))

    def rewound(self) -> IO[bytes]:
        """Return the file of all images, at its beginning."""
        self._file.seek(0)
        return cast("IO[bytes]", self._file)

    def __enter__(self) -> Stream:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()


class ShardWriter:
    """Writes samples into one tar file; the same samples give the same bytes."""

    def __init__(self, path: Path) -> None:
        self._folder = path.parent
        self._tar = tarfile.open(path, "w", format=tarfile.PAX_FORMAT)

    def add(self, video_id: str, field: str, data: bytes) -> None:
        """Append one field of a clip; those of one clip must follow each other."""
        member = tarfile.TarInfo(f"{sample_key(video_id)}.{field}")
        member.size = len(data)
        member.mode = 0o644
        self._tar.addfile(member, io.BytesIO(data))

    def add_stream(self, video_id: str, stream: Stream) -> None:
        """Append a stream of images as one field."""
        member = tarfile.TarInfo(f"{sample_key(video_id)}.{stream.name}{STREAM_SUFFIX}")
        member.size, member.mode = stream.offsets[-1], 0o644
        self._tar.addfile(member, stream.rewound())

    def stream(self, name: str) -> Stream:
        """Return an empty stream; a long one lies in the shard's folder, not in memory."""
        return Stream(name, self._folder)

    def close(self) -> None:
        """Write the end of the archive."""
        self._tar.close()

    def __enter__(self) -> ShardWriter:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def shard_indexes(shards: Mapping[str, tuple[int, int]]) -> dict[str, str]:
    """Return an index for the shards of each subset by its file name, `<subset>.json`.

    Parameters
    ----------
    shards : mapping of str to (int, int)
        Number of samples and bytes by file name.
    """
    subsets: dict[str, dict[str, tuple[int, int]]] = {}
    for name, found in shards.items():
        subsets.setdefault(name.rpartition("-")[0], {})[name] = found
    return {f"{subset}.json": _index_json(subset, found) for subset, found in subsets.items()}


def _index_json(name: str, shards: Mapping[str, tuple[int, int]]) -> str:
    """Return a shard index: file name, number of samples and bytes of each shard."""
    rows = [
        {"url": url, "nsamples": samples, "filesize": size} for url, (samples, size) in sorted(shards.items())
    ]
    index = {"__kind__": "wids-shard-index-v1", "wids_version": 1, "name": name, "shardlist": rows}
    return json.dumps(index, indent=1) + "\n"


def head_fields(facts: Mapping[str, object], label: int | None) -> Iterator[tuple[str, bytes]]:
    """Yield the fields before a sample's images: json, and cls where there is a class."""
    yield "json", json.dumps(facts, ensure_ascii=False).encode()
    if label is not None:
        yield "cls", str(label).encode()
