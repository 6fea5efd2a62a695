"""A trial's comparison on disk, and the results of a run: all trials' comparisons in one table."""

from __future__ import annotations

import dataclasses
import datetime
import math
import platform
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypedDict

import numpy as np
import torch

from flowkit._version import __version__
from flowkit.remote import Location
from flowkit.untrusted_json import read_json, typed
from gating.arrays import DAMAGE, read_arrays, write_arrays
from gating.config import BASELINE, CHOSEN, GATING, ORACLE
from gating.errors import ScoresError
from gating.evaluation.comparison import (
    FusionRow,
    Gain,
    SplitKind,
    TrialComparison,
    chosen_row,
    fusion_rows,
    gains,
)
from gating.evaluation.scores import ClipScores, load_scores
from gating.metrics import GateSummary
from gating.run_folder import (
    COMPARISON,
    FUSED,
    compared_trials,
    scores_path,
    write_json,
)
from gating.statistics import McNemar, headroom_fraction, mean_class_accuracy, top1
from gating.train_config import TrainConfig

FORMAT = "flowkit-results 1"
# Keys of a comparison's file and the attributes that they hold.
_NUMBERS = {
    **{name: name for name in ("split", "part", "kind", "seed")},
    "search_share": "search_fraction",
    "validation": "validation",
}


class _Numbers(TypedDict):
    """The content of a comparison's file."""

    split: str
    part: str
    kind: SplitKind
    seed: int
    search_share: float
    validation: dict[str, float]


def write_comparison(trial: Path, comparison: TrialComparison) -> None:
    """Write the files of `read_comparison`, but for the scores, which are written as they are made."""
    write_arrays(trial / FUSED, comparison.fused)
    write_json(trial / COMPARISON, {key: getattr(comparison, name) for key, name in _NUMBERS.items()})


def read_comparison(trial: Path) -> TrialComparison:
    """Return a trial's comparison.

    Raises
    ------
    ScoresError
        A file is absent or damaged, or they are not of the same clips.
    """
    scores: ClipScores = load_scores(scores_path(trial, "test"))
    try:
        numbers: _Numbers = typed(COMPARISON, read_json(trial / COMPARISON), _Numbers)
        fused = read_arrays(trial / FUSED)
        values = {_NUMBERS[key]: value for key, value in numbers.items()}
        comparison = TrialComparison(scores=scores, fused=fused, **values)  # type: ignore[arg-type]
    except DAMAGE as error:
        raise ScoresError(
            f"{trial} holds no comparison: {error}; make it again with `flowkit eval`"
        ) from error
    needed = scores.lone_stream or BASELINE
    if needed not in numbers["validation"]:
        raise ScoresError(
            f"{trial}: validation in {COMPARISON} must have {needed!r}; make it again with `flowkit eval`"
        )
    if needed not in fused or any(
        one.shape != scores.flow.shape or one.dtype != np.float64 for one in fused.values()
    ):
        raise ScoresError(
            f"{trial}: {FUSED} must hold {needed!r}, and of each fusion float64 scores {scores.flow.shape} "
            "as test.npz has; make it again with `flowkit eval`"
        )
    return comparison


def read_comparisons(out: Path) -> list[TrialComparison]:
    """Return the comparisons of all finished trials of a run's folder, by path.

    Raises
    ------
    ScoresError
        There is none.
    """
    return [read_comparison(trial) for trial in compared_trials(out)]


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class FusionAccuracy:
    """One fusion on the test clips of one trial: top-1 and mean class accuracy, [0, 1]."""

    top1: float
    mean_class: float


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class TrialResults:
    """The numbers of one trial.

    Attributes
    ----------
    split, part : str
        The split's name, and the part of it that was tested: "test", or a fold.
    kind : {"subset", "fold", "all"}
        Of the split; "all" where every clip trains, and all numbers are of out-of-fold scores.
    seed : int
        Of training.
    clips : int
        Test clips; of kind "all" training clips.
    fusions : mapping of str to FusionAccuracy
        Each fusion on the test clips.
    search_fraction : float
        Flow's fraction of the best fixed weights, [0, 1].
    validation : mapping of str to float
        Top-1 of "search" and "gating", or of the only stream, on the validation clips, [0, 1].
    prefers_gate : bool
        The gate is better than the best fixed weights on the validation clips.
    gates : GateSummary or None
        Of the test clips; None without a gate.
    fallbacks : int
        Test clips that got the fixed weights since both gates were zero.
    mcnemar : McNemar or None
        The gate (first) against the best fixed weights on the test clips; None without a gate.
    """

    split: str
    part: str
    kind: SplitKind
    seed: int
    clips: int
    fusions: Mapping[str, FusionAccuracy]
    search_fraction: float
    validation: Mapping[str, float]
    prefers_gate: bool
    gates: GateSummary | None
    fallbacks: int
    mcnemar: McNemar | None

    def to_json(self) -> dict[str, object]:
        """Return all values under the keys of `results.json`."""
        return _renamed(dataclasses.asdict(self), search_fraction="search_share")


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class FusionResults:
    """All fusions over all trials.

    Attributes
    ----------
    fusions : mapping of str to FusionRow
        The table, in the order of `gating.FUSIONS`; "gating" among them where there is a gate. In the row
        "chosen" each clip has the fusion that its own trial chose.
    chosen : str
        The fusion that validation chose, and `predict` uses, in the most trials; where every clip trains,
        out-of-fold scores chose it.
    gains : tuple of Gain
        Of the gate over each other fusion; empty without a gate.
    headroom : float
        Fraction of the way from the best fixed weights to the oracle that the gate went; NaN without
        a gate, an oracle or any way to go.
    trials : tuple of TrialResults
        One a split (or fold) and seed.
    """

    fusions: Mapping[str, FusionRow]
    chosen: str
    gains: tuple[Gain, ...]
    headroom: float
    trials: tuple[TrialResults, ...]

    @property
    def is_out_of_fold(self) -> bool:
        """True if all numbers are of out-of-fold scores of training clips, and none of a test."""
        return all(one.kind == "all" for one in self.trials)

    def to_json(self) -> dict[str, object]:
        """Return the results as plain JSON values; NaN becomes None."""
        content = {
            "format": FORMAT,
            "scored": "out-of-fold" if self.is_out_of_fold else "test",
            "chosen": self.chosen,
            "fusions": {name: dataclasses.asdict(row) for name, row in self.fusions.items()},
            "gains": [_renamed(dataclasses.asdict(gain), baseline="rival") for gain in self.gains],
            "headroom_share": self.headroom,
            "trials": [one.to_json() for one in self.trials],
        }
        return {key: _without_nan(value) for key, value in content.items()}


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class RunData:
    """The data that a run was trained and tested on.

    Attributes
    ----------
    store : Path
        The store's file.
    classes : tuple of str
        Names, in the order of the scores.
    flow : mapping of str to object
        Settings of the store's frames and flow, as the store records them.
    clips : mapping of str to int
        Clips of each part ("learn", "gate", "validation", "test") of the first trial.
    fingerprint : mapping of str to str
        Number and digest of each part's ids.
    """

    store: Location
    classes: tuple[str, ...]
    flow: Mapping[str, object]
    clips: Mapping[str, int]
    fingerprint: Mapping[str, str]

    def to_json(self) -> dict[str, object]:
        """Return all values as plain JSON values, the store as an absolute path."""
        return {
            "store": str(self.store.absolute()),
            "classes": list(self.classes),
            "flow": dict(self.flow),
            "clips": dict(self.clips),
            "fingerprint": dict(self.fingerprint),
        }


def versions() -> dict[str, str]:
    """Return the versions of flowkit, torch, numpy and python, as results keep them."""
    return {
        "flowkit": __version__,
        "torch": torch.__version__,
        "numpy": np.__version__,
        "python": platform.python_version(),
    }


def utc_now() -> str:
    """Return the time, UTC, ISO 8601, to the second."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class RunResults(FusionResults):
    """All fusions over all trials of a run, with configuration, data and versions: `results.json`.

    Attributes
    ----------
    fusions, gains, headroom, trials
        As `FusionResults`.
    config : TrainConfig
        Of the first trial; trials differ in `seed` alone.
    data : RunData
        Store, classes and clips.
    versions : mapping of str to str
        Of flowkit, torch, numpy and python.
    created : str
        UTC, ISO 8601, to the second.
    """

    config: TrainConfig
    data: RunData
    versions: Mapping[str, str]
    created: str

    def to_json(self) -> dict[str, object]:
        """Return the content of `results.json`: plain JSON values; NaN becomes None."""
        context = {
            "config": self.config.to_json(),
            "data": self.data.to_json(),
            "versions": dict(self.versions),
            "created": self.created,
        }
        # A dataclass with slots is made anew, so that `super()` would name the class before.
        own = {key: _without_nan(value) for key, value in context.items()}
        return {**FusionResults.to_json(self), **own}


def fusion_results(comparisons: Sequence[TrialComparison], *, asked: str = GATING) -> FusionResults:
    """Return all fusions over these trials, which were trained for the fusion `asked`.

    Raises
    ------
    InvalidParameterError
        A split lacks a seed that another has, or its seeds were tested on other clips.
    """
    rows = fusion_rows(comparisons)
    choices = Counter(one.chosen(asked) for one in comparisons)
    return FusionResults(
        fusions={**rows, CHOSEN: chosen_row(comparisons, asked)},
        chosen=choices.most_common(1)[0][0],
        gains=tuple(gains(comparisons)),
        headroom=_headroom(rows),
        trials=tuple(_trial(one) for one in comparisons),
    )


def _headroom(rows: Mapping[str, FusionRow]) -> float:
    if GATING not in rows or ORACLE not in rows:
        return math.nan
    return headroom_fraction(rows[GATING].top1, rows[BASELINE].top1, rows[ORACLE].top1)


def _trial(one: TrialComparison) -> TrialResults:
    labels = one.scores.labels
    return TrialResults(
        split=one.split,
        part=one.part,
        kind=one.kind,
        seed=one.seed,
        clips=len(one.scores),
        fusions={
            name: FusionAccuracy(top1=top1(scores, labels), mean_class=mean_class_accuracy(scores, labels))
            for name, scores in one.fused.items()
        },
        search_fraction=one.search_fraction,
        validation=dict(one.validation),
        prefers_gate=one.prefers_gate,
        gates=one.gates,
        fallbacks=one.fallbacks,
        mcnemar=one.test,
    )


def _renamed(values: Mapping[str, object], **keys: str) -> dict[str, object]:
    """Return values under their keys of `results.json`, in order."""
    return {keys.get(name, name): value for name, value in values.items()}


def _without_nan(value: object) -> object:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: _without_nan(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(one) for one in value]
    return value
