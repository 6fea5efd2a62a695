"""Classes of stored clips or raw videos by a finished trial, with the weights that its gate gave.

for answer in predict([Path("one.mp4")], Path("runs/ucf101"), PredictOptions(loading=Loading())):
    ...  # a Prediction, or the Failure of one video
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch

import flowkit
from flowkit.errors import InputError
from flowkit.inputs import VideoSource
from flowkit.store.reader import Store
from gating.chosen import choose_fusion
from gating.compatibility import check_store_fits
from gating.errors import CheckpointError
from gating.load import load_networks, unfinished_stages
from gating.places import joined
from gating.predictor import Answer, Prediction, PredictOptions, Predictor
from gating.run_folder import TrialRecord, find_trials, is_trial, read_trial

__all__ = ["Answer", "PredictOptions", "Prediction", "find_trial", "is_store", "predict"]

_HDF5_SIGNATURE = b"\x89HDF\r\n\x1a\n"


def predict(inputs: Sequence[Path], run: Path, options: PredictOptions) -> Iterator[Answer]:
    """Yield an answer for each clip of stores and for each raw video.

    Raw videos are extracted as the trial's store was, into a temporary store; nothing is written
    beside them.

    Parameters
    ----------
    inputs
        Stores, videos, folders of videos.
    run
        A trial's folder, or a run's: then its first finished trial answers.
    options
        How.

    Yields
    ------
    Prediction or Failure
        A video that cannot be extracted, or a clip that cannot be read, costs only itself.

    Raises
    ------
    CheckpointError, ScoresError
        The trial has not finished or not been judged, or is damaged.
    InputError
        An input is not there, has none of the ids, or a store's flow is not what was trained on.
    """
    if options.threads is not None:
        torch.set_num_threads(options.threads)
    record = find_trial(run)
    options.on_note(f"trial: {record.folder}{'' if record.folder == run else ', the first finished one'}")
    stores = [path for path in inputs if is_store(path)]
    videos = [path for path in inputs if path not in stores]
    with contextlib.ExitStack() as stack:
        opened = [stack.enter_context(flowkit.open(path)) for path in stores]
        sources = flowkit.find_sources(videos) if videos else []
        _check_ids(options.ids, opened, sources)
        for store in opened:
            for note in check_store_fits(record, store):
                options.on_note(note)
        chosen = choose_fusion(record)
        options.on_note(f"fusion: {chosen.name}; {chosen.reason}")
        place = stack.enter_context(joined(options.device))
        trial = load_networks(record, device=place.device)
        predictor = Predictor(trial, chosen, options, place)
        for store in opened:
            yield from predictor.of_store(store)
        wanted = [one for one in sources if not options.ids or one.video_id in options.ids]
        if wanted:
            yield from predictor.of_videos(wanted)


def find_trial(run: Path) -> TrialRecord:
    """Return the trial that a folder is, or the first finished one of a run's folder.

    Raises
    ------
    CheckpointError
        It is neither, or no trial of the run has finished.
    """
    if is_trial(run):
        return read_trial(run)
    records = find_trials(run)
    for record in records:
        if record.is_compared and not unfinished_stages(record):
            return record
    raise CheckpointError(
        f"none of the {len(records)} trials of {run} has finished and been judged; go on with "
        "`flowkit train --resume`, or judge what is trained with `flowkit eval`"
    )


def is_store(path: Path) -> bool:
    """Return whether a path is an HDF5 file, whatever its name.

    Raises
    ------
    InputError
        There is no such file or folder.
    """
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
