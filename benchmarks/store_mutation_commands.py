"""Everything that reads a store, each as one function: the commands that the mutation campaign tries."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import importlib.util
import io
import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import click

import flowkit
import flowkit_cli
from benchmarks import store_values
from benchmarks.store_values import Values
from flowkit import ClipRequest, ExportConfig, FlowkitError, InlineExecutor
from flowkit.datasets import ClipSamples, Sampling, SplitRequest, resolve_splits
from tests.make.store_bases import STORE, STORED, Base, config_of

LAYOUTS = ("tsn", "flo", "npy", "webdataset")
"""Those of `export` that read differently: denseflow's and mmaction2's are TSN's under other names."""
Found = dict[str, Any]
"""What a command found, as JSON: `values`, `sound`, `output`, ..."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Trial:
    """A damaged store in a folder of its own, and the sound one from which it was made."""

    base: Base
    store: Path
    work: Path
    """Holds what commands write."""
    expected: Values = dataclasses.field(default_factory=dict)
    """The sound store's values as its reader gives them; empty where the store is that one."""


class RefusedError(Exception):
    """A command ended with a message and not with its result."""


def command_line(*words: object) -> tuple[int, str]:
    """Run `flowkit WORDS` in this process; return its status and standard output.

    Raises
    ------
    RefusedError
        It ended with a message: those errors that the command line shows as one line.
    """
    output = io.StringIO()
    try:
        with contextlib.redirect_stdout(output), contextlib.redirect_stderr(io.StringIO()) as errors:
            status = flowkit_cli.group.main([str(word) for word in words], standalone_mode=False)
    except (click.ClickException, FlowkitError, OSError) as error:
        raise RefusedError(f"{type(error).__name__}: {error}") from error
    _check_internal(output.getvalue() + errors.getvalue())
    return (status if isinstance(status, int) else 0), output.getvalue()


def _check_internal(text: str) -> None:
    """Raise if a command caught an error of its own and reported it as one of many failures."""
    for word in ("internal_error", "Traceback"):
        if word in text:
            raise AssertionError(f"it reports: {text[max(0, text.index(word) - 200) :][:1500]}")


def _cli(*words: str) -> Callable[[Trial], Found]:
    """Return a command of the command line; {store}, {work} and {base} stand for paths."""

    def run(trial: Trial) -> Found:
        names = {"store": trial.store, "work": trial.work, "base": trial.base.store}
        status, _ = command_line(*(word.format(**names) for word in words))
        return {"status": status}

    return run


def _verify(trial: Trial) -> Found:
    status, output = command_line("verify", "--json", trial.store)
    return {"status": status, "sound": bool(json.loads(output)["sound"])}


def _reader(trial: Trial) -> Found:
    return {"values": store_values.reader_values(trial.store)}


def _reader_h5py(trial: Trial) -> Found:
    return {"values": store_values.reader_values(trial.store, access="h5py")}


def _reader_file(trial: Trial) -> Found:
    with trial.store.open("rb") as file:
        return {"values": store_values.reader_values(file)}


def _plain(trial: Trial) -> Found:
    try:
        return {"values": store_values.plain_values(trial.store)}
    except Exception as error:  # h5py's errors over a damaged file are of many kinds, and none is flowkit's
        raise RefusedError(f"{type(error).__name__}: {error}") from error


def _whole_clips(trial: Trial) -> Found:
    """Read each video whole, and several at once."""
    with flowkit.open(trial.store) as store:
        requests = [ClipRequest(video_id=name, frames=(0,), flow=(0, 1)) for name in store]
        with contextlib.suppress(FlowkitError):
            for _ in store.read_many(requests, threads=2):
                pass
        for clip in store.values():
            for read in (clip.flow, clip.frames, lambda clip=clip: list(clip.iter_flow())):
                with contextlib.suppress(FlowkitError):
                    read()
    return {}


def _samples(trial: Trial) -> Found:
    """Read as the trainer does: splits, labels, batches of each form."""
    with flowkit.open(trial.store) as store:
        resolve_splits(store, SplitRequest(folds=2))
        for form in ("codes", "px", "tsn"):
            sampling = Sampling(segments=2, stack=2)
            samples = ClipSamples(store, sampling=sampling, training=True, flow_form=form, crop=(16, 16))
            with contextlib.suppress(FlowkitError):
                for _ in samples.batches(2, threads=2):
                    pass
    return {}


def _dataset(trial: Trial) -> Found:
    from flowkit.datasets.torch import ClipDataset

    dataset = ClipDataset(trial.store, segments=2, stack=2, crop=(16, 16))
    for k in range(len(dataset)):
        with contextlib.suppress(FlowkitError):
            dataset[k]
    return {}


def _of_video(number: int, *words: str) -> Callable[[Trial], Found]:
    """Return a command for one video of those that the sound store has."""

    def run(trial: Trial) -> Found:
        ids = [name for names in trial.base.videos.values() for name in names]
        names = {"store": trial.store, "work": trial.work, "id": ids[number]}
        command_line(*(word.format(**names) for word in words))
        return {}

    return run


def _export(layout: str) -> Callable[[Trial], Found]:
    def run(trial: Trial) -> Found:
        config = ExportConfig(layout=layout, jobs=1)
        with InlineExecutor() as executor:
            report = flowkit.export(trial.store, trial.work / layout, config=config, executor=executor)
        _check_internal(" ".join(map(repr, report.failures)))
        return {"status": int(bool(report.failures))}

    return run


def _copy(write: Callable[[Trial, Path], object]) -> Callable[[Trial], Found]:
    """Return a command that writes a new store, which is then read."""

    def run(trial: Trial) -> Found:
        out = trial.work / f"copy-{len(list(trial.work.iterdir()))}.h5"
        write(trial, out)
        return _written(trial, out)

    return run


def _written(trial: Trial, out: Path, redone: Sequence[str] = ()) -> Found:
    """Return the changed values of a store that a command wrote, and whether it verifies if it has any.

    Videos of `redone` were made from their source, not from the damaged store.
    """
    try:
        values = store_values.reader_values(out)
        heads = tuple(f"video/{video_id}:" for video_id in redone)
        differ = [
            name
            for name in store_values.changed_in_videos(trial.expected, values)
            if not name.startswith(heads)
        ]
        sound = (not differ and bool(trial.expected)) or flowkit.verify(out).sound
    except FlowkitError as error:
        raise RefusedError(f"the new store cannot be read: {error}") from error
    return {"changed_in_copy": differ, "copy_sound": sound}


def _merge(trial: Trial, out: Path) -> None:
    command_line("merge", trial.store, trial.base.other, "-o", out)


def _subset(trial: Trial, out: Path) -> None:
    names = [name for names in trial.base.videos.values() for name in names]
    listed = trial.work / "ids.txt"
    listed.write_text("\n".join(names[1:]), encoding="utf-8")
    command_line("subset", trial.store, "--list", listed, "-o", out)


def _relabel(trial: Trial, out: Path) -> None:
    labels = trial.work / "labels.csv"
    labels.write_text(f"id,label\n{STORED},été\n", encoding="utf-8")
    command_line("relabel", trial.store, "--labels", labels, "-o", out)


def _drop_frames(trial: Trial, out: Path) -> None:
    command_line("recode", trial.store, "--drop-frames", "-o", out)


def _recode(trial: Trial) -> Found:
    codec = "i16" if trial.base.codec != "i16" else "i8"
    command_line("recode", trial.store, "--flow-codec", codec, "-o", trial.work / "recoded.h5")
    return {}


def _repair(trial: Trial) -> Found:
    """Repair a copy; return the verdict and the values that remain, and the files that vanished."""
    store = _own_copy(trial, "repaired")
    before = digests(store.parent)
    found: Found = {}
    try:
        command_line("verify", "--repair", store)
        found["repaired"] = True
    except RefusedError as error:
        found |= {"repaired": False, "refusal": str(error)[:300]}
    after = set(digests(store.parent).values())
    found["vanished"] = [name for name, digest in before.items() if digest not in after]
    return found


def _after_repair(trial: Trial) -> Found:
    """Verify and read what `_repair` left."""
    store = trial.work / "repaired" / STORE
    _, output = command_line("verify", "--json", store)
    return {"sound": bool(json.loads(output)["sound"]), "values": store_values.reader_values(store)}


def _extract(trial: Trial) -> Found:
    """Go on with an extraction into a copy: one video is there, one is new."""
    store = _own_copy(trial, "extracted")
    with InlineExecutor() as executor:
        report = flowkit.extract(
            trial.base.sources, store, config=config_of(trial.base.codec), executor=executor
        )
    _check_internal(" ".join(map(repr, report.failures)))
    redone = [outcome.video_id for outcome in report.outcomes if outcome.status == "stored"]
    return _written(trial, store, redone)


def _extract_nothing(trial: Trial) -> Found:
    store = _own_copy(trial, "unchanged")
    (trial.work / "empty").mkdir()
    status, _ = command_line("extract", trial.work / "empty", store, "--jobs", "1", "--quiet")
    return {"status": status}


def _own_copy(trial: Trial, name: str) -> Path:
    shutil.copytree(trial.store.parent, trial.work / name)
    return trial.work / name / STORE


def digests(folder: Path) -> dict[str, str]:
    """Return the SHA-256 of each file below a folder, by its path there."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


COMMANDS: Mapping[str, Callable[[Trial], Found]] = {
    "verify": _verify,
    "reader": _reader,
    "reader-h5py": _reader_h5py,
    "reader-file": _reader_file,
    "plain-h5py": _plain,
    "repair": _repair,
    "after-repair": _after_repair,
    "whole-clips": _whole_clips,
    "samples": _samples,
    **({"dataset": _dataset} if importlib.util.find_spec("torch") else {}),
    "info": _cli("info", "{store}"),
    "info-json": _cli("info", "--json", "{store}"),
    "info-video": _of_video(0, "info", "--json", "{store}", "{id}"),
    "view-video": _of_video(
        -1, "view", "{store}", "{id}", "-o", "{work}/strip.png", "--columns", "2", "--width", "32"
    ),
    "view-film": _of_video(0, "view", "{store}", "{id}", "-o", "{work}/film.mp4", "--width", "32"),
    "view-html": _cli("view", "--html", "--jobs", "1", "{store}", "-o", "{work}/page.html"),
    "compare": _cli("compare", "--json", "--jobs", "1", "{base}", "{store}"),
    **{f"export-{layout}": _export(layout) for layout in LAYOUTS},
    "merge": _copy(_merge),
    "subset": _copy(_subset),
    "relabel": _copy(_relabel),
    "drop-frames": _copy(_drop_frames),
    "recode": _recode,
    "extract": _extract,
    "extract-nothing": _extract_nothing,
}
"""By name, in the order in which they run: returns what it found, or raises FlowkitError or RefusedError."""
