"""The parts of a trial: no clip is in two, and groups stay whole."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("torch")

import flowkit
from flowkit.datasets import Split
from flowkit.errors import InputError
from flowkit.extraction.config import ExtractConfig
from flowkit.store.read.store import Store
from gating.data.partition import TrialData, plan_trial
from gating.train_config import GateData
from gating.training.checkpoint import differences
from tests.make import small
from tests.make.labelled import five_folds, quick


def planned(store: Store, gate_data: GateData, **changes: object) -> TrialData:
    return plan_trial(store, five_folds(store), quick(gate_data=gate_data, **changes), fold="0")


def groups(data: TrialData, ids: tuple[str, ...]) -> set[str]:
    return {data.groups[k] for k in ids}


def test_holdout_keeps_the_parts_and_their_groups_apart(labelled_store: Store) -> None:
    data = planned(labelled_store, "holdout")
    parts = [data.train, data.gate, data.validation, data.test]
    assert sorted(k for ids in parts for k in ids) == sorted(labelled_store)
    assert sum(len(groups(data, ids)) for ids in parts) == 5


def test_out_of_fold_divides_what_the_streams_learn_from(labelled_store: Store) -> None:
    data = planned(labelled_store, "out-of-fold", stream_folds=3)
    assert data.gate == data.train
    assert sorted(k for ids in data.folds for k in ids) == sorted(data.train)
    assert len(data.folds) == 3
    assert sum(len(groups(data, ids)) for ids in data.folds) == len(groups(data, data.train))


def test_same_and_other_fusions_need_no_folds(labelled_store: Store) -> None:
    assert planned(labelled_store, "same").folds == ()
    assert planned(labelled_store, "out-of-fold", fusion="search").folds == ()


def test_seeds_divide_differently_and_equal_ones_alike(labelled_store: Store) -> None:
    found = {planned(labelled_store, "holdout", seed=seed).validation for seed in range(6)}
    assert len(found) > 1
    assert planned(labelled_store, "holdout") == planned(labelled_store, "holdout")


def subsets(store: Store, names: dict[str, str]) -> Split:
    """The five folds as subsets, by the name of the fold; folds without one are trained on."""
    folds = five_folds(store)
    parts = {k: names.get(fold, "train") for k, fold in folds.parts.items()}
    return Split(name="given", kind="subset", parts=parts, groups=folds.groups)


def test_the_split_s_own_validation_part_is_taken_whole(labelled_store: Store) -> None:
    folds = five_folds(labelled_store)
    split = subsets(labelled_store, {"0": "test", "1": "Valid"})
    data = plan_trial(labelled_store, split, quick(gate_data="same"))
    assert set(data.validation) == set(folds.ids("1"))
    assert set(data.test) == set(folds.ids("0"))
    assert set(data.train) == {k for fold in "234" for k in folds.ids(fold)}
    assert set(data.labels) == set(labelled_store)
    assert sum(count[3] for count in data.balance()) == len(data.validation)


def test_a_group_in_training_and_validation_is_refused(labelled_store: Store) -> None:
    split = subsets(labelled_store, {"0": "test"})
    first = next(k for k, part in split.parts.items() if part == "train")
    leaky = Split(name="l", kind="subset", parts={**split.parts, first: "val"}, groups=split.groups)
    with pytest.raises(InputError, match=r"leaks.*train and validation"):
        plan_trial(labelled_store, leaky, quick())


def test_a_split_that_leaks_a_group_is_refused(labelled_store: Store) -> None:
    honest = five_folds(labelled_store)
    first = next(iter(honest.parts))
    leaky = Split(
        name="leaky",
        kind="fold",
        parts={**honest.parts, first: "1" if honest.parts[first] == "0" else "0"},
        groups=honest.groups,
    )
    with pytest.raises(InputError, match="leaks"):
        plan_trial(labelled_store, leaky, quick(), fold="0")


def test_a_class_without_clips_to_learn_from_is_named(labelled_store: Store) -> None:
    named = dict(zip(labelled_store, labelled_store.column("label"), strict=True))
    one, other = sorted(set(named.values()))
    several = [k for k in named if named[k] == one]
    single = next(k for k in named if named[k] == other)
    tested = next(k for k in named if named[k] == other and k != single)
    parts = {**dict.fromkeys(several, "train"), single: "train", tested: "test"}
    split = Split(name="thin", kind="subset", parts=parts)

    def plan_all(seeds: range) -> None:
        for seed in seeds:
            plan_trial(labelled_store, split, quick(gate_data="holdout", seed=seed))

    # With one of these seeds the only clip is kept aside.
    with pytest.raises(InputError, match=other):
        plan_all(range(20))


@pytest.mark.parametrize("gate_data", ["holdout", "out-of-fold"])
def test_a_training_list_too_short_to_divide_is_named(labelled_store: Store, gate_data: GateData) -> None:
    named = dict(zip(labelled_store, labelled_store.column("label"), strict=True))
    by_class = {label: [k for k in named if named[k] == label] for label in set(named.values())}
    parts = {k: "train" if k == ids[0] else "test" for ids in by_class.values() for k in ids}
    with pytest.raises(InputError, match=r"1 training clips cannot be divided.*--gate-data same"):
        plan_trial(labelled_store, Split(name="s", kind="subset", parts=parts), quick(gate_data=gate_data))


def test_training_clips_of_one_group_are_divided_with_a_warning(labelled_store: Store) -> None:
    split = five_folds(labelled_store)
    parts = {k: "test" if fold == "0" else "train" for k, fold in split.parts.items()}
    one_group = {k: "all" for k, part in parts.items() if part == "train"}
    with pytest.warns(RuntimeWarning, match="one group"):
        plan_trial(labelled_store, Split(name="one", kind="subset", parts=parts, groups=one_group), quick())


def test_a_store_without_frames_is_refused(videos: Path, store: Path) -> None:
    config = ExtractConfig(resize=small.NATIVE, jobs=1, frame_codec="none")
    small.run(videos, store, config)
    with flowkit.open(store) as opened:
        # Both videos carry labels only below a class folder: give a split of the labelled one.
        named = dict(zip(opened, opened.column("label"), strict=True))
        parts = {k: "train" if n % 2 == 0 else "test" for n, (k, label) in enumerate(named.items()) if label}
        parts.setdefault("drift/one", "train")
        split = Split(name="s", kind="fold", parts={**parts, "drift/one": "0"})
        with pytest.raises(InputError):
            plan_trial(opened, split, quick(), fold="0")


def test_the_record_differs_by_other_flow_and_other_clips(labelled_store: Store) -> None:
    here = planned(labelled_store, "holdout").record()
    other = planned(labelled_store, "same").record()
    assert here["flow"] == other["flow"]
    assert {line.split(" ")[0] for line in differences(here, other)} == {"clips.gate", "clips.learn"}
    slower = {**here, "flow": {**here["flow"], "step": 2}}
    assert differences(here, slower) == ["flow.step is 1 there and 2 here"]


def test_a_store_without_labels_cannot_be_trained_on(labelled_store: Store) -> None:
    class Unlabelled:
        path, labels, options = labelled_store.path, (), labelled_store.options

        def __iter__(self) -> Iterator[str]:
            return iter(labelled_store)

        def column(self, name: str) -> list[str]:
            return [""] * len(labelled_store)

    with pytest.raises(InputError, match=r"has no labels.*flowkit relabel"):
        plan_trial(Unlabelled(), five_folds(labelled_store), quick(), fold="0")  # type: ignore[arg-type]
