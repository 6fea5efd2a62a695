"""Tasks over a dask cluster: real schedulers and workers on the loopback, killed while they work."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("distributed")

import flowkit
from flowkit import dask_executor
from flowkit.dask_executor import DaskExecutor
from flowkit.errors import ClusterError
from flowkit.extraction.config import ExtractConfig
from flowkit.extraction.run import extract
from tests.make import clips
from tests.make.cluster import Cluster, deadly, failing, hanging, marked_and_slow, squared
from tests.make.small import NATIVE

pytestmark = [
    pytest.mark.slow,
    # Of its own threads and processes, at their end.
    pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::DeprecationWarning"),
]


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    with Cluster(tmp_path) as made:
        yield made


def joined(cluster: Cluster, folder: Path, workers: int) -> DaskExecutor:
    """Return an executor once so many workers have joined."""
    from distributed import Client

    with Client(scheduler_file=str(cluster.file), timeout=60) as client:
        client.wait_for_workers(workers, timeout=60)
    return DaskExecutor(str(cluster.file), jobs=1, folder=folder)


def test_a_local_cluster_yields_every_result_and_shows_progress(tmp_path: Path) -> None:
    with DaskExecutor("local", jobs=2, folder=tmp_path) as executor:
        seen: set[tuple[int, float]] = set()

        def look() -> None:
            seen.update(executor.board.progress(slot) for slot in range(executor.jobs))

        found = sorted(executor.run(squared, range(3, 9), on_wait=look), key=lambda one: one.task)
        assert [(one.task, one.result) for one in found] == [(k, k * k) for k in range(3, 9)]
        assert {(k, 0.5) for k in range(3, 9)} & seen
        with pytest.raises(ValueError, match="task 0"):
            list(executor.run(failing, [0]))
        # Another one beside it, without a warning of ports.
        with DaskExecutor("local", jobs=1, folder=tmp_path) as other:
            assert [one.result for one in other.run(squared, [2])] == [4]
    assert [path for path in tmp_path.iterdir() if path.name.startswith(".flowkit")] == []


def test_the_tasks_of_a_worker_that_is_lost_are_done_by_another(cluster: Cluster, tmp_path: Path) -> None:
    first, marks = cluster.add("first"), tmp_path / "marks"
    marks.mkdir()
    with joined(cluster, tmp_path, 1) as executor:

        def kill() -> None:
            while not list(marks.glob("0-*")):
                time.sleep(0.05)
            cluster.add("second")
            cluster.kill(first)

        threading.Thread(target=kill, daemon=True).start()
        began = time.monotonic()
        found = list(executor.run(marked_and_slow, [(marks, k) for k in range(3)]))
    assert time.monotonic() - began < 25
    assert sorted(one.result for one in found if one.result is not None) == [0, 1, 2]
    assert len(list(marks.glob("0-*"))) == 2


def test_a_result_that_does_not_come_is_asked_for_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from distributed import Future

    result, asked = Future.result, 0

    def late(future: object, timeout: float | None = None) -> object:
        nonlocal asked
        asked += 1
        if asked == 1:
            raise TimeoutError
        return result(future, timeout)

    with DaskExecutor("local", jobs=1, folder=tmp_path) as executor:
        monkeypatch.setattr(Future, "result", late)
        found = sorted(one.result for one in executor.run(squared, [2, 3]) if one.result is not None)
    assert found == [4, 9]
    assert asked == 3


def test_a_task_that_kills_its_workers_fails_by_name(cluster: Cluster, tmp_path: Path) -> None:
    cluster.add("phoenix", nanny=True)
    with joined(cluster, tmp_path, 1) as executor:
        found = sorted(executor.run(deadly, range(3)), key=lambda one: one.task)
    assert [one.result for one in found] == [0, None, 2]
    assert found[1].died == "2 workers of the cluster ended while they worked on it"


def test_a_task_that_hangs_costs_itself_and_its_worker_starts_again(cluster: Cluster, tmp_path: Path) -> None:
    cluster.add("phoenix", nanny=True)
    with joined(cluster, tmp_path, 1) as executor:
        found = sorted(executor.run(hanging, range(3), patience=lambda _: 2.0), key=lambda one: one.task)
    assert [(one.result, one.stalled) for one in found] == [(0, 0.0), (None, 2.0), (2, 0.0)]


def test_a_lost_scheduler_is_said_and_a_run_after_it_completes(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dask_executor, "LOST_S", 3)
    cluster.add("only")
    folder = tmp_path / "videos"
    folder.mkdir()
    for k in range(4):
        clips.lossless_mkv(folder / f"v{k}.mkv", clips.moving_texture(6, height=32, width=48, shift=(k, 1)))
    config, store = ExtractConfig(resize=NATIVE, backend="reference", jobs=1), tmp_path / "out.h5"
    with joined(cluster, tmp_path, 1) as executor:

        def kill(progress: object) -> None:
            if list((tmp_path / "out.h5.parts").glob("v*.h5")):
                cluster.kill(cluster.scheduler)

        said = r"no scheduler or no worker any more.*the same command goes on"
        with pytest.raises(ClusterError, match=said):
            extract([folder], store, config=config, executor=executor, on_progress=kill)
    with Cluster(folder) as other:
        other.add("next")
        with joined(other, tmp_path, 1) as executor:
            report = extract([folder], store, config=config, executor=executor)
    assert not report.failures
    extract([folder], tmp_path / "local.h5", config=config)
    with flowkit.open(store) as one, flowkit.open(tmp_path / "local.h5") as two:
        assert sorted(one) == sorted(two) == [f"v{k}" for k in range(4)]
        for video_id in one:
            assert np.array_equal(one[video_id].flow(), two[video_id].flow())
    assert flowkit.verify(store, deep=True).sound


@pytest.mark.parametrize(
    ("preload", "why"),
    [
        ("import sys; sys.modules['flowkit'] = None", "it cannot import flowkit"),
        ("import flowkit.workers.remote as r; r.__version__ = '0.0'", "it has flowkit 0.0, expected"),
        (
            "import flowkit.workers.remote as r; r.missing = lambda paths: list(paths)",
            "it does not see .*same file system",
        ),
    ],
)
def test_a_worker_that_could_not_do_the_work_is_told_apart_before_it_starts(
    cluster: Cluster, tmp_path: Path, preload: str, why: str
) -> None:
    script = tmp_path / "preload.py"
    script.write_text(preload)
    cluster.add("unfit", preload=str(script))
    with (
        pytest.warns(RuntimeWarning, match=why),
        pytest.raises(ClusterError, match=f"no worker of .* can do the work: .*{why}"),
    ):
        joined(cluster, tmp_path, 1)
    cluster.add("fit")
    with pytest.warns(RuntimeWarning, match=why), joined(cluster, tmp_path, 2) as executor:
        assert [one.result for one in executor.run(squared, [2, 3])] == [4, 9]


def test_a_worker_that_is_slow_to_answer_holds_up_no_other(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dask_executor, "ANSWER_S", 0.5)
    script = tmp_path / "preload.py"
    script.write_text("import flowkit.workers.remote as r, time; r.missing = lambda paths: time.sleep(8)")
    for k in range(2):
        cluster.add(f"slow{k}", preload=str(script))
    cluster.add("fit")
    began = time.monotonic()
    with joined(cluster, tmp_path, 3) as executor:
        assert [one.result for one in executor.run(squared, [2, 3])] == [4, 9]
        assert time.monotonic() - began < 8
        # Those that have answered meanwhile take part, beside each other.
        workers = {
            one.worker for one in executor.run(marked_and_slow, [(tmp_path, k) for k in range(1, 120)])
        }
    assert len(workers) == 3
    assert not list(tmp_path.glob(".flowkit*"))


def test_an_address_where_no_scheduler_answers_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dask_executor, "CONNECT_S", 1)
    with pytest.raises(ClusterError, match=r"no dask scheduler answers at tcp://127\.0\.0\.1:9"):
        DaskExecutor("tcp://127.0.0.1:9", jobs=1, folder=tmp_path)
