"""Clips in tar shards, as webdataset reads them: one sample a clip.

A sample is a run of members whose names agree up to the first dot of their last segment; what follows
that dot is the field: `<id>.json`, `<id>.cls`, `<id>.img_00000.jpg`, `<id>.flow_x_00000.jpg`. So dots in
the last segment of an id are written `%2E` (and `%` as `%25`).

Clips go to shards in the order of a hash of their ids, because training reads shards front to back:
sorted by id they would come a class at a time. Each subset of a split has shards of its own, and an
index that `wids.ShardListDataset` opens.

Source: the WebDataset file format's specification; wids's shard index, version 1.
"""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from flowkit.validate import check_at_least

DEFAULT_CLIPS = 100


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


class ShardWriter:
    """Writes samples into one tar file; the same samples give the same bytes."""

    def __init__(self, path: Path) -> None:
        self._tar = tarfile.open(path, "w", format=tarfile.PAX_FORMAT)

    def add(self, video_id: str, field: str, data: bytes) -> None:
        """Append one field of a clip; those of one clip must follow each other."""
        member = tarfile.TarInfo(f"{sample_key(video_id)}.{field}")
        member.size = len(data)
        member.mode = 0o644
        self._tar.addfile(member, io.BytesIO(data))

    def close(self) -> None:
        """Write the end of the archive."""
        self._tar.close()

    def __enter__(self) -> ShardWriter:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def index_json(name: str, shards: Mapping[str, tuple[int, int]]) -> str:
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
