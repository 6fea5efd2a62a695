"""A run's folder: every name, path and glob in it, and the readers and writers of its files.

::

    runs/<store>-<preset>/              `default_run`
        results.json                    the table over all trials
        <split>[-<fold>]/seed<N>/       `trial_folder`: one trial; all/seed<N>/ where every clip trains
            trial.json                  configuration and data
            split.csv                   the split; runs of before have it beside the store alone
            rgb/ flow/ gate/            a stage each: best.pt, and last.pt while it is unfinished
            fold0/rgb/ fold0/flow/ ...  stages of the out-of-fold streams, and gates where every clip trains
            log.jsonl                   every event of training
            tensorboard/                where tensorboard is installed
            scores/*.npz                of the test, validation and fit clips; where every clip trains, all
                                        three are the out-of-fold scores
            fused.npz                   one float64 array (N, C) a fusion
            judgement.json              the trial's few numbers: its comparison

Nothing here needs torch, so that readers of a run stay light.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TypedDict

from flowkit.atomic import replacement
from flowkit.errors import InputError, InvalidParameterError
from flowkit.remote import Location, RemotePath, locate
from flowkit.untrusted_json import read_json, typed
from gating.config import ALL, GATING
from gating.errors import CheckpointError, ScoresError
from gating.events import Event, OnEvent
from gating.train_config import TrainConfig

RUNS = Path("runs")
RESULTS = "results.json"
RECORD = "trial.json"
SPLIT = "split.csv"
LOG = "log.jsonl"
FUSED = "fused.npz"
COMPARISON = "judgement.json"
LAST, BEST = "last.pt", "best.pt"


def default_run(store: Location, preset: str) -> Path:
    """Return the default folder of a run."""
    return RUNS / f"{store.stem}-{preset}"


def trial_folder(out: Path, split: str, part: str, seed: int) -> Path:
    """Return the folder of one trial."""
    whole = part == "test" or split == part == ALL
    return out / (split if whole else f"{split}-{part}") / f"seed{seed}"


def out_of_fold_stage(fold: int, kind: str) -> str:
    """Return the stage of the stream or the gate that is trained without one fold."""
    return f"fold{fold}/{kind}"


def stage_kind(stage: str) -> str:
    """Return "rgb", "flow" or "gate" of a stage's name, such as "gate" or "fold0/flow"."""
    return stage.rpartition("/")[2]


def best_checkpoint(trial: Path, stage: str) -> Path:
    """Return the path of a stage's best epoch."""
    return trial / stage / BEST


def split_path(trial: Path) -> Path:
    """Return the path of a trial's own split."""
    return trial / SPLIT


def scores_path(trial: Path, part: str) -> Path:
    """Return the path of the scores of "test", "validation" or "fit"."""
    return trial / "scores" / f"{part}.npz"


def tensorboard_folder(trial: Path) -> Path:
    """Return the folder of TensorBoard's files."""
    return trial / "tensorboard"


class FlowRecord(TypedDict):
    """The settings of a store's frames and flow: its root attributes, but for the engine's name."""

    bound: float
    fields: str
    flow_codec: str
    frame_codec: str
    jpeg_quality: int
    resize: str
    rounding: str
    sampling: str
    step: int
    tvl1_params: str
    tvl1_preset: str


class DataRecord(TypedDict):
    """The data of a trial as its `trial.json` and its checkpoints keep them.

    `clips` has the number and digest of the ids of each part: "learn", "gate", "validation", "test".
    """

    classes: list[str]
    split: str
    part: str
    flow: FlowRecord
    clips: dict[str, str]


class _Trial(TypedDict):
    """The content of a `trial.json`."""

    config: dict[str, Any]
    data: DataRecord


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class TrialRecord:
    """The content of a trial's `trial.json`.

    Attributes
    ----------
    folder : Path
        Of the trial.
    config : TrainConfig
        With which it was trained.
    data : DataRecord
        Classes, split, part, settings of the flow, and digests of the clips.
    """

    folder: Path
    config: TrainConfig
    data: DataRecord

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names, in the order of the scores."""
        return tuple(self.data["classes"])

    @property
    def stages(self) -> tuple[str, ...]:
        """The stages of the networks themselves."""
        return (*self.config.modalities, "gate") if self.config.fusion == GATING else self.config.modalities

    @property
    def is_compared(self) -> bool:
        """True once the trial's fusions have been compared."""
        return (self.folder / COMPARISON).is_file()


def is_trial(folder: Path) -> bool:
    """Return whether a folder is a trial's, finished or not."""
    return (folder / RECORD).is_file()


def read_trial(folder: Path) -> TrialRecord:
    """Return the record of a trial's folder.

    Raises
    ------
    CheckpointError
        There is none, or it cannot be read.
    """
    path = folder / RECORD
    if not is_trial(folder):
        raise CheckpointError(
            f"{folder} is no trial: it has no {RECORD}; name a run's folder, or SPLIT/seedN in it"
        )
    try:
        content: _Trial = typed("it", read_json(path), _Trial)
        config = TrainConfig.from_json(content["config"])
        return TrialRecord(folder=folder, config=config, data=content["data"])
    except (OSError, InputError, InvalidParameterError) as error:
        raise CheckpointError(f"{path} cannot be read: {error}; was it made by `flowkit train`?") from error


def write_trial(folder: Path, config: TrainConfig, data: DataRecord) -> None:
    """Write the record that `read_trial` reads, over an earlier one."""
    write_json(folder / RECORD, {"config": config.to_json(), "data": data})


def find_trials(out: Path) -> list[TrialRecord]:
    """Return the records of all trials of a run's folder, finished or not, by split, part and seed.

    Raises
    ------
    CheckpointError
        There is none, or one cannot be read.
    """
    found = [read_trial(path.parent) for path in out.glob(f"*/seed*/{RECORD}")]
    if not found and any(_comparisons(out)):
        raise CheckpointError(
            f"{out} has results and no networks: `flowkit fuse` made it, and `flowkit report` alone reads it"
        )
    if not found:
        raise CheckpointError(f"{out} is no run: it has no SPLIT/seedN/{RECORD}; train one with --out {out}")
    return sorted(found, key=_order)


def trial_folders(out: Path) -> set[Path]:
    """Return the folders of all trials of a run or of a fusion, finished or not."""
    return {path.parent for name in (COMPARISON, RECORD) for path in out.glob(f"*/seed*/{name}")}


def default_fusion(rgb: Path, flow: Path) -> Path:
    """Return the default folder of a fusion of two files or folders of streams."""
    return RUNS / f"fuse-{rgb.stem}-{flow.stem}"


def _order(record: TrialRecord) -> tuple[str, int, str, int]:
    part = record.data["part"]
    return record.data["split"], len(part) if part.isdigit() else 0, part, record.config.seed


def compared_trials(out: Path) -> list[Path]:
    """Return the folders of all trials of a run whose fusions have been compared, by path.

    Raises
    ------
    ScoresError
        There is none.
    """
    found = sorted(path.parent for path in _comparisons(out))
    if not found:
        raise ScoresError(f"{out} holds no finished trial; run `flowkit train --out {out}` or `flowkit eval`")
    return found


def newest_run(runs: Path = RUNS) -> Path:
    """Return the run of a folder of runs whose fusions were compared last.

    Raises
    ------
    ScoresError
        None has a finished trial.
    """
    found = [folder for folder in runs.glob("*") if any(_comparisons(folder))]
    if not found:
        raise ScoresError(f"no run in {runs} has a finished trial; name the run's folder, or train one")
    return max(found, key=_compared_at)


def _comparisons(out: Path) -> Iterator[Path]:
    return out.glob(f"*/seed*/{COMPARISON}")


def _compared_at(out: Path) -> float:
    return max((path.stat().st_mtime for path in _comparisons(out)), default=0.0)


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class RunContext:
    """The configuration, data and versions of a run.

    Attributes
    ----------
    out : Path
        The run's folder.
    compared : datetime
        Time of the newest trial's comparison, UTC.
    config, data, versions : mapping
        As in `results.json`; empty where it has none.
    """

    out: Path
    compared: datetime.datetime
    config: Mapping[str, object]
    data: Mapping[str, object]
    versions: Mapping[str, object]

    @property
    def named_store(self) -> Location | None:
        """The store that was trained on, if the run names one."""
        named = self.data.get("store")
        return locate(named) if isinstance(named, str) else None

    @property
    def store(self) -> Path | None:
        """That store, if it is still there; an address is not opened because a run names it."""
        named = self.named_store
        return named if isinstance(named, Path) and named.is_file() else None


def read_context(out: Path) -> RunContext:
    """Return the context in a run's `results.json`, which may be absent or lack anything.

    Raises
    ------
    ScoresError
        It is there and is no JSON object.
    """
    content: object = {}
    path = out / RESULTS
    if path.is_file():
        try:
            content = read_json(path)
        except InputError as error:
            raise ScoresError(f"{error}; make it again with `flowkit eval`") from error
    if not isinstance(content, dict):
        raise ScoresError(f"{path} must hold an object; make it again with `flowkit eval`")
    named = {name: content.get(name) for name in ("config", "data", "versions")}
    return RunContext(
        out=out,
        compared=datetime.datetime.fromtimestamp(_compared_at(out), datetime.UTC),
        **{name: value if isinstance(value, dict) else {} for name, value in named.items()},
    )


def recorded_store(out: Path) -> Path:
    """Return the store that a run was trained on, as its `results.json` names it.

    Raises
    ------
    CheckpointError
        The folder is no run.
    InvalidParameterError
        It names none, or one that is not there.
    """
    find_trials(out)
    try:
        named = read_context(out).named_store
    except ScoresError:
        named = None
    if not isinstance(named, Path) or not named.is_file():
        lack = "names no store" if named is None else f"was trained on {named}, which is not there"
        if isinstance(named, RemotePath):
            lack = f"was trained on {named}, and an address is not opened because a run names it"
        raise InvalidParameterError(f"the run {out} {lack}; name the store with --store")
    return named


def write_results(out: Path, results: Mapping[str, object]) -> None:
    """Write `results.json`, over an earlier one."""
    write_json(out / RESULTS, results, allow_nan=False)


def write_json(path: Path, content: Mapping[str, object], *, allow_nan: bool = True) -> None:
    """Write a JSON object, over an earlier file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacement(path) as temporary:
        temporary.write_text(json.dumps(content, indent=1, allow_nan=allow_nan), encoding="utf-8")


@contextlib.contextmanager
def open_log(trial: Path) -> Iterator[OnEvent]:
    """Yield an `on_event` that appends to a trial's log, a JSON line with its time."""
    trial.mkdir(parents=True, exist_ok=True)
    with (trial / LOG).open("a", encoding="utf-8") as file:

        def append(event: Event) -> None:
            now = datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds")
            file.write(json.dumps({"time": now, **event}) + "\n")
            file.flush()

        yield append


def flattened(value: object, name: str = "") -> Iterator[tuple[str, str]]:
    """Yield each value of nested mappings, such as a run's configuration, with its dotted name."""
    if isinstance(value, Mapping) and value:
        for key, inner in value.items():
            yield from flattened(inner, f"{name}.{key}" if name else str(key))
    else:
        yield name, value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
