"""A cluster whose workers have GPUs: those of emulated ones, each in a process of its own."""

from __future__ import annotations

import dataclasses
import functools
import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("distributed")

from distributed import Client

import flowkit
from flowkit.dask_executor import DaskExecutor
from flowkit.executor import InlineExecutor
from flowkit.extraction import engines
from flowkit.extraction.engines import why_not_here
from flowkit.frames import pair_indices, to_grey
from flowkit.tvl1.backend import choose_backend, load_shared
from flowkit.tvl1.engine import Solver
from tests.make.clips import lossless_mkv, moving_texture
from tests.make.cluster import Cluster
from tests.make.command import flowkit_says
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


LOST = Fault(kind="status", kernel="flowkit_tile", after=3)


def gpu_worker(
    cluster: Cluster, folder: Path, name: str, faults: Sequence[Fault] = (), *, nanny: bool = False
) -> None:
    """Add a worker with an emulated GPU."""
    own = json.dumps([[dataclasses.asdict(fault) for fault in faults]])
    script = folder / f"{name}.py"
    script.write_text(
        f"import os, sys\nos.environ[{GPUS_VARIABLE!r}] = {own!r}\n"
        f"sys.path.insert(0, {str(HERE / 'cupy_folder')!r})\nimport cupy\n"
    )
    cluster.add(name, preload=str(script), gpu=True, nanny=nanny)


def joined(cluster: Cluster, folder: Path, workers: int) -> DaskExecutor:
    with Client(scheduler_file=str(cluster.file), timeout=60) as client:
        client.wait_for_workers(workers, timeout=60)
    return DaskExecutor(
        str(cluster.file),
        jobs=1,
        folder=folder,
        gpus=True,
        check=functools.partial(why_not_here, "cuda", (QUICK,)),
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


def test_a_worker_that_lost_its_gpu_gets_no_more_work_and_costs_no_video(
    cluster: Cluster, videos: Path, tmp_path: Path
) -> None:
    gpu_worker(cluster, tmp_path, "doomed", [LOST])
    gpu_worker(cluster, tmp_path, "sound")
    with (
        pytest.warns(RuntimeWarning, match="GPU 0 .* failed: .*, after the launch of flowkit"),
        pytest.warns(RuntimeWarning, match="gets no work: its GPU is lost, and it cannot be started again"),
        joined(cluster, tmp_path, 2) as executor,
    ):
        report = flowkit.extract(videos, tmp_path / "out.h5", config=CONFIG, executor=executor)
    assert (report.stored, report.failures) == (3, ())
    assert flowkit.verify(tmp_path / "out.h5", deep=True).sound


def test_a_video_at_which_two_gpus_are_lost_fails_with_the_cause_and_the_worker_starts_again(
    cluster: Cluster, videos: Path, tmp_path: Path
) -> None:
    # Each process of the worker has a new GPU, which is lost at its fourth launch.
    gpu_worker(cluster, tmp_path, "phoenix", [LOST], nanny=True)
    with (
        pytest.warns(RuntimeWarning, match="GPU 0 .* failed") as warned,
        joined(cluster, tmp_path, 1) as executor,
    ):
        report = flowkit.extract(videos / "0.mkv", tmp_path / "out.h5", config=CONFIG, executor=executor)
    (failure,) = report.failures
    assert failure.reason == "engine_error"
    assert re.search("GPU 0 .* failed: .*, after the launch of flowkit", failure.detail)
    assert len({str(one.message).split()[1] for one in warned}) == 2


REFUSING = Fault(kind="refused", status=701, kernel="flowkit_tile")


def test_a_gpu_that_refuses_calls_costs_no_video_where_another_is(
    cluster: Cluster, videos: Path, tmp_path: Path
) -> None:
    gpu_worker(cluster, tmp_path, "refusing", [REFUSING])
    gpu_worker(cluster, tmp_path, "sound")
    with (
        pytest.warns(RuntimeWarning, match="refused flowkit_tile"),
        joined(cluster, tmp_path, 2) as executor,
    ):
        report = flowkit.extract(videos, tmp_path / "out.h5", config=CONFIG, executor=executor)
    assert (report.stored, report.failures) == (3, ())


def test_a_gpu_that_refuses_calls_and_is_alone_fails_each_video_with_the_cause(
    cluster: Cluster, videos: Path, tmp_path: Path
) -> None:
    gpu_worker(cluster, tmp_path, "refusing", [REFUSING])
    with (
        pytest.warns(RuntimeWarning, match="refused flowkit_tile"),
        joined(cluster, tmp_path, 1) as executor,
    ):
        report = flowkit.extract(videos, tmp_path / "out.h5", config=CONFIG, executor=executor)
    assert [failure.reason for failure in report.failures] == ["engine_error"] * 3
    assert all("refused flowkit_tile" in failure.detail for failure in report.failures)


def test_the_command_line_has_the_clusters_gpus_compute(
    cluster: Cluster, videos: Path, tmp_path: Path
) -> None:
    gpu_worker(cluster, tmp_path, "with")
    words = ("extract", videos, tmp_path / "out.h5", "--dask", cluster.file, "--backend", "cuda")
    done = flowkit_says(*words, "--preset", "fast")
    assert done.returncode == 0, done.stderr
    with flowkit.open(tmp_path / "out.h5") as store:
        assert {store[k].record.device for k in store} == {"Emulated GPU"}


def test_the_calls_of_a_worker_divide_the_memory_that_its_gpu_may_give(
    videos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(monkeypatch, FakeGpu())
    loaded: list[dict[str, object]] = []

    def load(*names: object, **rest: object) -> Solver:
        loaded.append(rest)
        return load_shared(*names, **rest)  # type: ignore[arg-type]

    monkeypatch.setattr(engines, "load_shared", load)
    config = dataclasses.replace(CONFIG, gpu_memory_bytes=1 << 30)
    with InlineExecutor() as executor:
        executor.elsewhere = executor.gpus = True
        report = flowkit.extract(videos, tmp_path / "out.h5", config=config, executor=executor)
    assert report.stored == 3
    assert loaded == [{"callers": 1, "memory_bytes": 1 << 30}]


def test_a_worker_with_the_resource_and_no_gpu_is_told_apart(cluster: Cluster, tmp_path: Path) -> None:
    cluster.add("claims", gpu=True)
    with (
        pytest.warns(RuntimeWarning, match="cupy does not import"),
        pytest.raises(flowkit.FlowkitError, match=r"no worker of .* can do the work: .*cupy does not"),
    ):
        joined(cluster, tmp_path, 1)
