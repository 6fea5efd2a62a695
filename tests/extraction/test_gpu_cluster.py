"""A cluster whose workers have GPUs: those of emulated ones, each in a process of its own."""

from __future__ import annotations

import dataclasses
import functools
import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("distributed")

from distributed import Client

import flowkit
from flowkit.dask_executor import DaskExecutor
from flowkit.extraction.engines import why_not_here
from flowkit.frames import pair_indices, to_grey
from flowkit.tvl1.backend import choose_backend
from tests.make.clips import lossless_mkv, moving_texture
from tests.make.cluster import Cluster
from tests.make.cuda import QUICK
from tests.make.small import NATIVE
from tests.tvl1.emulation.emulator import COMPILER, HERE
from tests.tvl1.emulation.fake_cupy import GPUS_VARIABLE, FakeGpu, Fault, install

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(COMPILER is None, reason="no C++ compiler here"),
    pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::DeprecationWarning"),
]

CONFIG = flowkit.ExtractConfig(params=QUICK, resize=NATIVE, backend="cuda", jobs=1)


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    with Cluster(tmp_path) as made:
        yield made


@pytest.fixture
def videos(tmp_path: Path) -> Path:
    folder = tmp_path / "videos"
    folder.mkdir()
    for k in range(3):
        lossless_mkv(folder / f"{k}.mkv", moving_texture(5, height=32, width=48, seed=k))
    return folder


def gpu_worker(cluster: Cluster, folder: Path, name: str, faults: Sequence[Fault] = ()) -> None:
    """Add a worker with an emulated GPU."""
    own = json.dumps([[dataclasses.asdict(fault) for fault in faults]])
    script = folder / f"{name}.py"
    script.write_text(
        f"import os, sys\nos.environ[{GPUS_VARIABLE!r}] = {own!r}\n"
        f"sys.path.insert(0, {str(HERE / 'cupy_folder')!r})\nimport cupy\n"
    )
    cluster.add(name, preload=str(script), gpu=True)


def joined(cluster: Cluster, folder: Path, workers: int) -> DaskExecutor:
    with Client(scheduler_file=str(cluster.file), timeout=60) as client:
        client.wait_for_workers(workers, timeout=60)
    return DaskExecutor(
        str(cluster.file), jobs=1, folder=folder, gpus=True, check=functools.partial(why_not_here, "cuda")
    )


def test_workers_with_a_gpu_compute_what_this_machines_gpu_computes(
    cluster: Cluster, videos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster.add("without")
    gpu_worker(cluster, tmp_path, "with")
    with (
        pytest.warns(RuntimeWarning, match="has no resource GPU: start those with one by"),
        joined(cluster, tmp_path, 2) as executor,
    ):
        report = flowkit.extract(videos, tmp_path / "out.h5", config=CONFIG, executor=executor)
    assert (report.stored, report.failures) == (3, ())
    install(monkeypatch, FakeGpu())
    with flowkit.open(tmp_path / "out.h5") as store:
        assert {store[k].record.backend for k in store} == {"cuda"}
        assert {store[k].record.device for k in store} == {"Emulated GPU"}
        solver = choose_backend("cuda", QUICK).solver
        for video_id in store:
            greys = np.stack(
                [to_grey(rgb) for rgb in moving_texture(5, height=32, width=48, seed=int(video_id))]
            )
            expected = solver.flow_batch(greys, pair_indices(5))
            np.testing.assert_allclose(store[video_id].flow(), expected, atol=0.1)


def test_a_worker_whose_gpu_fails_ends_and_costs_no_video(
    cluster: Cluster, videos: Path, tmp_path: Path
) -> None:
    gpu_worker(cluster, tmp_path, "doomed", [Fault(kind="status", kernel="flowkit_tile", after=3)])
    gpu_worker(cluster, tmp_path, "sound")
    with joined(cluster, tmp_path, 2) as executor:
        report = flowkit.extract(videos, tmp_path / "out.h5", config=CONFIG, executor=executor)
    assert (report.stored, report.failures) == (3, ())
    assert flowkit.verify(tmp_path / "out.h5", deep=True).sound
    assert [worker.poll() for worker in cluster.workers] == [1, None]


def test_a_worker_with_the_resource_and_no_gpu_is_told_apart(cluster: Cluster, tmp_path: Path) -> None:
    cluster.add("claims", gpu=True)
    with (
        pytest.warns(RuntimeWarning, match="cupy does not import"),
        pytest.raises(flowkit.FlowkitError, match=r"no worker of .* can do the work: .*cupy does not"),
    ):
        joined(cluster, tmp_path, 1)
