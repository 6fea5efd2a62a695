"""From a plan to files: videos, true flow and the index of a synthetic set."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, fields
from fractions import Fraction
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import av
import cv2
import numpy as np
from numpy.typing import NDArray

from flowkit.errors import InputError, VideoError
from flowkit.flow_files.flo import write_flo
from flowkit.synth.plan import SynthClip, SynthConfig, plan_clips
from flowkit.synth.scene import Scene, build_scene
from flowkit.validate import check_at_least

Frames = Iterable[NDArray[np.uint8]]

_FOURCC = {"mpeg4": "XVID", "mjpeg": "MJPG"}


def make_dataset(
    dest: Path | str,
    config: SynthConfig,
    progress: Callable[[int, int], object] | None = None,
    *,
    jobs: int = 1,
) -> list[SynthClip]:
    """Write a labelled set of real video files.

    The folder gets `<label>/<label>_gNN_cNNN.avi` (or .mp4), with `config.ground_truth` also
    `<label>/<label>_gNN_cNNN.flow/00000.flo` and on, and last of all `index.csv`, one row per clip
    with the fields of `SynthClip`.

    Parameters
    ----------
    dest
        Folder to make; it must be new or empty.
    config
        Settings of the set.
    progress
        Called with (clips done, clips in all) after each clip.
    jobs
        Processes to use. The files do not depend on it.

    Returns
    -------
    list of SynthClip
        The rows of index.csv.

    Raises
    ------
    InvalidParameterError
        `jobs` is below 1.
    InputError
        `dest` is a file, or a folder that is not empty.
    VideoError
        A video cannot be written.
    """
    check_at_least("jobs", jobs, 1)
    folder = _empty_folder(Path(dest))
    clips = plan_clips(config)
    for label in {clip.label for clip in clips}:
        (folder / label).mkdir()
    for done, _ in enumerate(_written(folder, config, clips, jobs), start=1):
        if progress is not None:
            progress(done, len(clips))
    _write_index(folder / "index.csv", clips)
    return clips


def _empty_folder(folder: Path) -> Path:
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(f"{folder} must be a new or empty folder, and holds files: choose another")
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _written(folder: Path, config: SynthConfig, clips: list[SynthClip], jobs: int) -> Iterator[None]:
    write = partial(write_clip, folder, config)
    if jobs == 1:
        yield from map(write, clips)
        return
    # Spawned, not forked: a fork copies the locks of OpenCV's threads without the threads.
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
        yield from pool.map(write, clips, chunksize=8)


def write_clip(folder: Path, config: SynthConfig, clip: SynthClip) -> None:
    """Render one clip into `folder`, whose subfolder for the label exists.

    Raises
    ------
    VideoError
        The video cannot be written.
    """
    scene = build_scene(clip, config)
    path = folder / clip.path
    images = (scene.frame(index) for index in range(len(scene)))
    if config.codec == "h264":
        _write_h264(path, images, config)
    else:
        _write_opencv(path, images, config)
    if config.ground_truth:
        _write_ground_truth(path.with_suffix(".flow"), scene)


def _write_opencv(path: Path, images: Frames, config: SynthConfig) -> None:
    fourcc = cv2.VideoWriter.fourcc(*_FOURCC[config.codec])
    writer = cv2.VideoWriter(str(path), fourcc, config.fps, (config.width, config.height))
    if not writer.isOpened():
        raise VideoError(f"cannot write {path} as {config.codec}: is the folder writable? try codec h264")
    try:
        for image in images:
            writer.write(image[..., ::-1])
    finally:
        writer.release()


def _write_h264(path: Path, images: Frames, config: SynthConfig) -> None:
    try:
        with av.open(str(path), "w") as container:
            rate = Fraction(config.fps).limit_denominator(1001)
            stream = container.add_stream("libx264", rate=rate, options={"crf": "15", "preset": "veryfast"})
            stream.width, stream.height, stream.pix_fmt = config.width, config.height, "yuv420p"
            # One thread: the same file on every machine, and tiny frames gain nothing from more.
            stream.thread_count = 1
            for image in images:
                container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
            container.mux(stream.encode(None))
    except av.FFmpegError as error:
        raise VideoError(f"cannot write {path} as h264: {error}; try codec mpeg4") from error


def _write_ground_truth(folder: Path, scene: Scene) -> None:
    folder.mkdir()
    for index in range(len(scene) - 1):
        write_flo(folder / f"{index:05d}.flo", scene.flow(index))


def _write_index(path: Path, clips: list[SynthClip]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        table = csv.DictWriter(file, [field.name for field in fields(SynthClip)], lineterminator="\n")
        table.writeheader()
        table.writerows(asdict(clip) for clip in clips)
