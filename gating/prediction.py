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
from typing import get_args

import numpy as np
import torch

import flowkit
from flowkit.errors import InputError, StoreCorruptError
from flowkit.executor import Executor
from flowkit.extraction.sources import VideoSource
from flowkit.extraction.store_run import VideoOutcome
from flowkit.jobs import Progress
from flowkit.remote import Location, RemotePath
from flowkit.store.read.store import Store
from flowkit.store.record import Failure
from flowkit.validate import check_choice, check_integer, check_range
from gating.compatibility import check_store_fits, extract_config
from gating.config import MAX_SEGMENTS, CropCount, LoaderConfig
from gating.data.loader import ClipLoader
from gating.data.partition import TrialData
from gating.distributed import ProcessGroup, join_process_group
from gating.errors import CheckpointError
from gating.evaluation.scores import ClipScores, score_clips
from gating.load import ChosenFusion, LoadedTrial, choose_fusion, load_networks, unfinished_stages
from gating.run_folder import TrialRecord, find_trials, is_trial, read_trial

_HDF5_SIGNATURE = b"\x89HDF\r\n\x1a\n"
# Clips that are scored before the first of them is yielded.
_AT_ONCE = 256


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
    """

    video_id: str
    source: str
    label: str
    classes: tuple[str, ...]
    probabilities: tuple[float, ...]
    weights: tuple[float, float] | None
    fallback: bool = False


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
    device : str
        "auto", "cpu", "cuda" or "cuda:N".
    threads : int or None
        Of torch in this process; None leaves them as they are.
    loader : LoaderConfig
        Workers and micro-batches.
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
    device: str = "auto"
    threads: int | None = None
    loader: LoaderConfig = dataclasses.field(default_factory=LoaderConfig)
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


def predict(inputs: Sequence[Location], run: Path, options: PredictOptions) -> Iterator[Prediction | Failure]:
    """Yield a prediction for each clip of stores and for each raw video.

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
        There is no such device.
    """
    if options.threads is not None:
        torch.set_num_threads(options.threads)
    record = find_trial(run)
    options.on_note(f"trial: {record.folder}{'' if record.folder == run else ', the first finished one'}")
    stores = [path for path in inputs if is_store(path)]
    videos = [path for path in inputs if isinstance(path, Path) and path not in stores]
    with contextlib.ExitStack() as stack:
        opened = [stack.enter_context(flowkit.open(path)) for path in stores]
        sources = flowkit.find_sources(videos, keep_suffix=options.keep_suffix) if videos else []
        _check_ids(options.ids, opened, sources)
        for store in opened:
            for note in check_store_fits(record, store):
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
            yield from predictor.of_videos(wanted)


def find_trial(run: Path) -> TrialRecord:
    """Return the trial of a trial's folder, or the first finished one of a run's.

    Raises
    ------
    CheckpointError
        The folder is neither, or no trial of the run has finished.
    """
    if is_trial(run):
        return read_trial(run)
    records = find_trials(run)
    for record in records:
        if record.is_compared and not unfinished_stages(record):
            return record
    raise CheckpointError(
        f"none of the {len(records)} trials of {run} has finished and been compared; go on with "
        "`flowkit train --resume`, or compare the trained ones with `flowkit eval`"
    )


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
        """Yield a prediction for each wanted clip of a store."""
        wanted = [k for k in self._options.ids if k in store] if self._options.ids else list(store)
        lengths = dict(zip(store, store.column("n_flow"), strict=True))
        for video_id in wanted:
            if lengths[video_id] < 1:
                yield Failure(source=video_id, reason="too_short", detail="the clip has no flow field")
        ids = [k for k in wanted if lengths[k] >= 1]
        batches = self._batches(store)
        labels = dict(zip(store, store.column("label"), strict=True))
        for first in range(0, len(ids), _AT_ONCE):
            for scores in self._scored(batches, ids[first : first + _AT_ONCE]):
                if isinstance(scores, Failure):
                    yield scores
                else:
                    yield from self._predictions(scores, labels, str(store.path))

    def of_videos(self, sources: Sequence[VideoSource]) -> Iterator[Outcome]:
        """Extract videos into a temporary store, and yield a prediction for each."""
        config = extract_config(self._trial.record)
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
                        source = names[one.video_id if isinstance(one, Prediction) else one.source]
                        yield dataclasses.replace(one, source=source)

    def _batches(self, store: Store) -> ClipLoader:
        record = self._trial.record
        # Only classes and store of the trial's data are read: nothing is learned or compared here.
        data = TrialData(
            store=store,
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
        inputs = self._trial.networks.inputs
        return ClipLoader(
            data,
            record.config,
            inputs,
            process_group=self._process_group,
            loader_config=self._options.loader,
        )

    def _scored(self, batches: ClipLoader, ids: Sequence[str]) -> Iterator[ClipScores | Failure]:
        """Yield the scores of clips at once; if one of them is damaged, of each clip by itself."""
        config = self._trial.record.config
        try:
            yield score_clips(
                self._trial.networks,
                batches,
                ids,
                segments=self._options.segments or config.test_segments,
                crops=self._options.crops or config.test_crops,
                precision=batches.precision,
            )
        except StoreCorruptError as error:
            if len(ids) == 1:
                yield Failure(source=ids[0], reason="corrupt", detail=str(error))
            else:
                for video_id in ids:
                    yield from self._scored(batches, [video_id])

    def _predictions(self, scores: ClipScores, labels: dict[str, str], source: str) -> Iterator[Prediction]:
        probabilities = self._chosen.probabilities(scores)
        weights, fallback = self._chosen.weights(scores), self._chosen.fell_back(scores)
        for k, video_id in enumerate(scores.ids):
            best = np.argsort(-probabilities[k], kind="stable")[: self._options.top]
            yield Prediction(
                video_id=video_id,
                source=source,
                label=labels[video_id] if labels[video_id] in self._trial.record.classes else "",
                classes=tuple(self._classes[best].tolist()),
                probabilities=tuple(probabilities[k][best].tolist()),
                weights=None if weights is None else (float(weights[k, 0]), float(weights[k, 1])),
                fallback=bool(fallback[k]),
            )
