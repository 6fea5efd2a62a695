"""Other optical flow on the same GPU at the same size, where its package is there."""

from __future__ import annotations

import contextlib
import functools
import importlib
import importlib.util
import itertools
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from benchmarks.cuda_timing import STOPS, tried
from benchmarks.cuda_workload import Workload, images_and_pairs, size_name
from benchmarks.record import JsonObject
from flowkit.tvl1.cuda.plan import Size

REPEATS = 3
RAFT_UPDATES = 12
"""torchvision's default: the iterations of a pair."""

_RAFT_PAIRS = 16
_OPENCV_PAIRS = 16


def baseline_opencv(workload: Workload) -> Iterator[JsonObject]:
    """Time OpenCV's CUDA TV-L1 with the preset's own parameters, frames on the device."""
    cv2: Any = importlib.import_module("cv2")
    module = getattr(cv2, "cuda", None)
    if module is None or not module.getCudaEnabledDeviceCount():
        yield {"absent": f"OpenCV {cv2.__version__} here is built without CUDA"}
        return
    for stop, forced in STOPS.items():
        label = {"baseline": "cv2.cuda.OpticalFlowDual_TVL1", "size": size_name(workload.size), "stop": stop}
        yield tried(label, functools.partial(_time_opencv, cv2, workload, forced))


def _time_opencv(cv2: Any, workload: Workload, forced: bool) -> JsonObject:
    params = workload.params(forced=forced)
    solver = cv2.cuda.OpticalFlowDual_TVL1_create(
        *(params.tau, params.lambda_, params.theta, params.nscales, params.warps),
        *(params.epsilon, params.iterations, params.scale_step),
    )
    images, _ = images_and_pairs(workload.size, _OPENCV_PAIRS)
    frames = [cv2.cuda.GpuMat(image) for image in images]
    stream = cv2.cuda.Stream_Null()

    def work() -> None:
        for first, second in itertools.pairwise(frames):
            solver.calc(first, second, None)
        stream.waitForCompletion()

    return {**_rates(work, len(frames) - 1), "iterations_per_pair": "not reported by OpenCV"}


def baseline_raft(workload: Workload) -> Iterator[JsonObject]:
    """Time torchvision's RAFT with random weights: speed alone, single and half precision."""
    missing = [name for name in ("torch", "torchvision") if importlib.util.find_spec(name) is None]
    if missing:
        yield {"absent": f"{', '.join(missing)} not installed"}
        return
    torch: Any = importlib.import_module("torch")
    if not torch.cuda.is_available():
        yield {"absent": f"torch {torch.__version__} sees no GPU"}
        return
    models: Any = importlib.import_module("torchvision.models.optical_flow")
    for name in ("raft_small", "raft_large"):
        model = getattr(models, name)(weights=None, progress=False)
        yield from time_raft(name, model, workload.size, device="cuda")


def time_raft(name: str, model: Any, size: Size, *, device: str) -> Iterator[JsonObject]:
    """Time a model that takes two batches of images and `num_flow_updates`."""
    torch: Any = importlib.import_module("torch")
    model = model.to(device).eval()
    images, rows = images_and_pairs(size, _RAFT_PAIRS)
    batch = torch.from_numpy(images[rows]).to(device).float().unsqueeze(2).expand(-1, -1, 3, -1, -1)
    first, second = (batch / 127.5 - 1).unbind(1)
    for precision in ("float32", "autocast to float16", "autocast to bfloat16"):
        label = {"baseline": f"torchvision {name}, random weights", "size": size_name(size)}
        work = functools.partial(_run_raft, torch, model, (first, second), precision)
        yield tried({**label, "precision": precision}, functools.partial(_time_raft, work, len(rows)))


def _time_raft(work: Callable[[], object], pairs: int) -> JsonObject:
    return {**_rates(work, pairs), "iterations_per_pair": RAFT_UPDATES}


def _run_raft(torch: Any, model: Any, images: tuple[Any, Any], precision: str) -> None:
    device = images[0].device.type
    half: Any = contextlib.nullcontext()
    if precision != "float32":
        half = torch.autocast(device, dtype=getattr(torch, precision.split()[-1]))
    with torch.inference_mode(), half:
        model(*images, num_flow_updates=RAFT_UPDATES)
    if device == "cuda":
        torch.cuda.synchronize()


def baseline_hardware(workload: Workload) -> Iterator[JsonObject]:
    """Time the GPU's optical flow engine through NVIDIA's VPI, and through OpenCV."""
    label = {"size": size_name(workload.size)}
    if importlib.util.find_spec("vpi") is None:
        yield {"absent": "NVIDIA's package vpi is not installed"}
    else:
        yield tried({"baseline": "vpi.optflow_dense, OFA", **label}, functools.partial(_time_vpi, workload))
    cv2: Any = importlib.import_module("cv2")
    if not hasattr(getattr(cv2, "cuda", None), "NvidiaOpticalFlow_2_0_create"):
        yield {"absent": f"OpenCV {cv2.__version__} here has no cv2.cuda.NvidiaOpticalFlow_2_0"}
    else:
        baseline = {"baseline": "cv2.cuda.NvidiaOpticalFlow_2_0", **label}
        yield tried(baseline, functools.partial(_time_nvidia_of_opencv, cv2, workload))


def _time_vpi(workload: Workload) -> JsonObject:
    vpi: Any = importlib.import_module("vpi")
    images, _ = images_and_pairs(workload.size, _OPENCV_PAIRS)
    frames = [vpi.asimage(image, vpi.Format.Y8_ER) for image in images]

    def work() -> None:
        made = [
            vpi.optflow_dense(*pair, quality=vpi.OptFlowQuality.HIGH, backend=vpi.Backend.OFA)
            for pair in itertools.pairwise(frames)
        ]
        made[-1].cpu()

    return {**_rates(work, len(frames) - 1), "grid": "4x4 px a vector"}


def _time_nvidia_of_opencv(cv2: Any, workload: Workload) -> JsonObject:
    images, _ = images_and_pairs(workload.size, _OPENCV_PAIRS)
    height, width = workload.size
    solver = cv2.cuda.NvidiaOpticalFlow_2_0_create((width, height))
    frames = [cv2.cuda.GpuMat(image) for image in images]

    def work() -> None:
        for first, second in itertools.pairwise(frames):
            solver.calc(first, second, None)

    return _rates(work, len(frames) - 1)


def _rates(work: Callable[[], object], pairs: int) -> JsonObject:
    """Time work that waits for its own end, after one run to warm up."""
    work()
    seconds = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - start)
    return {"pairs": pairs, "seconds": seconds, "pairs_per_second": pairs / float(np.median(seconds))}
