"""Division of a store's clips among the parts of one trial.

The streams learn from some, the gate from others or the same, a validation part (the split's own, else cut
from its training list) picks epochs, and the test part is evaluated once. Groups are never divided: the
videos of one person or one source film stay on one side.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Literal

from flowkit.datasets import Split, check_split, k_fold
from flowkit.datasets.splits import TRAIN
from flowkit.errors import InputError
from flowkit.store.read.store import Store
from flowkit.store.schema import StoreOptions
from gating.config import ALL
from gating.run_folder import DataRecord, FlowRecord
from gating.train_config import TrainConfig

_NAMED = 5

Part = Literal["learn", "gate", "validation", "test"]
PARTS: tuple[Part, ...] = ("learn", "gate", "validation", "test")
"""Parts of a trial under the keys of records: the training clips' is "learn"."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class TrialData:
    """The parts of one trial: ids of clips, their classes and groups.

    Attributes
    ----------
    store : Store
        That the clips are read from.
    split, part : str
        Name of the split, and its tested part: "test" or a fold, or "all" where every clip trains.
    classes : tuple of str
        Those of the split, in the store's order.
    labels : dict of str to int
        Index into `classes` by id.
    groups : dict of str to str
        By id; a clip without a group is its own.
    train, gate, validation, test : tuple of str
        Ids that the streams learn from, that the gate learns from, that pick the best epoch, and
        that are tested.
    folds : tuple of tuple of str
        With gate data "out-of-fold": parts of `train`, each kept from one pair of streams.
    source : Split or None
        The split that the parts were cut from, which the trial's folder keeps.
    """

    store: Store
    split: str
    part: str
    classes: tuple[str, ...]
    labels: dict[str, int]
    groups: dict[str, str]
    train: tuple[str, ...]
    gate: tuple[str, ...]
    validation: tuple[str, ...]
    test: tuple[str, ...]
    folds: tuple[tuple[str, ...], ...] = ()
    source: Split | None = None

    def ids(self, part: Part) -> tuple[str, ...]:
        """Return the ids of one part."""
        ids: tuple[str, ...] = getattr(self, "train" if part == "learn" else part)
        return ids

    def balance(self) -> list[tuple[str, int, int, int, int]]:
        """Return each class's name and counts in `train`, `gate`, `validation` and `test`."""
        counts = [Counter(self.labels[k] for k in self.ids(part)) for part in PARTS]
        return [
            (name, *(count[index] for count in counts))  # type: ignore[misc]
            for index, name in enumerate(self.classes)
        ]

    def record(self, parts: Sequence[Part] = PARTS) -> DataRecord:
        """Return the plain values that checkpoints keep of the data."""
        return {
            "classes": list(self.classes),
            "split": self.split,
            "part": self.part,
            "flow": flow_record(self.store.options),
            "clips": {part: _digest(self.ids(part)) for part in parts},
        }


def flow_record(options: StoreOptions) -> FlowRecord:
    """Return the record of the settings of a store's frames and flow."""
    texts = {name: str(value) for name, value in options.to_attrs().items()}
    # Engines of one set of parameters differ by roundings: no other flow to a network.
    return FlowRecord(
        bound=float(options.bound_px),
        fields=texts["fields"],
        flow_codec=options.flow_codec,
        frame_codec=options.frame_codec,
        jpeg_quality=options.jpeg_quality,
        resize=options.resize,
        rounding=texts["rounding"],
        sampling=options.sampling,
        step=options.step,
        tvl1_params=texts["tvl1_params"],
        tvl1_preset=texts["tvl1_preset"],
    )


def _digest(ids: Sequence[str]) -> str:
    text = json.dumps(sorted(ids), ensure_ascii=False)
    return f"{len(ids)} clips, sha256 {hashlib.sha256(text.encode()).hexdigest()[:16]}"


def split_of_all(store: Store, groups: Mapping[str, str] | None = None) -> Split:
    """Return the split in which every clip of a store trains, for `TrainConfig.all_clips`.

    Parameters
    ----------
    store
        With the clips.
    groups
        Of each id, as `Split` has them; None is none.
    """
    return Split(name=ALL, kind="subset", parts=dict.fromkeys(store, TRAIN), groups=groups or {})


def plan_trial(store: Store, split: Split, config: TrainConfig, *, fold: str | None = None) -> TrialData:
    """Divide a split's training list as a configuration asks for.

    Parameters
    ----------
    store
        Has flow, labels, and frames where the rgb stream is trained.
    split
        Of the store's videos; its subset "validation", where it has one, is the validation part. With
        `TrainConfig.all_clips` that of `split_of_all`.
    config
        The source of the gate's data, and the fractions that are kept aside.
    fold
        The fold that is tested, of a split of folds.

    Raises
    ------
    InputError
        The store has no labels, or no frames for the rgb stream; a listed video is absent; a group is on both
        sides; or a class would have no clip to learn from.
    """
    named = _labels(store)
    check_split(split, named)
    if store.options.frame_codec == "none" and "rgb" in config.modalities:
        raise InputError(
            f"{store.path} keeps no frames (--frames none), and the rgb stream needs them; take --streams "
            "flow, or extract again"
        )
    train, test = (split.ids(TRAIN), ()) if config.all_clips else split.train_test(fold)
    listed = (*train, *split.validation, *test)
    present = {named[k] for k in listed}
    classes = tuple(name for name in store.labels if name in present)
    if len(classes) < 2:
        raise InputError(f"the split {split.name!r} has {len(classes)} class; training needs 2 or more")
    index = {name: number for number, name in enumerate(classes)}
    groups = {k: split.groups.get(k, k) for k in listed}
    rest, validation = train, split.validation
    if config.head == "clip":  # held-out scores of all of them do what a validation part would
        rest, validation = (*train, *validation), ()
    elif not validation and not config.all_clips:
        rest, validation = _part_off(train, named, groups, fraction=config.validation_share, seed=config.seed)
    learned, gate, folds = _gate_parts(rest, named, groups, config)
    data = TrialData(
        store=store,
        split=split.name,
        part=ALL if config.all_clips else fold or "test",
        classes=classes,
        labels={k: index[named[k]] for k in listed},
        groups=groups,
        train=learned,
        gate=gate,
        validation=validation,
        test=tuple(test),
        folds=folds,
        source=split,
    )
    _check_learnable(data)
    return data


def _labels(store: Store) -> dict[str, str]:
    named = dict(zip(store, store.column("label"), strict=True))
    if not any(named.values()):
        raise InputError(
            f"{store.path} has no labels; extract from one folder a class, with --list and --classes, or "
            "give them with `flowkit relabel`"
        )
    return named


def _gate_parts(
    rest: tuple[str, ...], labels: dict[str, str], groups: dict[str, str], config: TrainConfig
) -> tuple[tuple[str, ...], tuple[str, ...], tuple[tuple[str, ...], ...]]:
    """Return the clips that the streams learn from, those of the gate, and the out-of-fold streams' folds."""
    if config.gate_data == "holdout":
        learned, gate = _part_off(rest, labels, groups, fraction=config.holdout_share, seed=config.seed + 1)
        return learned, gate, ()
    needs_held_out = config.fusion == "gating" or config.head == "clip" or config.all_clips
    if config.gate_data == "same" or not needs_held_out:
        return rest, rest, ()
    return rest, rest, _folds(rest, labels, groups, count=config.stream_folds, seed=config.seed + 1)


def _part_off(
    ids: Sequence[str], labels: dict[str, str], groups: dict[str, str], *, fraction: float, seed: int
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the rest and a part of about a fraction, with even class counts and whole groups."""
    parts = _folds(ids, labels, groups, count=round(1 / fraction), seed=seed)
    taken = frozenset(parts[0])
    return tuple(k for k in ids if k not in taken), parts[0]


def _folds(
    ids: Sequence[str], labels: dict[str, str], groups: dict[str, str], *, count: int, seed: int
) -> tuple[tuple[str, ...], ...]:
    if len(ids) < 2:
        raise InputError(
            f"{len(ids)} training clips cannot be divided further for validation and the gate; add clips, or "
            "take --gate-data same and a split with a validation subset"
        )
    return held_out_folds({k: labels[k] for k in ids}, groups, count=count, seed=seed)


def held_out_folds(
    labels: Mapping[str, str], groups: Mapping[str, str], *, count: int, seed: int
) -> tuple[tuple[str, ...], ...]:
    """Return training clips in folds of even class counts and whole groups; a single group is divided.

    Parameters
    ----------
    labels
        Of the clips.
    groups
        Of these clips, and perhaps of others.
    count
        Most folds; there are no more than groups.
    seed
        Of the division.
    """
    own = {k: groups[k] for k in labels}
    if len(set(own.values())) < 2:
        warnings.warn(
            f"all {len(own)} training clips are of one group: they are divided without regard to it, so "
            "that held-out scores may be too good",
            RuntimeWarning,
            stacklevel=2,
        )
        own = {k: k for k in labels}
    folds = k_fold(labels, min(count, len(set(own.values()))), groups=own, seed=seed)
    return tuple(folds.ids(name) for name in folds.names)


def _check_learnable(data: TrialData) -> None:
    """Raise InputError where a class has no clip that the streams, or an out-of-fold pair, learn from."""
    for left_out in ((), *data.folds):
        there = {data.labels[k] for k in data.train if k not in set(left_out)}
        if missing := [name for index, name in enumerate(data.classes) if index not in there]:
            raise InputError(
                f"{len(missing)} classes have no clip to learn from once whole groups are kept aside for "
                f"validation and the gate: {missing[:_NAMED]}; add clips, give more groups, or lower "
                "--validation-share, --holdout-share or --stream-folds"
            )
