"""Features of stores' clips and of raw videos, one clip after another.

for one in features([Path("one.mp4")], FeatureOptions(window=16, stride=8)):
    ...  # a VideoFeatures, or the Failure of one video
"""

from __future__ import annotations

import contextlib
import dataclasses
import shutil
import tempfile
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

import flowkit
from flowkit.datasets.windows import frames_seconds
from flowkit.errors import InputError, StoreCorruptError
from flowkit.executor import Executor
from flowkit.extraction.config import ExtractConfig
from flowkit.extraction.sources import VideoSource
from flowkit.remote import Location
from flowkit.store.read.store import Store
from flowkit.store.record import Failure, check_id_set
from gating.backbone_features.compute import Features, row_features
from gating.backbone_features.networks import FeatureNetworks, feature_networks, feature_settings
from gating.backbone_features.options import FeatureOptions
from gating.backbone_features.rows import ClipExtent, rows_of
from gating.compatibility import check_store_fits, extract_config
from gating.distributed import join_process_group
from gating.prediction import is_store

# Raw videos that are extracted together: as many cores as there are have work, and the store stays small.
_GROUP_VIDEOS, _GROUP_BYTES = 64, 200 << 20
# And for each worker of an executor, of which a cluster may have hundreds.
_WORKER_VIDEOS, _WORKER_BYTES = 4, 16 << 20
# Of streams that read no flow, which a store has all the same.
_QUICKEST_METHOD = "dis/ultrafast"


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class VideoFeatures:
    """The features of one clip, in T rows.

    Attributes
    ----------
    video_id, source, label : str
        The clip, the store or the video that it comes from, and its class, "" where none is known.
    times : NDArray
        float64 (T, 2), s: when the first frame of each row starts and when its last one ends.
    ranges : tuple of range
        The frames that each row stands for.
    frames : NDArray or None
        int64 (T, n), the frames that were read; None without stream rgb.
    fields : NDArray or None
        int64 (T, m, L), the flow fields that were read; None without stream flow.
    rgb, flow : NDArray or None
        float32 (T, D), pooled features; None of a stream that was not run.
    """

    video_id: str
    source: str
    label: str
    times: NDArray[np.float64]
    ranges: tuple[range, ...]
    frames: NDArray[np.int64] | None
    fields: NDArray[np.int64] | None
    rgb: Features | None
    flow: Features | None


class FeatureRun:
    """Inputs that are open, and networks: one pass over the clips that are asked for.

    Attributes
    ----------
    settings : dict
        All that decides features but for the clips, as plain values.
    ids : tuple of str
        Of the clips, in order.
    """

    def __init__(
        self,
        stores: Sequence[Store],
        sources: Sequence[VideoSource],
        networks: FeatureNetworks,
        options: FeatureOptions,
        device: torch.device,
    ) -> None:
        self._stores, self._networks, self._options, self._device = stores, networks, options, device
        self._sources = [one for one in sources if not options.ids or one.video_id in options.ids]
        self.settings: dict[str, Any] = feature_settings(options, networks)
        clips = [
            (k, str(store.path)) for store in stores for k in store if not options.ids or k in options.ids
        ]
        clips += [(one.video_id, str(one.path)) for one in self._sources]
        self.ids = tuple(k for k, _ in clips)
        _check_ids(self.ids, options.ids)
        check_id_set(dict(clips))

    def videos(self, known: Collection[str] = ()) -> list[VideoSource]:
        """Return the raw videos but those of the ids `known`."""
        left = set(self.ids) - set(known)
        return [one for one in self._sources if one.video_id in left]

    def outcomes(
        self, known: Collection[str] = (), *, executor: Executor | None = None
    ) -> Iterator[VideoFeatures | Failure]:
        """Yield the features of each clip but those of the ids `known`, or its failure.

        Parameters
        ----------
        known : collection of str
        executor : Executor, optional
            Extracts raw videos; default: `jobs` processes of this machine.
        """
        wanted = set(self.ids) - set(known)
        for store in self._stores:
            yield from self._of_store(store, wanted, sources={})
        workers = executor.jobs if executor is not None else 0
        for group in _groups(self.videos(known), workers):
            yield from self._of_videos(group, executor)

    def _of_store(
        self, store: Store, wanted: Collection[str], sources: dict[str, str]
    ) -> Iterator[VideoFeatures | Failure]:
        for video_id in store:
            if video_id in wanted:
                try:
                    yield self._of_clip(store, video_id, sources.get(video_id, str(store.path)))
                except StoreCorruptError as error:
                    yield Failure(source=video_id, reason="corrupt", detail=str(error), video_id=video_id)

    def _of_clip(self, store: Store, video_id: str, source: str) -> VideoFeatures | Failure:
        clip, config, modalities = store[video_id], self._networks.config, self._options.modalities
        if clip.n_flow < 1 and "flow" in modalities:
            detail = "the clip has no flow field"
            return Failure(source=video_id, reason="too_short", detail=detail, video_id=video_id)
        extent = ClipExtent(n_frames=clip.n_frames, n_flow=clip.n_flow, step=store.options.step)
        rows = rows_of(extent, self._options, stack=config.stack, short=config.short)
        made = row_features(store, clip, rows, self._networks, self._device)
        pts = clip.pts
        return VideoFeatures(
            video_id=video_id,
            source=source,
            label=clip.label,
            times=np.array([frames_seconds(pts, one) for one in rows.ranges]),
            ranges=rows.ranges,
            frames=rows.frames if "rgb" in modalities else None,
            fields=rows.stacks if "flow" in modalities else None,
            rgb=made.get("rgb"),
            flow=made.get("flow"),
        )

    def _of_videos(
        self, sources: Sequence[VideoSource], executor: Executor | None
    ) -> Iterator[VideoFeatures | Failure]:
        """Extract videos into a temporary store, and yield the features of each."""
        options = self._options
        names = {source.video_id: source.name for source in sources}
        with _scratch_folder(options.scratch) as folder:
            path = folder / "clips.h5"
            report = flowkit.extract(
                sources,
                path,
                config=self._extract_config(),
                on_progress=options.on_progress,
                executor=executor,
            )
            for outcome in report.outcomes:
                for warning in outcome.warnings:
                    options.on_note(f"{outcome.source}: {warning}")
            yield from report.failures
            if path.is_file():
                with flowkit.open(path) as store:
                    yield from self._of_store(store, names, names)

    def _extract_config(self) -> ExtractConfig:
        options, record = self._options, self._networks.record
        config = ExtractConfig() if record is None else extract_config(record)
        if options.jobs is not None:
            config = dataclasses.replace(config, jobs=options.jobs)
        if options.fps is not None:
            config = dataclasses.replace(config, fps=options.fps)
        if options.streams == "rgb":
            config = dataclasses.replace(
                config, method=_QUICKEST_METHOD, params=None, more_fields=(), backward=False
            )
        return dataclasses.replace(config, frame_codec="none") if options.streams == "flow" else config


@contextlib.contextmanager
def open_run(inputs: Sequence[Location], options: FeatureOptions) -> Iterator[FeatureRun]:
    """Yield the pass over inputs; stores are open and networks loaded while the `with` block runs.

    Raises
    ------
    CheckpointError, WeightsError, WeightsUnavailableError
        As `feature_networks`.
    InputError
        An input does not exist, has none of the ids, two have one id, or a store does not fit.
    """
    if options.threads is not None:
        torch.set_num_threads(options.threads)
    stores = [path for path in inputs if is_store(path)]
    videos = [path for path in inputs if isinstance(path, Path) and path not in stores]
    with contextlib.ExitStack() as stack:
        opened = [stack.enter_context(flowkit.open(path)) for path in stores]
        sources = flowkit.find_sources(videos, keep_suffix=options.keep_suffix) if videos else []
        process_group = stack.enter_context(join_process_group(options.device))
        networks = feature_networks(options, process_group.device)
        for store in opened:
            _check_store(store, networks, options)
        yield FeatureRun(opened, sources, networks, options, process_group.device)


def features(
    inputs: Sequence[Location], options: FeatureOptions, *, executor: Executor | None = None
) -> Iterator[VideoFeatures | Failure]:
    """Yield the features of each clip of stores and of each raw video.

    Raw videos are extracted into a temporary store, by the settings of the run's store or `flowkit extract`'s
    defaults; nothing is written beside them.

    Parameters
    ----------
    inputs
        Stores, videos, folders of videos.
    options
        Rows of a clip, networks, clips and device.
    executor
        Extracts raw videos; default: `options.jobs` processes of this machine.

    Yields
    ------
    VideoFeatures or Failure
        A video that cannot be extracted, or a clip that cannot be read, is a Failure; the others go on.

    Raises
    ------
    CheckpointError, WeightsError, WeightsUnavailableError
        The run has not finished, or weights are absent or do not fit.
    InputError
        An input does not exist, has none of the ids, two have one id, or a store does not fit.
    """
    with open_run(inputs, options) as run:
        yield from run.outcomes(executor=executor)


def _check_ids(ids: Sequence[str], asked: Sequence[str]) -> None:
    seen: set[str] = set()
    twice = [k for k in ids if k in seen or seen.add(k)]  # type: ignore[func-returns-value]
    if twice:
        raise InputError(f"two inputs have the clips {twice[:5]}; features are kept by id: take one of them")
    if missing := [k for k in asked if k not in seen]:
        raise InputError(f"no input has the clips {missing[:5]}; `flowkit info STORE` lists a store's ids")


def _check_store(store: Store, networks: FeatureNetworks, options: FeatureOptions) -> None:
    if networks.record is not None:
        for note in check_store_fits(networks.record, store):
            options.on_note(note)
    if options.fps is not None:
        raise InputError(
            f"fps {options.fps:g} is for raw videos, got the store {store.path}; "
            "leave it out, or extract that store again with --fps"
        )
    names = [field.name for field in store.options.fields]
    if "flow" in options.modalities and networks.config.field not in names:
        raise InputError(f"{store.path} has no flow field {networks.config.field!r}, got {names}")
    if "rgb" in options.modalities and store.options.frame_codec == "none":
        raise InputError(f"{store.path} keeps no frames (--frames none); ask for --streams flow")


def _groups(sources: Sequence[VideoSource], workers: int) -> Iterator[list[VideoSource]]:
    """Yield the videos in groups that are extracted together."""
    most_videos = max(_GROUP_VIDEOS, _WORKER_VIDEOS * workers)
    most_bytes = max(_GROUP_BYTES, _WORKER_BYTES * workers)
    group: list[VideoSource] = []
    size = 0
    for source in sources:
        own = source.path.stat().st_size if source.path.is_file() else 0
        if group and (len(group) == most_videos or size + own > most_bytes):
            yield group
            group, size = [], 0
        group.append(source)
        size += own
    if group:
        yield group


@contextlib.contextmanager
def _scratch_folder(folder: Path | None) -> Iterator[Path]:
    """Yield the folder of a temporary store; it is removed unless an error or Ctrl-C ends its use."""
    if folder is None:
        with tempfile.TemporaryDirectory(prefix="flowkit-features-") as made:
            yield Path(made)
        return
    own = folder / "extracted"
    own.mkdir(parents=True, exist_ok=True)
    yield own
    shutil.rmtree(own)
