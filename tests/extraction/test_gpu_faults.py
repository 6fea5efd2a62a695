"""Extractions whose GPUs fail midway: complete on another engine, or failed by name."""

from __future__ import annotations

import dataclasses
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest

import flowkit
from flowkit.errors import BackendUnavailableError
from flowkit.executor import InlineExecutor
from flowkit.extraction import run
from flowkit.extraction.part_sink import PartSink
from flowkit.extraction.run import ExtractReport
from flowkit.store.write.part import PartWriter
from flowkit.tvl1.backend import BackendName
from flowkit.tvl1.server import client as server_client
from flowkit.tvl1.server import shared_memory
from flowkit.tvl1.server.client import Servers
from tests.make.clips import moving_texture, write_video
from tests.make.cuda import QUICK
from tests.tvl1.emulation.emulator import COMPILER, HERE
from tests.tvl1.emulation.fake_cupy import Fault, gpus_in_other_processes

pytestmark = pytest.mark.skipif(COMPILER is None, reason="no C++ compiler here")

# In the second of three videos: a video has a dozen launches of this kernel at each level.
ILLEGAL_ADDRESS = Fault(kind="status", kernel="flowkit_tile", after=20)
HANG = Fault(kind="hang", kernel="flowkit_tile", after=20)


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("clips")
    for k in range(3):
        write_video(folder / f"{k}.mp4", moving_texture(6, height=32, width=48, seed=k))
    return folder


def extracted(
    clips: Path,
    store: Path,
    monkeypatch: pytest.MonkeyPatch,
    *faults: tuple[Fault, ...],
    backend: BackendName = "auto",
) -> ExtractReport:
    """Extract with one GPU for each tuple of faults, in this process but for the servers."""
    # The stand-in computes inside of its calls, on cores that others use too.
    monkeypatch.setenv("FLOWKIT_GPU_PATIENCE", "8" if (HANG,) in faults else "20")
    gpus_in_other_processes(monkeypatch, faults)
    config = flowkit.ExtractConfig(params=QUICK, backend=backend)
    with InlineExecutor() as executor:
        return flowkit.extract(clips, store, config=config, executor=executor)


def contents(store: Path) -> dict[str, str]:
    """Return every dataset and attribute of a store, but for those of the file itself, its time and uuid."""
    found: dict[str, str] = {}

    def visit(name: str, thing: h5py.Group | h5py.Dataset) -> None:
        found.update({f"{name}@{key}": str(value) for key, value in thing.attrs.items()})
        if isinstance(thing, h5py.Dataset):
            found[name] = repr(thing[()].tolist())

    with h5py.File(store) as file:
        file.visititems(visit)
    own = ("metadata", "metadata@crc32", "index/file_crc32")
    return {name: value for name, value in found.items() if name not in own}


@pytest.mark.parametrize("fault", [ILLEGAL_ADDRESS, HANG], ids=lambda fault: fault.kind)
def test_device_fault_of_one_of_two_gpus_leaves_the_store_of_an_extraction_without(
    fault: Fault, clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = extracted(clips, tmp_path / "whole.h5", monkeypatch, (), ())
    report = extracted(clips, tmp_path / "out.h5", monkeypatch, (fault,), ())
    assert (whole.stored, report.stored, report.failures) == (3, 3, ())
    assert contents(tmp_path / "out.h5") == contents(tmp_path / "whole.h5")
    assert flowkit.verify(tmp_path / "out.h5").sound


def test_device_fault_of_the_only_gpu_leaves_its_videos_to_the_cpu_engine_and_the_store_says_so(
    clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    report = extracted(clips, tmp_path / "out.h5", monkeypatch, (ILLEGAL_ADDRESS,))
    assert (report.stored, report.failures) == (3, ())
    with flowkit.open(tmp_path / "out.h5") as store:
        records = [store[name].record for name in store]
    engines = [record.backend for record in records]
    assert engines[0] == "cuda"
    assert engines[-1] == "cpu"
    assert set(engines) <= {"cuda", "cuda, cpu", "cpu"}
    assert records[-1].device.startswith("cpu")
    (warning,) = report.outcomes[-1].warnings
    assert re.fullmatch(r"computed by cpu on cpu/\w+, since GPU 0 .*cudaErrorIllegalAddress.*", warning)
    assert not report.outcomes[0].warnings
    with flowkit.open(tmp_path / "out.h5") as store:
        assert all(np.abs(store[name].flow()).max() > 0.5 for name in store)


def test_device_fault_of_the_only_gpu_that_was_asked_for_by_name_fails_its_videos_by_name(
    clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    report = extracted(clips, tmp_path / "out.h5", monkeypatch, (ILLEGAL_ADDRESS,), backend="cuda")
    assert report.stored >= 1
    assert {failure.reason for failure in report.failures} == {"engine_error"}
    assert len(report.failures) == 3 - report.stored
    assert all("cudaErrorIllegalAddress" in failure.detail for failure in report.failures)
    # The GPU is replaced, and what is missing is extracted.
    assert extracted(clips, tmp_path / "out.h5", monkeypatch, (), backend="cuda").already_stored >= 1
    with flowkit.open(tmp_path / "out.h5") as store:
        assert len(store) == 3


def test_device_fault_is_said_by_the_command_also_if_it_is_quiet(
    clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gpus_in_other_processes(monkeypatch, [(ILLEGAL_ADDRESS,)])
    root = HERE.parents[2]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(map(str, (HERE / "cupy_folder", root))))
    # The stand-in replaces parts of the engine when it is imported, which must have happened by then.
    code = "import cupy; from flowkit_cli import main; main()"
    words = ["extract", str(clips), str(tmp_path / "out.h5"), "-q", "--jobs", "1"]
    words += ["--nscales", "2", "--warps", "2", "--iterations", "20"]
    done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "flowkit: GPU 0 (Emulated GPU) failed: cudaErrorIllegalAddress" in done.stderr
    assert "computed by cpu on" in done.stderr
    assert flowkit.verify(tmp_path / "out.h5").sound


def test_device_fault_of_a_driver_that_no_server_starts_with_leaves_auto_to_the_cpu(
    clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server_client, "_START", "raise SystemExit(3) # ")
    with pytest.warns(
        RuntimeWarning, match=r"its process ended with 3; see .*; the CPU engine computes instead"
    ):
        report = extracted(clips, tmp_path / "out.h5", monkeypatch, ())
    assert (report.stored, report.failures) == (3, ())
    with flowkit.open(tmp_path / "out.h5") as store:
        assert {store[name].record.backend for name in store} == {"cpu"}
    with pytest.raises(BackendUnavailableError, match="its process ended with 3"):
        extracted(clips, tmp_path / "by-name.h5", monkeypatch, (), backend="cuda")


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSTOP], ids=["killed", "stopped"])
def test_a_server_that_is_lost_is_named_although_an_equal_one_takes_over(
    how: signal.Signals, clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shared_memory, "SILENCE_SECONDS", 2.0)
    lost: list[int] = []
    await_ = Servers._await

    def lose_the_first(self: Servers, number: int, *words: object) -> None:
        await_(self, number, *words)  # type: ignore[arg-type]
        if number == 1 and not lost:
            lost.append(self._processes[0].pid)
            os.kill(lost[0], how)

    monkeypatch.setattr(Servers, "_await", lose_the_first)
    report = extracted(clips, tmp_path / "out.h5", monkeypatch, (), ())
    assert (report.stored, report.failures) == (3, ())
    (warning,) = [text for outcome in report.outcomes for text in outcome.warnings]
    assert warning.startswith("computed by cuda on Emulated GPU, since ")


def test_a_worker_that_comes_after_the_last_gpu_says_so_too(
    clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run, "_start_servers", lambda setup, stack: (str(tmp_path / "gone.socket"),))
    report = extracted(clips, tmp_path / "out.h5", monkeypatch, ())
    assert report.stored == 3
    assert all("computed by cpu on" in outcome.warnings[0] for outcome in report.outcomes)


def test_a_video_resumed_from_segments_of_another_engine_names_both(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    video = write_video(tmp_path / "v.mp4", moving_texture(40, height=32, width=48))
    commit, count = PartSink._commit_segment, 0

    def until_the_second(self: PartSink, writer: PartWriter) -> None:
        nonlocal count
        commit(self, writer)
        count += 1
        if count == 2:
            raise KeyboardInterrupt

    config = flowkit.ExtractConfig(params=QUICK, backend="reference", segment_frames=10)
    with monkeypatch.context() as patch, InlineExecutor() as executor:
        patch.setattr(PartSink, "_commit_segment", until_the_second)
        with pytest.raises(KeyboardInterrupt):
            flowkit.extract(video, tmp_path / "out.h5", config=config, executor=executor)
    config = dataclasses.replace(config, backend="cpu")
    with InlineExecutor() as executor:
        assert flowkit.extract(video, tmp_path / "out.h5", config=config, executor=executor).stored == 1
    with flowkit.open(tmp_path / "out.h5") as store:
        record = store["v"].record
    assert record.backend == "reference, cpu"
    assert record.device.startswith("cpu, cpu/")
