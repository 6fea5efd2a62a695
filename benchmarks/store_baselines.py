"""Formats of frames and flow that `bench_store` compares, made from one store.

All hold the same clips. In `zarr` and `h5py` they are the store's own JPEGs and codes; in folders, tar
and LMDB what TSN's tools write: frames as cv2.imwrite does (quality 95, the standard's Huffman codes;
those of a store lose 5 % by codes of their own), flow as images (uint8 over 20 px, quality 95). Such
a frame is encoded from the store's, a second time, which makes it .5 % larger than from the video.
"""

from __future__ import annotations

import dataclasses
import importlib
import io
import tarfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import cv2
import h5py
import numpy as np
import simplejpeg
from numpy.typing import NDArray

from flowkit.store.codecs import flow_codec
from flowkit.store.read.store import ClipRequest, Store, open_store

STACK = 5
Array: TypeAlias = NDArray[np.number]
Decode: TypeAlias = Callable[[bytes], Array]


@dataclasses.dataclass(frozen=True, slots=True)
class Request:
    """Segments of one clip, by their first frames."""

    video_id: str
    starts: tuple[int, ...]

    @property
    def fields(self) -> list[int]:
        """The flow fields of all segments."""
        return [start + k for start in self.starts for k in range(STACK)]


Reader: TypeAlias = Callable[[Request], tuple[Array, Array]]


def turbo(data: bytes) -> Array:
    image: Array = simplejpeg.decode_jpeg(data, "RGB")
    return image


def turbo_grey(data: bytes) -> Array:
    plane: Array = simplejpeg.decode_jpeg(data, "GRAY")[..., 0]
    return plane


def opencv(data: bytes) -> Array:
    return np.asarray(cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB))


def opencv_grey(data: bytes) -> Array:
    return np.asarray(cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_GRAYSCALE))


def read_flowkit(store: Store) -> Reader:
    def read(request: Request) -> tuple[Array, Array]:
        wanted = ClipRequest(video_id=request.video_id, frames=request.starts, flow=request.fields)
        (data,) = store.read_many([wanted], threads=1)
        assert data.frames is not None
        return data.frames, data.codes

    return read


def read_flowkit_anew(store: Store) -> Reader:
    """Return a reader that opens each clip anew, as in a store of more clips than are kept open."""
    read_kept = read_flowkit(store)

    def read(request: Request) -> tuple[Array, Array]:
        store._recent.clear()
        return read_kept(request)

    return read


def read_plain_h5py(path: Path) -> Reader:
    file = h5py.File(path, "r", locking=False)

    def read(request: Request) -> tuple[Array, Array]:
        group = file[f"videos/{request.video_id}"]
        flow, frames, offsets = group["flow"], group["frames"], group["frames_offset"][:]
        images = [turbo(frames[offsets[s] : offsets[s + 1]].tobytes()) for s in request.starts]
        return np.stack(images), np.concatenate([flow[s : s + STACK] for s in request.starts])

    return read


def jpeg_names(request: Request) -> tuple[list[str], list[tuple[str, str]]]:
    frames = [f"img_{s:05d}.jpg" for s in request.starts]
    return frames, [(f"flow_x_{k:05d}.jpg", f"flow_y_{k:05d}.jpg") for k in request.fields]


def read_jpegs(fetch: Callable[[str, str], bytes], decode: Decode, decode_grey: Decode) -> Reader:
    """Return a reader of JPEGs that `fetch(video_id, name)` gives."""

    def read(request: Request) -> tuple[Array, Array]:
        frames, pairs = jpeg_names(request)
        rgb = np.stack([decode(fetch(request.video_id, name)) for name in frames])
        flow = np.empty((len(pairs), 2, *rgb.shape[1:3]), np.uint8)
        for row, pair in enumerate(pairs):
            for plane, name in enumerate(pair):
                flow[row, plane] = decode_grey(fetch(request.video_id, name))
        return rgb, flow

    return read


def jpegs_of(store: Store, video_id: str) -> Iterator[tuple[str, bytes]]:
    """Yield name and bytes of each JPEG of a clip, as TSN keeps it."""
    clip = store[video_id]
    flow = clip.flow()
    for k, frame in enumerate(clip.iter_frames()):
        bgr = cv2.cvtColor(frame, cv2.COLOR_RGB2BGR)
        yield f"img_{k:05d}.jpg", cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, 95])[1].tobytes()
    for k, field in enumerate(flow):
        planes = flow_codec("jpeg").encode(field).chunks
        yield f"flow_x_{k:05d}.jpg", bytes(planes[0])
        yield f"flow_y_{k:05d}.jpg", bytes(planes[1])


def make_folders(store: Store, root: Path) -> Callable[[str, str], bytes]:
    for video_id in store:
        folder = root / video_id
        folder.mkdir(parents=True)
        for name, data in jpegs_of(store, video_id):
            (folder / name).write_bytes(data)
    return fetch_files(root)


def fetch_files(root: Path) -> Callable[[str, str], bytes]:
    def fetch(video_id: str, name: str) -> bytes:
        with open(f"{root}/{video_id}/{name}", "rb", buffering=0) as file:
            return file.read()

    return fetch


def make_lmdb(store: Store, root: Path) -> Callable[[str, str], bytes]:
    lmdb: Any = importlib.import_module("lmdb")

    environment = lmdb.open(str(root), map_size=1 << 33)
    with environment.begin(write=True) as write:
        for video_id in store:
            for name, data in jpegs_of(store, video_id):
                write.put(f"{video_id}/{name}".encode(), data)
    environment.close()
    reading = lmdb.open(str(root), readonly=True, lock=False, readahead=False).begin(buffers=True)
    return lambda video_id, name: bytes(reading.get(f"{video_id}/{name}".encode()))


def make_tar(store: Store, path: Path) -> None:
    """Write one webdataset sample a clip: its images, under a key without dots or slashes."""
    with tarfile.open(path, "w") as tar:
        for video_id in store:
            for name, data in jpegs_of(store, video_id):
                stem, _, suffix = name.rpartition(".")
                entry = tarfile.TarInfo(f"{video_id.replace('/', '_')}.{stem}.{suffix}")
                entry.size = len(data)
                tar.addfile(entry, io.BytesIO(data))


def stream_webdataset(path: Path, requests: Sequence[Request]) -> int:
    """Read segments of each clip as it comes by in the stream; return their number."""
    webdataset: Any = importlib.import_module("webdataset")

    wanted = {request.video_id.replace("/", "_"): request for request in requests}
    done = 0
    for sample in webdataset.WebDataset(str(path), shardshuffle=False):
        request = wanted.get(sample["__key__"])
        if request is not None:
            read_jpegs(lambda _, name, sample=sample: sample[name], turbo, turbo_grey)(request)  # type: ignore[misc]
            done += len(request.starts)
    return done


def make_zarr(store: Store, root: Path) -> Reader:
    """Write each clip's codes in chunks of a field (zstd, level 3), frames as one flat array."""
    zarr: Any = importlib.import_module("zarr")

    zarr.config.set({"async.concurrency": 1, "threading.max_workers": 1})
    top = zarr.open_group(str(root), mode="w")
    for video_id in store:
        video, codes = store.stored_video(video_id), store[video_id].codes()[0]
        chunks = [video.frames[k] for k in range(video.record.n_frames)]
        group = top.create_group(video_id)
        compressor = zarr.codecs.ZstdCodec(level=3)
        flow = group.create_array(
            "flow", shape=codes.shape, chunks=(1, *codes.shape[1:]), dtype="i1", compressors=compressor
        )
        flow[:] = codes
        data = np.frombuffer(b"".join(chunks), np.uint8)
        frames = group.create_array("frames", shape=data.shape, chunks=(32768,), dtype="u1", compressors=None)
        frames[:] = data
        offsets = np.cumsum([0, *map(len, chunks)])
        group.create_array("frames_offset", shape=offsets.shape, chunks=offsets.shape, dtype="i8")[:] = (
            offsets
        )
    reading = zarr.open_group(str(root), mode="r")

    def read(request: Request) -> tuple[Array, Array]:
        flow, frames = reading[f"{request.video_id}/flow"], reading[f"{request.video_id}/frames"]
        at = reading[f"{request.video_id}/frames_offset"][:]
        images = [turbo(np.asarray(frames[int(at[s]) : int(at[s + 1])]).tobytes()) for s in request.starts]
        return np.stack(images), np.concatenate([flow[s : s + STACK] for s in request.starts])

    return read


def make_readers(path: Path, work: Path) -> dict[str, Reader]:
    """Write every format of a store below `work`; return a reader of each."""
    store = open_store(path)
    fetch = make_folders(store, work / "folders")
    readers = {
        "flowkit": read_flowkit(store),
        "flowkit, clips opened anew": read_flowkit_anew(open_store(path)),
        "flowkit through HDF5": read_flowkit(open_store(path, access="h5py")),
        "plain h5py": read_plain_h5py(path),
        "folders, simplejpeg": read_jpegs(fetch, turbo, turbo_grey),
        "folders, cv2": read_jpegs(fetch, opencv, opencv_grey),
    }
    optional: dict[str, Callable[[], Reader]] = {
        "lmdb of JPEGs": lambda: read_jpegs(make_lmdb(store, work / "lmdb"), turbo, turbo_grey),
        "zarr of codes": lambda: make_zarr(store, work / "zarr"),
    }
    for name, make in optional.items():
        try:
            readers[name] = make()
        except ImportError as error:
            print(f"{name} is left out: {error}")
    make_tar(store, work / "clips.tar")
    return readers
