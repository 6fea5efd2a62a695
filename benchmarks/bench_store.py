"""Measure the speed of reading clips from a store, against other formats.

    flowkit extract CLIPS/ clips.h5 --size 340x256
    python -m benchmarks.bench_store clips.h5 [--rounds 15]

One segment is one RGB frame and five flow fields in a row; a request asks for three of one clip.
Everything is read warm, in turn within each round, the same requests for all; speeds are medians over
rounds of segments a second of CPU time (and of wall time), ratios medians of the rounds' own ratios.
"""

from __future__ import annotations

import argparse
import functools
import importlib
import os
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from benchmarks.record import JsonObject, write_result
from benchmarks.store_baselines import (
    STACK,
    Reader,
    Request,
    fetch_files,
    make_readers,
    read_jpegs,
    stream_webdataset,
    turbo,
    turbo_grey,
)
from flowkit.store.read.store import ClipRequest, Store, open_store

SEGMENTS = 3
FOLDERS = ("folders, simplejpeg", "folders, cv2")


def draw(store: Store, count: int, seed: int) -> list[Request]:
    """Return requests for random segments of random clips that are long enough."""
    rng = np.random.default_rng(seed)
    rooms = {k: n - STACK + 1 for k, n in zip(store, store.column("n_flow"), strict=True) if n >= STACK}
    ids = list(rooms)
    chosen = [ids[k] for k in rng.integers(len(ids), size=count)]
    return [Request(k, tuple(rng.integers(rooms[k], size=SEGMENTS).tolist())) for k in chosen]


def timed(work: Callable[[], object]) -> tuple[float, float]:
    """Return wall and CPU seconds."""
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - wall, time.process_time() - cpu


def measure(
    readers: Mapping[str, Callable[[Sequence[Request]], object]], store: Store, *, rounds: int, count: int
) -> dict[str, list[tuple[float, float]]]:
    """Return segments a second, (wall, CPU), of each reader in each round."""
    speeds: dict[str, list[tuple[float, float]]] = {name: [] for name in readers}
    for round_ in range(-1, rounds):
        requests = draw(store, count, seed=round_ + 1)
        names = list(readers)
        np.random.default_rng(round_ + 1).shuffle(names)  # so that each meets the caches of each other
        for name in names:
            read_all = readers[name]
            seconds = timed(functools.partial(read_all, requests))
            if round_ >= 0:  # the first one warms up
                speeds[name].append((SEGMENTS * count / seconds[0], SEGMENTS * count / seconds[1]))
    return speeds


def one_by_one(read: Reader) -> Callable[[Sequence[Request]], None]:
    def read_all(requests: Sequence[Request]) -> None:
        for request in requests:
            read(request)

    return read_all


def summary(speeds: dict[str, list[tuple[float, float]]], *, against: tuple[str, ...]) -> JsonObject:
    """Return medians, spreads and ratios to the faster of `against`."""
    rows = {}
    base = np.array(
        max((speeds[name] for name in against), key=lambda r: float(np.median(np.array(r)[:, 1])))
    )
    for name, values in speeds.items():
        wall, cpu = np.array(values).T
        ratios = np.array(values) / base
        rows[name] = {
            "segments_per_second": round(float(np.median(wall)), 1),
            "segments_per_cpu_second": round(float(np.median(cpu)), 1),
            "quartiles_cpu": [round(float(q), 1) for q in np.percentile(cpu, [25, 75])],
            "ratio_wall": round(float(np.median(ratios[:, 0])), 3),
            "ratio_cpu": round(float(np.median(ratios[:, 1])), 3),
        }
    return rows


def threads(store: Store, fetch_root: Path, *, rounds: int, count: int) -> JsonObject:
    """Return the speed of two threads relative to one, by wall time and by CPU time."""
    folders = read_jpegs(fetch_files(fetch_root), turbo, turbo_grey)

    def from_store(number: int) -> Callable[[Sequence[Request]], None]:
        def read_all(requests: Sequence[Request]) -> None:
            wanted = [ClipRequest(video_id=r.video_id, frames=r.starts, flow=r.fields) for r in requests]
            for _ in store.read_many(wanted, threads=number):
                pass

        return read_all

    def from_folders(requests: Sequence[Request]) -> None:
        with ThreadPoolExecutor(2) as pool:
            list(pool.map(lambda request: folders(request) and None, requests))

    speeds = measure(
        {
            "one": from_store(1),
            "two": from_store(2),
            "folders, one": one_by_one(folders),
            "folders, two": from_folders,
        },
        store,
        rounds=rounds,
        count=3 * count,  # or the end counts, where one thread has nothing left to do
    )
    wall, cpu = ({name: np.array(values)[:, k] for name, values in speeds.items()} for k in range(2))
    return {
        # What two free cores would give; on a loaded machine wall time means little.
        "store_by_cpu_time": round(2 * float(np.median(cpu["two"] / cpu["one"])), 3),
        "store": round(float(np.median(wall["two"] / wall["one"])), 3),
        "store_best_round": round(float(np.max(wall["two"] / wall["one"])), 3),
        "folders_by_cpu_time": round(2 * float(np.median(cpu["folders, two"] / cpu["folders, one"])), 3),
        "folders": round(float(np.median(wall["folders, two"] / wall["folders, one"])), 3),
    }


class Folders:
    """The baseline's dataset: items as `ClipDataset` gives them, from JPEGs."""

    def __init__(self, root: Path, requests: Sequence[Request]) -> None:
        self._root, self._requests = root, requests

    def __len__(self) -> int:
        return len(self._requests)

    def __getitem__(self, index: int) -> JsonObject:
        torch: Any = importlib.import_module("torch")
        rgb, flow = read_jpegs(fetch_files(self._root), turbo, turbo_grey)(self._requests[index])
        stacks = flow.reshape(SEGMENTS, 2 * STACK, *flow.shape[2:])
        return {"rgb": torch.from_numpy(rgb.transpose(0, 3, 1, 2)), "flow": torch.from_numpy(stacks)}


def loaders(path: Path, folders: Path, *, rounds: int, count: int) -> JsonObject:
    """Return the speed of a DataLoader with two workers, store relative to folders."""
    torch: Any = importlib.import_module("torch")
    from flowkit.datasets import ClipDataset, collate_clips

    torch.set_num_threads(1)
    with open_store(path) as store:
        requests = draw(store, count, seed=99)
    speeds: dict[str, list[float]] = {"flowkit": [], "folders": []}
    ids = [request.video_id for request in requests]
    datasets = {
        "flowkit": ClipDataset(path, ids=ids, training=True, flow_form="codes"),
        "folders": Folders(folders, requests),
    }
    built = {
        name: torch.utils.data.DataLoader(
            data,
            8,
            num_workers=2,
            persistent_workers=True,
            collate_fn=collate_clips if name == "flowkit" else None,
        )
        for name, data in datasets.items()
    }
    for round_ in range(-1, rounds):
        for name, loader in built.items():
            seconds = timed(lambda loader=loader: [None for _ in loader])[0]  # type: ignore[misc]
            if round_ >= 0:
                speeds[name].append(SEGMENTS * count / seconds)
    ratio = np.array(speeds["flowkit"]) / np.array(speeds["folders"])
    medians = {f"{name}_segments_per_second": round(float(np.median(r)), 1) for name, r in speeds.items()}
    return {**medians, "ratio": round(float(np.median(ratio)), 3)}


def sizes(path: Path, folders: Path) -> JsonObject:
    """Return bytes of flow per pixel and field, and of the store beside those of the folders."""
    with open_store(path) as store:
        flow_bytes, components = 0, 0
        for clip in store.values():
            field = store.stored_video(clip.id).field("flow")
            flow_bytes += sum(len(chunk) for k in range(clip.n_flow) for chunk in field.chunks(k))
            components += clip.n_flow * clip.width * clip.height
        largest = max(store.column("flow_max_px"))
    files = [file for file in folders.rglob("*.jpg")]
    return {
        "flow_bytes_per_pixel_and_field": round(flow_bytes / components, 4),
        "store_bytes": os.path.getsize(path),
        "folder_bytes": sum(file.stat().st_size for file in files),
        "folder_bytes_on_disk": sum(file.stat().st_blocks * 512 for file in files),
        "folder_files": len(files),
        "flow_max_px": largest,
    }


def errors(readers: dict[str, Reader], store: Store) -> dict[str, float]:
    """Return the mean difference of each reader's flow from the store's, px; 0 where it is the same."""
    found = {}
    requests = draw(store, 30, seed=1234)
    for name, read in readers.items():
        differences = []
        for request in requests:
            (stored,) = store.read_many(
                [ClipRequest(video_id=request.video_id, flow=request.fields)], threads=1
            )
            scales = stored.scales[:, None, None, None]
            expected = stored.codes * scales
            flow = read(request)[1]
            got = flow * (40 / 255) - 20 if flow.dtype == np.uint8 else flow * scales
            differences.append(float(np.abs(got - expected).mean()))
        found[name] = round(float(np.mean(differences)), 4)
    return found


def main() -> None:
    """Run everything and write the raw result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("store", type=Path)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--count", type=int, default=40, help="clips of a round")
    asked = parser.parse_args()
    cv2.setNumThreads(1)
    with tempfile.TemporaryDirectory(prefix="bench_store-") as name, open_store(asked.store) as store:
        work = Path(name)
        readers = make_readers(asked.store, work)
        each = {reader: one_by_one(read) for reader, read in readers.items()}
        speeds = measure(each, store, rounds=asked.rounds, count=asked.count)
        result: JsonObject = {
            "clips": len(store),
            "segment": f"1 RGB frame + {STACK} flow fields, {SEGMENTS} of a clip",
            "readers": summary(speeds, against=FOLDERS),
            "flow_difference_px": errors(readers, store),
            "threads_two_against_one": threads(
                store, work / "folders", rounds=asked.rounds, count=asked.count
            ),
            "sizes": sizes(asked.store, work / "folders"),
        }
        optional: dict[str, Callable[[], object]] = {
            "webdataset_segments_per_second": lambda: webdataset_speed(store, work, asked.rounds),
            "dataloader_two_workers": lambda: loaders(
                asked.store, work / "folders", rounds=max(3, asked.rounds // 3), count=240
            ),
        }
        for name_of, call in optional.items():
            try:
                result[name_of] = call()
            except ImportError as error:
                print(f"{name_of} is left out: {error}")
    print(write_result("store", result).read_text())


def webdataset_speed(store: Store, work: Path, rounds: int) -> float:
    """Return segments a second from a tar that streams by: each clip once, all its bytes read."""
    rooms = {k: n - STACK for k, n in zip(store, store.column("n_flow"), strict=True) if n >= STACK}
    requests = [Request(k, tuple(min(s, room) for s in range(SEGMENTS))) for k, room in rooms.items()]
    seconds = [timed(lambda: stream_webdataset(work / "clips.tar", requests))[1] for _ in range(rounds)]
    return round(SEGMENTS * len(requests) / float(np.median(seconds)), 1)


if __name__ == "__main__":
    main()
