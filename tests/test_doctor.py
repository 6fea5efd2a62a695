"""The report of an installation: its packages, engines and GPUs, and each fault of a broken one."""

from __future__ import annotations

import importlib.metadata
import os
import sys
from pathlib import Path
from typing import get_args

import cv2
import pytest
from click.testing import CliRunner

import flowkit_cli
from flowkit import __version__
from flowkit.doctor import Finding, examine, examine_gpus
from flowkit.tvl1.backend import BackendName, choose_backend
from flowkit.tvl1.cuda import check
from tests.tvl1.emulation.emulator import COMPILER
from tests.tvl1.emulation.fake_cupy import FakeGpu, Fault, install, make_module

needs_compiler = pytest.mark.skipif(COMPILER is None, reason="no C++ compiler here")


def texts(topic: str, level: str | None = None) -> list[str]:
    """Texts of a topic in a new report, those of one level or all."""
    return [
        finding.text for finding in examine() if finding.topic == topic and level in (None, finding.level)
    ]


def install_fake_driver(folder: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    """Put an `nvidia-smi` before all others on the path."""
    command = folder / "nvidia-smi"
    command.write_text(f"#!/bin/sh\n{script}\n")
    command.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")


def test_the_report_begins_with_flowkit_and_its_python() -> None:
    assert examine()[0] == Finding(
        topic="flowkit",
        level="ok",
        text=f"{__version__} on Python {sys.version.split()[0]} ({sys.executable})",
    )


def test_every_required_package_is_there_with_its_version() -> None:
    assert texts("package", "problem") == []
    found = texts("package", "ok")
    for name in ("numpy", "h5py", "joblib", "click", "tqdm", "jinja2"):
        assert found.count(f"{name} {importlib.metadata.version(name)}") == 1


def test_a_missing_package_is_a_problem_only_where_flowkit_needs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    real = importlib.metadata.version

    def without(name: str) -> str:
        if name in ("joblib", "simplejpeg", "torch"):
            raise importlib.metadata.PackageNotFoundError(name)
        return real(name)

    monkeypatch.setattr(importlib.metadata, "version", without)
    assert texts("package", "problem") == ["joblib is not installed"]
    # torch is for training: without it nothing of flowkit is slower or missing.
    assert texts("package", "note") == ["simplejpeg is not installed"]


def test_two_wheels_of_opencv_are_a_problem_with_its_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, version in (("opencv_python", "1.0"), ("opencv_contrib_python", "2.0")):
        folder = tmp_path / f"{name}-{version}.dist-info"
        folder.mkdir()
        (folder / "METADATA").write_text(
            f"Metadata-Version: 2.1\nName: {name.replace('_', '-')}\nVersion: {version}\n"
        )
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    (problem,) = texts("OpenCV", "problem")
    assert "wheels overwrite each other's files: " in problem
    assert "opencv-contrib-python 2.0, " in problem
    assert "opencv-python 1.0" in problem
    assert problem.endswith("`pip uninstall` all of them, then install opencv-contrib-python-headless alone")


def test_an_opencv_without_its_contrib_modules_is_a_note(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(cv2, "optflow", raising=False)
    (note,) = texts("OpenCV", "note")
    assert "cv2.optflow is missing" in note
    assert "opencv-contrib-python-headless" in note


def test_an_opencv_that_does_not_import_is_a_problem_and_the_report_goes_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "cv2", None)
    report = examine()
    problems = [finding.text for finding in report if finding.level == "problem"]
    assert [text for text in problems if text.startswith("cv2 does not import: ")]
    assert {"decoder", "TV-L1", "GPU"} <= {finding.topic for finding in report}


def test_videos_are_read_with_ffmpeg_or_else_opencv_is_noted(monkeypatch: pytest.MonkeyPatch) -> None:
    (ffmpeg,) = texts("FFmpeg", "ok")
    assert [part.split(" ")[0] for part in ffmpeg.split(", ")] == [
        "libavcodec",
        "libavformat",
        "libswscale",
    ]
    assert [text.partition(":")[0] for text in texts("decoder", "ok")] == ["av"]
    monkeypatch.setitem(sys.modules, "av", None)
    monkeypatch.setitem(sys.modules, "flowkit.video.pyav", None)
    assert [text.partition(":")[0] for text in texts("decoder", "note")] == ["opencv"]
    assert texts("decoder", "ok") == texts("FFmpeg") == []


def test_every_engine_has_its_line_and_auto_its_choice() -> None:
    lines = texts("TV-L1")
    assert [line.partition(":")[0] for line in lines[:-1]] == [
        name for name in get_args(BackendName) if name != "auto"
    ]
    assert lines[-1] == f"auto takes {choose_backend('auto').reason}"


def test_an_engine_that_cannot_run_is_a_note_with_its_cause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(cv2, "optflow", raising=False)
    assert len([text for text in texts("TV-L1", "note") if text.startswith("opencv: ")]) == 1
    assert not any(text.startswith("opencv: ") for text in texts("TV-L1", "ok"))


def test_each_gpu_has_a_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install_fake_driver(
        tmp_path,
        monkeypatch,
        '[ "$1" = "--query-gpu=name,memory.total,driver_version,compute_cap" ] || exit 3\n'
        "echo 'A, 1 MiB, 500, 8.0'; echo 'B, 2 MiB, 500, 9.0'",
    )
    assert texts("GPU") == texts("GPU", "ok") == ["A, 1 MiB, 500, 8.0", "B, 2 MiB, 500, 9.0"]


def test_a_driver_that_fails_is_a_problem(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install_fake_driver(tmp_path, monkeypatch, "exit 9")
    (problem,) = texts("GPU")
    assert [problem] == texts("GPU", "problem")
    assert problem.startswith("nvidia-smi fails: ")
    assert "exit status 9" in problem


def test_a_machine_without_a_driver_is_a_note(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert texts("GPU") == texts("GPU", "note") == ["no nvidia-smi: no NVIDIA driver on this machine"]


@needs_compiler
def test_each_gpu_is_tested_and_only_the_one_that_fails_is_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(check, "_SIZE", (24, 32))
    broken = FakeGpu(index=1, faults=[Fault(kind="status", kernel="flowkit_tile")])
    install(monkeypatch, FakeGpu(), broken)
    found = examine_gpus()
    assert [finding.level for finding in found] == ["ok"] * 13 + ["problem"]
    assert found[0].text.startswith(
        "0: Emulated GPU, compute capability 7.5, 2 processors, driver for CUDA 13"
    )
    assert "0: flowkit_tile, 512 threads a block: 127 registers" in found[2].text
    assert "0: flowkit_weighted_median, 256 threads" in found[5].text
    assert "px of the twin, with equal iterations" in found[6].text
    assert "1: GPU 1 (Emulated GPU) failed: cudaErrorIllegalAddress" in found[-1].text


def test_a_machine_without_cupy_or_driver_is_a_problem_of_its_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cupy", None)
    (finding,) = examine_gpus()
    assert (finding.level, finding.topic) == ("problem", "GPU")
    assert "cupy does not import" in finding.text
    cupy = make_module(FakeGpu())
    monkeypatch.setitem(sys.modules, "cupy", cupy)

    def no_driver() -> int:
        raise cupy.cuda.runtime.CUDARuntimeError(35)

    monkeypatch.setattr(cupy.cuda.runtime, "getDeviceCount", no_driver)
    (finding,) = examine_gpus()
    assert "cudaErrorInsufficientDriver" in finding.text


def test_the_command_tests_gpus_only_if_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cupy", None)
    runner = CliRunner()
    assert runner.invoke(flowkit_cli.group, ["doctor"]).exit_code == 0
    done = runner.invoke(flowkit_cli.group, ["doctor", "--gpu"])
    assert done.exit_code == 1
    assert "PROBLEM GPU" in done.output
    assert "cupy does not import" in done.output
