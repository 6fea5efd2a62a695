"""Predict the time of UCF101 and Kinetics-700 on 1, 8 and 64 machines from rates measured on this one.

    python -m benchmarks.scale_model [--clips 48] [--cores 16] [--disk-mb-s 1000]

Measured: the extraction of real clips with the defaults and one worker (seconds of its start, CPU seconds
a frame of all processes), and the copy of a video into a store, which the one process does that coordinates
a run. The model: work is divided evenly among cores; packing goes on meanwhile, at the rate of one process;
the shared disk takes parts once and the store once, and reads the parts; whichever of the three is slowest
limits. Its prediction for two workers is compared with a run of two. It leaves out: videos of unequal length
at the end, readers of a slow file system, dask's own time. The sets' figures are those of their papers:
UCF101 13,320 videos, 27 hours at 25 frames/s (Soomro, Zamir, Shah, arXiv 1212.0402); Kinetics-700 650,000 of
10 s (Carreira, Noland, Hillier, Zisserman, arXiv 1907.06987), taken as 25 frames/s. Needs FLOWKIT_TEST_DATA
(default ../shared/data). Writes one JSON file to benchmarks/results.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import resource
import tempfile
import time
from pathlib import Path

import flowkit
from benchmarks.bench_extract_rival import choose_clips
from benchmarks.record import JsonObject, write_result
from flowkit.extraction.config import ExtractConfig

SETS = {"UCF101": (13_320, 27 * 3600 * 25), "Kinetics-700": (650_000, 650_000 * 250)}
"""Videos and frames."""
MACHINES = (1, 8, 64)


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Rates:
    """Measured rates of an extraction.

    Attributes
    ----------
    start_s : float
        From the call to the first frame.
    frame_cpu_s : float
        CPU of all processes for a frame: decoding, flow, coding, and packing.
    pack_s : float
        Of the coordinating process, for a video.
    frame_bytes : float
        Of the store, a frame.
    """

    start_s: float
    frame_cpu_s: float
    pack_s: float
    frame_bytes: float


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Prediction:
    """Seconds of a whole extraction, and what limits it."""

    seconds: float
    limit: str


def predict(
    rates: Rates, *, videos: int, frames: int, cores: int, disk_bytes_s: float = float("inf")
) -> Prediction:
    """Return the time on so many cores."""
    parts = {
        "the cores": frames * rates.frame_cpu_s / cores,
        "the process that packs": videos * rates.pack_s,
        "the shared disk": 3 * frames * rates.frame_bytes / disk_bytes_s,
    }
    limit = max(parts, key=lambda name: parts[name])
    return Prediction(seconds=rates.start_s + parts[limit], limit=limit)


def cpu_seconds() -> float:
    """Return the CPU time of this process and of its ended children."""
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + ended.ru_utime + ended.ru_stime


def extracted(videos: Path, store: Path, jobs: int) -> tuple[flowkit.ExtractReport, float, float]:
    """Extract; return the report, wall and CPU seconds."""
    began, used = time.perf_counter(), cpu_seconds()
    report = flowkit.extract([videos], store, config=ExtractConfig(jobs=jobs))
    if report.failures:
        raise SystemExit(f"failed: {report.failures}")
    return report, time.perf_counter() - began, cpu_seconds() - used


def measure(videos: Path, folder: Path) -> tuple[Rates, JsonObject]:
    """Measure the rates, and compare the model with a run of two workers."""
    extracted(videos, folder / "warm.h5", 1)
    one, wall, cpu = extracted(videos, folder / "one.h5", 1)
    _, wall_of_two, cpu_of_two = extracted(videos, folder / "two.h5", 2)
    with flowkit.open(folder / "one.h5") as store:
        ids, info = list(store), store.info()
    began = time.perf_counter()
    flowkit.subset(folder / "one.h5", folder / "copy.h5", ids)
    rates = Rates(
        start_s=one.phases["start"],
        frame_cpu_s=(cpu - one.phases["start"]) / info.n_frames,
        pack_s=(time.perf_counter() - began) / len(ids),
        frame_bytes=info.bytes / info.n_frames,
    )
    cores = min(2, len(os.sched_getaffinity(0)))
    guess = predict(rates, videos=len(ids), frames=info.n_frames, cores=cores)
    return rates, {
        "videos": len(ids),
        "frames": info.n_frames,
        "one_worker": {"wall_s": wall, "cpu_s": cpu, "phases": one.phases},
        "two_workers": {"wall_s": wall_of_two, "cpu_s": cpu_of_two},
        "predicted_s": guess.seconds,
        "measured_over_predicted": wall_of_two / guess.seconds,
    }


def table(rates: Rates, *, cores: int, disk_bytes_s: float) -> list[JsonObject]:
    """Return a row for each set and number of machines."""
    return [
        {
            "set": name,
            "machines": machines,
            "cores": machines * cores,
            "hours": found.seconds / 3600,
            "limit": found.limit,
            "store_gb": frames * rates.frame_bytes / 1e9,
        }
        for name, (videos, frames) in SETS.items()
        for machines in MACHINES
        for found in [
            predict(rates, videos=videos, frames=frames, cores=machines * cores, disk_bytes_s=disk_bytes_s)
        ]
    ]


def main() -> None:
    """Measure, predict, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--clips", type=int, default=48)
    parser.add_argument("--cores", type=int, default=16, help="of a machine")
    parser.add_argument("--disk-mb-s", type=float, default=1000, help="of the shared disk")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        choose_clips(options.clips, folder / "videos")
        rates, check = measure(folder / "videos", folder)
    rows = table(rates, cores=options.cores, disk_bytes_s=1e6 * options.disk_mb_s)
    print(rates)
    print({name: check[name] for name in ("predicted_s", "two_workers", "measured_over_predicted")})
    for row in rows:
        print(
            f"| {row['set']} | {row['machines']} x {options.cores} cores | {row['hours']:.2f} h | "
            f"{row['limit']} | {row['store_gb']:.0f} GB |"
        )
    print(
        write_result(
            "scale-model",
            {
                "rates": dataclasses.asdict(rates),
                "check": check,
                "rows": rows,
                "cores_of_a_machine": options.cores,
                "disk_mb_s": options.disk_mb_s,
            },
        )
    )


if __name__ == "__main__":
    main()
