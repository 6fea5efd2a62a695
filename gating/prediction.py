"""Classes of stored clips or raw videos by a finished trial, with the weights that its gate gave.

for outcome in predict([Path("one.mp4")], Path("runs/ucf101"), PredictOptions()):
    ...  # a Prediction, or the Failure of one video
"""

from __future__ import annotations

import contextlib
import dataclasses
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import cast, get_args

import numpy as np
import torch

import flowkit
from flowkit.datasets.windows import Window, WindowedStore, frame_windows, frames_seconds
from flowkit.errors import InputError, StoreCorruptError
from flowkit.executor import Executor
from flowkit.extraction.config import ExtractConfig
from flowkit.extraction.sources import VideoSource
from flowkit.extraction.store_run import VideoOutcome
from flowkit.jobs import Progress
from flowkit.remote import Location, RemotePath
from flowkit.store.read.store import Store
from flowkit.store.record import Failure
from flowkit.validate import check_choice, check_integer, check_range, check_that
from gating.compatibility import check_store_fits, extract_config, is_imported, with_stated_flow
from gating.config import MAX_SEGMENTS, CropCount, LoaderConfig
from gating.data.loader import ClipLoader
from gating.data.partition import TrialData, flow_record
from gating.distributed import ProcessGroup, join_process_group
from gating.evaluation.scores import ClipScores, score_clips
from gating.load import ChosenFusion, LoadedTrial, choose_fusion, find_trial, load_networks
from gating.run_folder import TrialRecord

_HDF5_SIGNATURE = b"\x89HDF\r\n\x1a\n"
# Clips, or windows, that are scored before the first of them is yielded.
_AT_ONCE = 64


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Prediction:
    """The prediction of a trial for one clip.

    Attributes
    ----------
    video_id, source : str
        The clip, and the store or the video that it comes from.
    label : str
        Its label, where that is one of the classes; else "".
    classes : tuple of str
        The `PredictOptions.top` most probable ones, best first.
    probabilities : tuple of float
        Of these, [0, 1].
    weights : (float, float) or None
        Of flow and rgb, >= 0; None where the fusion has no such pair.
    fallback : bool
        Both of the fusion's own weights were zero, and these are the fixed ones.
    first_frame, last_frame : int or None
        Of a window: its first and last frames, counted from 0 in the clip as it is stored; else None.
    start, end : float or None
        Of a window: the times at which these begin and end, s; else None.
    """

    video_id: str
    source: str
    label: str
    classes: tuple[str, ...]
    probabilities: tuple[float, ...]
    weights: tuple[float, float] | None
    fallback: bool = False
    first_frame: int | None = None
    last_frame: int | None = None
    start: float | None = None
    end: float | None = None


Outcome = Prediction | Failure


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class PredictOptions:
    """Options of `predict`.

    Parameters
    ----------
    ids : tuple of str
        Only these clips; empty is all.
    top : int
        Classes of a prediction, >= 1.
    segments : int or None
        Of each clip, >= 1; None is as the trial was tested.
    crops : {1, 5, 10} or None
        Of each segment; None is as the trial was tested.
    window : int or None
        Frames of each window of a clip, >= 1, of which each is predicted as a clip of these frames would be;
        None predicts whole clips.
    stride : int or None
        Frames from the start of a window to that of the next, >= 1; None is `window`. The last window is the
        last that fits wholly; a clip with fewer frames than a window is one.
    device : str
        "auto", "cpu", "cuda" or "cuda:N".
    threads : int or None
        Of torch in this process; None leaves them as they are.
    loader : LoaderConfig
        Workers and micro-batches.
    flow_like : Path, RemotePath or None
        Of a trial on imported flow: a store that `flowkit extract` made as that flow was made, by your word.
        Raw videos are extracted as it was, and stores are to fit it, or to be imported as the trial's.
    keep_suffix : bool
        Keep the suffix of a raw video's file in its id.
    jobs : int or None
        Processes that extract raw videos; None is one a core.
    executor : Executor or None
        Extracts them instead of `jobs` processes.
    on_note : callable
        Called with notes that stop nothing: the trial, its fusion, differences of a store.
    on_progress : callable
        Called with the progress of an extraction.
    """

    ids: tuple[str, ...] = ()
    top: int = 5
    segments: int | None = None
    crops: CropCount | None = None
    window: int | None = None
    stride: int | None = None
    device: str = "auto"
    threads: int | None = None
    loader: LoaderConfig = dataclasses.field(default_factory=LoaderConfig)
    flow_like: Location | None = None
    keep_suffix: bool = False
    jobs: int | None = None
    executor: Executor | None = None
    on_note: Callable[[str], None] = lambda _: None
    on_progress: Callable[[Progress[VideoOutcome]], None] = lambda _: None

    def __post_init__(self) -> None:
        """Check the ranges of numbers."""
        check_integer("top", self.top, 1)
        if self.segments is not None:
            check_integer("segments", self.segments, 1)
            check_range("segments", self.segments, 1, MAX_SEGMENTS)
        if self.crops is not None:
            check_choice("crops", self.crops, get_args(CropCount))
        for name in ("window", "stride"):
            if (frames := getattr(self, name)) is not None:
                check_integer(name, frames, 1, unit="frames")
        check_that("stride", self.stride, self.stride is None or self.window is not None, "given with window")


def predict(inputs: Sequence[Location], run: Path, options: PredictOptions) -> Iterator[Prediction | Failure]:
    """Yield a prediction for each clip of stores and for each raw video, or for each of their windows.

    Raw videos are extracted as the trial's store was, into a temporary store; nothing is written
    beside them.

    Parameters
    ----------
    inputs
        Stores, videos, folders of videos.
    run
        A trial's folder, or a run's: then its first finished trial predicts.
    options
        Clips, number of classes, and device.

    Yields
    ------
    Prediction or Failure
        A video that cannot be extracted, or a clip that cannot be read, is a Failure; the others go on.

    Raises
    ------
    CheckpointError, ScoresError
        The trial has not finished, its fusions have not been compared, or it is damaged.
    InputError
        An input does not exist, has none of the ids, or a store's flow is not as in training.
    InvalidParameterError
        There is no such device, or a window has no flow field.
    """
    if options.threads is not None:
        torch.set_num_threads(options.threads)
    record = find_trial(run)
    options.on_note(f"trial: {record.folder}{'' if record.folder == run else ', the first finished one'}")
    if options.window is not None:
        least = record.data["flow"]["step"] + 1  # a flow field is of two frames
        check_integer("window", options.window, least, unit="frames")
    stores = [path for path in inputs if is_store(path)]
    videos = [path for path in inputs if isinstance(path, Path) and path not in stores]
    with contextlib.ExitStack() as stack:
        opened = [stack.enter_context(flowkit.open(path)) for path in stores]
        sources = flowkit.find_sources(videos, keep_suffix=options.keep_suffix) if videos else []
        _check_ids(options.ids, opened, sources)
        stated = _stated(record, options)
        for store in opened:
            imported = is_imported(flow_record(store.options), record)
            for note in check_store_fits(record if imported else stated, store):
                options.on_note(note)
        chosen = choose_fusion(record)
        options.on_note(f"fusion: {chosen.name}; {chosen.reason}")
        process_group = stack.enter_context(join_process_group(options.device))
        trial = load_networks(record, device=process_group.device)
        predictor = Predictor(trial, chosen, options, process_group)
        for store in opened:
            yield from predictor.of_store(store)
        wanted = [one for one in sources if not options.ids or one.video_id in options.ids]
        if wanted:
            yield from predictor.of_videos(wanted, extract_config(stated))


def _stated(record: TrialRecord, options: PredictOptions) -> TrialRecord:
    """Return the record with the settings of flow that `PredictOptions.flow_like` states."""
    if options.flow_like is None:
        return record
    with flowkit.open(options.flow_like) as like:
        stated = with_stated_flow(record, like)
    options.on_note(
        f"the flow of {record.folder} was imported; it is taken to be as that of {options.flow_like}, "
        "unchecked"
    )
    return stated


def is_store(path: Location) -> bool:
    """Return whether a path is an HDF5 file, whatever its name; an address is taken for one.

    Raises
    ------
    InputError
        There is no such file or folder.
    """
    if isinstance(path, RemotePath):
        return True  # opening it says what it is
    if not path.exists():
        raise InputError(f"no such store, video or folder: {path}")
    if path.is_dir():
        return False
    with path.open("rb") as file:
        return file.read(len(_HDF5_SIGNATURE)) == _HDF5_SIGNATURE


def _check_ids(ids: Sequence[str], stores: Sequence[Store], sources: Sequence[VideoSource]) -> None:
    there = {source.video_id for source in sources}
    missing = [k for k in ids if k not in there and not any(k in store for store in stores)]
    if missing and len(stores) == 1 and not sources:
        stores[0][missing[0]]  # raises, with the ids that are close to it
    if missing:
        raise InputError(f"no input has the clips {missing[:5]}; `flowkit info STORE` lists a store's ids")


class Predictor:
    """Predictions of clips by one trial's networks and chosen fusion."""

    def __init__(
        self, trial: LoadedTrial, chosen: ChosenFusion, options: PredictOptions, process_group: ProcessGroup
    ) -> None:
        self._trial, self._chosen, self._options = trial, chosen, options
        self._process_group = process_group
        self._classes = np.array(trial.record.classes)

    def of_store(self, store: Store) -> Iterator[Outcome]:
        """Yield a prediction for each wanted clip of a store, or for each of its windows."""
        windows: list[Window] = []
        for one in self._windows(store):
            if isinstance(one, Failure):
                yield one
                continue
            windows.append(one)
            if len(windows) == _AT_ONCE:
                yield from self._of_windows(store, windows)
                windows = []
        if windows:
            yield from self._of_windows(store, windows)

    def _windows(self, store: Store) -> Iterator[Window | Failure]:
        """Yield the windows of each wanted clip, which without `PredictOptions.window` is one."""
        options = self._options
        wanted = [k for k in options.ids if k in store] if options.ids else list(store)
        counts = dict(zip(store, zip(*map(store.column, ("n_frames", "n_flow")), strict=True), strict=True))
        for video_id in wanted:
            n_frames, n_flow = counts[video_id]
            if n_flow < 1:
                yield _failure(video_id, "too_short", "the clip has no flow field")
                continue
            length = n_frames if options.window is None else options.window
            for frames in frame_windows(n_frames, length, stride=options.stride or length):
                yield Window(video_id=video_id, frames=frames)

    def _of_windows(self, store: Store, windows: Sequence[Window]) -> Iterator[Outcome]:
        """Yield the predictions of windows at once; if one of them is damaged, of each by itself."""
        try:
            found = list(self._predictions(store, windows))
        except StoreCorruptError as error:
            if len(windows) == 1:
                yield _failure(windows[0].video_id, "corrupt", str(error))
            else:
                for one in windows:
                    yield from self._of_windows(store, [one])
            return
        yield from found

    def of_videos(self, sources: Sequence[VideoSource], config: ExtractConfig) -> Iterator[Outcome]:
        """Extract videos into a temporary store, and yield a prediction for each."""
        if self._options.jobs is not None:
            config = dataclasses.replace(config, jobs=self._options.jobs)
        names = {source.video_id: source.name for source in sources}
        with tempfile.TemporaryDirectory(prefix="flowkit-predict-") as folder:
            path = Path(folder) / "clips.h5"
            report = flowkit.extract(
                sources,
                path,
                config=config,
                on_progress=self._options.on_progress,
                executor=self._options.executor,
            )
            for outcome in report.outcomes:
                for warning in outcome.warnings:
                    self._options.on_note(f"{outcome.source}: {warning}")
            yield from report.failures
            if report.stored:
                with flowkit.open(path) as store:
                    for one in self.of_store(store):
                        yield dataclasses.replace(one, source=names[one.video_id])

    def _predictions(self, store: Store, windows: Sequence[Window]) -> Iterator[Prediction]:
        read = WindowedStore(store, windows)
        scores = self._scored(read)
        probabilities = self._chosen.probabilities(scores)
        weights, fallback = self._chosen.weights(scores), self._chosen.fell_back(scores)
        labels = read.column("label")
        for k, window in enumerate(windows):
            best = np.argsort(-probabilities[k], kind="stable")[: self._options.top]
            made = Prediction(
                video_id=window.video_id,
                source=str(store.path),
                label=labels[k] if labels[k] in self._trial.record.classes else "",
                classes=tuple(self._classes[best].tolist()),
                probabilities=tuple(probabilities[k][best].tolist()),
                weights=None if weights is None else (float(weights[k, 0]), float(weights[k, 1])),
                fallback=bool(fallback[k]),
            )
            yield made if self._options.window is None else _timed(made, store, window.frames)

    def _scored(self, store: WindowedStore) -> ClipScores:
        """Return the scores of all windows of a store."""
        record, options = self._trial.record, self._options
        # Only classes and store of the trial's data are read: nothing is learned or compared here.
        data = TrialData(
            store=cast(Store, store),
            split=record.data["split"],
            part=record.data["part"],
            classes=record.classes,
            labels={},
            groups={},
            train=(),
            gate=(),
            validation=(),
            test=(),
        )
        batches = ClipLoader(
            data,
            record.config,
            self._trial.networks.inputs,
            process_group=self._process_group,
            loader_config=options.loader,
        )
        return score_clips(
            self._trial.networks,
            batches,
            list(store),
            segments=options.segments or record.config.test_segments,
            crops=options.crops or record.config.test_crops,
            precision=batches.precision,
        )


def _failure(video_id: str, reason: str, detail: str) -> Failure:
    return Failure(source=video_id, reason=reason, detail=detail, video_id=video_id)


def _timed(made: Prediction, store: Store, frames: range) -> Prediction:
    """Return the prediction of a window with its frames and times."""
    start, end = frames_seconds(store[made.video_id].pts, frames)
    return dataclasses.replace(made, first_frame=frames[0], last_frame=frames[-1], start=start, end=end)
