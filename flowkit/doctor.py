"""The installation: versions, the choices of "auto" and their reasons, problems."""

from __future__ import annotations

import dataclasses
import importlib
import importlib.metadata
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Iterable
from typing import Literal

from flowkit.errors import BackendError
from flowkit.jpeg import library as jpeg_library
from flowkit.store.codecs.deflate import deflate_library
from flowkit.tvl1.backend import available_backends, choose_backend
from flowkit.video.reader import default_decoder

_REQUIRED = ("numpy", "h5py", "joblib", "click", "tqdm", "jinja2")
_OPTIONAL = ("av", "deflate", "simplejpeg", "torch", "torchvision", "cupy", "distributed")


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Finding:
    """One line of the report; "note" is that it works, with less."""

    topic: str
    level: Literal["ok", "note", "problem"]
    text: str


def examine() -> list[Finding]:
    """Return the facts of this installation, problems included."""
    return [
        *_platform(),
        *_packages(),
        *_opencv(),
        *_decoding(),
        *_backends(),
        *_gpu(),
    ]


def examine_gpus() -> list[Finding]:
    """Return what a test of every GPU finds: driver, kernels as loaded, one pair against the twin.

    About ten seconds for each GPU the first time, when the kernels are compiled. Without cupy, driver
    or GPU one problem says so.
    """
    from flowkit.tvl1.cuda.device import count_gpus

    try:
        return [finding for gpu in range(count_gpus()) for finding in _examine_gpu(gpu)]
    except BackendError as error:
        return [_gpu_problem(str(error))]


def _examine_gpu(gpu: int) -> Iterable[Finding]:
    from flowkit.tvl1.cuda import check
    from flowkit.tvl1.cuda.device import open_device

    try:
        device = open_device(gpu)
        capability = f"{device.capability // 10}.{device.capability % 10}"
        driver = device.cupy.cuda.runtime.driverGetVersion()
        yield _ok(
            "GPU",
            f"{gpu}: {device.name}, compute capability {capability}, {device.processors} processors, "
            f"driver for CUDA {driver // 1000}.{driver % 1000 // 10}, cupy {device.cupy.__version__}",
        )
        for kernel in check.kernel_resources(device):
            unit = "clusters a GPU" if kernel.name == "flowkit_cluster" else "blocks a processor"
            yield Finding(
                topic="GPU",
                level="ok" if kernel.resident else "note",
                text=f"{gpu}: {kernel.name}, {kernel.threads} threads a block: {kernel.registers} registers, "
                f"{kernel.spilled_bytes} bytes spilled, {kernel.shared_bytes} bytes shared; "
                f"{kernel.resident} {unit}",
            )
        found = check.compare_with_twin(gpu)
        iterations = "equal" if found.iterations_equal else "other"
        text = f"{gpu}: one pair is within {found.max_px:.1e} px of the twin, with {iterations} iterations"
        yield _ok("GPU", text) if found.good else _gpu_problem(f"{text}; expected {check.AGREEMENT_PX} px")
    except BackendError as error:
        yield _gpu_problem(f"{gpu}: {error}")


def _gpu_problem(text: str) -> Finding:
    return Finding(topic="GPU", level="problem", text=text)


def _platform() -> Iterable[Finding]:
    from flowkit._version import __version__

    cores = len(os.sched_getaffinity(0))
    yield _ok("flowkit", f"{__version__} on Python {platform.python_version()} ({sys.executable})")
    yield _ok("machine", f"{platform.platform()}, {cores} usable cores of {os.cpu_count()}")


def _packages() -> Iterable[Finding]:
    for name in _REQUIRED:
        yield _package(name, missing="problem")
    for name in _OPTIONAL:
        if name in ("av", "deflate", "simplejpeg") or _version(name):
            yield _package(name, missing="note")
    import h5py

    yield _ok("HDF5", h5py.version.hdf5_version)
    yield _ok("JPEG", jpeg_library())
    yield _ok("deflate", deflate_library())


def _package(name: str, *, missing: Literal["note", "problem"]) -> Finding:
    version = _version(name)
    if version:
        return _ok("package", f"{name} {version}")
    return Finding(topic="package", level=missing, text=f"{name} is not installed")


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return ""


def _opencv() -> Iterable[Finding]:
    wheels = sorted(
        f"{dist.name} {dist.version}"
        for dist in importlib.metadata.distributions()
        if (dist.name or "").lower().replace("_", "-").startswith("opencv-")
    )
    if len(set(wheels)) > 1:
        yield Finding(
            topic="OpenCV",
            level="problem",
            text=f"{len(wheels)} wheels overwrite each other's files: {', '.join(wheels)}; "
            "`pip uninstall` all of them, then install opencv-contrib-python-headless alone",
        )
    try:
        import cv2
    except ImportError as error:
        yield Finding(topic="OpenCV", level="problem", text=f"cv2 does not import: {error}")
        return
    yield _ok("OpenCV", f"{cv2.__version__} from {', '.join(wheels) or 'outside pip'}")
    if not hasattr(cv2, "optflow"):
        yield Finding(
            topic="OpenCV",
            level="note",
            text="cv2.optflow is missing, so the opencv backend is too: the contrib wheel has it "
            "(opencv-contrib-python-headless)",
        )


def _decoding() -> Iterable[Finding]:
    decoder, reason = default_decoder()
    yield Finding(topic="decoder", level="ok" if decoder == "av" else "note", text=f"{decoder}: {reason}")
    try:
        av = importlib.import_module("av")
    except ImportError:
        return
    versions = {name: ".".join(map(str, number)) for name, number in av.library_versions.items()}
    names = ("libavcodec", "libavformat", "libswscale")
    yield _ok("FFmpeg", ", ".join(f"{name} {versions[name]}" for name in names if name in versions))


def _backends() -> Iterable[Finding]:
    for status in available_backends():
        yield Finding(
            topic="TV-L1",
            level="ok" if status.available else "note",
            text=f"{status.name}: {status.reason}",
        )
    choice = choose_backend("auto")
    yield _ok("TV-L1", f"auto takes {choice.reason}")


def _gpu() -> Iterable[Finding]:
    command = shutil.which("nvidia-smi")
    if command is None:
        yield Finding(topic="GPU", level="note", text="no nvidia-smi: no NVIDIA driver on this machine")
        return
    query = [command, "--query-gpu=name,memory.total,driver_version,compute_cap", "--format=csv,noheader"]
    try:
        done = subprocess.run(query, capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError) as error:
        yield Finding(topic="GPU", level="problem", text=f"nvidia-smi fails: {error}")
        return
    for line in done.stdout.splitlines():
        yield _ok("GPU", line)


def _ok(topic: str, text: str) -> Finding:
    return Finding(topic=topic, level="ok", text=text)
