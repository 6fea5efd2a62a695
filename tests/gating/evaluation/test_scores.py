"""Scores by networks, in the order asked for and averaged; as files, and their damage."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")

import torch

from flowkit.store.read.store import Store
from gating.arrays import read_arrays, write_arrays
from gating.config import LoaderConfig
from gating.data.loader import ClipLoader
from gating.data.partition import plan_trial
from gating.distributed import ProcessGroup
from gating.errors import ScoresError
from gating.evaluation.scores import ClipScores, Networks, joined_scores, load_scores, score_clips
from gating.models.gate import GatingConvNet
from gating.models.streams import Stream
from tests.make.labelled import five_folds, quick
from tests.make.scores import made_scores

IDS = ("a/1", "b/2", "<c>&'\"/3", "d/\u00e4")


@pytest.fixture
def scores() -> ClipScores:
    return made_scores(IDS, ("up", "down"))


def assert_equal(one: ClipScores, other: ClipScores) -> None:
    for field in dataclasses.fields(ClipScores):
        a, b = getattr(one, field.name), getattr(other, field.name)
        if isinstance(a, np.ndarray):
            np.testing.assert_array_equal(a, b)
            assert a.dtype == b.dtype
        else:
            assert a == b


@pytest.mark.parametrize("features", [True, False])
@pytest.mark.parametrize("gate", [True, False])
def test_what_is_saved_is_loaded(tmp_path: Path, features: bool, gate: bool) -> None:
    scores = made_scores(IDS, ("up", "down"), features=features, gate=gate)
    scores.save(tmp_path / "new" / "test.npz")
    assert_equal(load_scores(tmp_path / "new" / "test.npz"), scores)
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["test.npz"]


def test_saving_replaces(tmp_path: Path, scores: ClipScores) -> None:
    path = tmp_path / "test.npz"
    made_scores(IDS, ("left", "right"), seed=5).save(path)
    scores.save(path)
    assert_equal(load_scores(path), scores)


def test_every_damage_is_a_scores_error(tmp_path: Path, scores: ClipScores) -> None:
    """A byte changed anywhere, or a file that ends anywhere, gives the scores or the one error."""
    path = tmp_path / "test.npz"
    scores.save(path)
    whole = path.read_bytes()
    refused = 0
    for position in range(0, len(whole), 7):
        for damaged in (
            whole[:position],
            whole[:position] + bytes([whole[position] ^ 0xFF]) + whole[position + 1 :],
        ):
            path.write_bytes(damaged)
            try:
                load_scores(path)
            except ScoresError:
                refused += 1
    # All that end early are refused, and most changes too: every array has a checksum.
    assert refused > len(whole) / 7 * 1.5


@pytest.mark.parametrize("name", ["absent.npz", "array.npz", "text.npz", "foreign.npz"])
def test_what_is_no_file_of_scores_is_refused(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    if name == "array.npz":
        with path.open("wb") as file:
            np.save(file, np.zeros(3))
    elif name == "text.npz":
        path.write_text("scores")
    elif name == "foreign.npz":
        np.savez(path, head=json.dumps({"format": "flowkit-scores 99"}))
    with pytest.raises(ScoresError, match=name):
        load_scores(path)


@pytest.mark.parametrize(
    "change",
    [
        {"groups": ("a",)},
        {"labels": np.array([0, 1, 0, 2])},
        {"labels": np.array([0, -2, 0, 1])},
        {"flow": np.zeros((4, 3))},
        {"gates": np.zeros((3, 2))},
    ],
)
def test_arrays_of_other_clips_or_classes_are_refused(scores: ClipScores, change: dict[str, object]) -> None:
    with pytest.raises(ScoresError):
        dataclasses.replace(scores, **change)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("ids", 3), ("ids", [1, 2]), ("groups", None), ("classes", "ab"), ("segments", "1"), ("crops", [])),
        *(("more", 1), ("format", None)),
    ],
)
def test_a_head_of_other_types_is_refused(
    tmp_path: Path, scores: ClipScores, name: str, value: object
) -> None:
    scores.save(tmp_path / "s.npz")
    found = read_arrays(tmp_path / "s.npz")
    head = json.dumps({**json.loads(str(found["head"])), name: value})
    write_arrays(tmp_path / "s.npz", {**found, "head": head})
    with pytest.raises(ScoresError, match=r"s\.npz (holds no scores|is not of format)"):
        load_scores(tmp_path / "s.npz")


@pytest.mark.parametrize("name", ["labels", "flow", "rgb", "flow_features", "gates", "gated"])
def test_arrays_of_other_types_or_axes_are_refused(tmp_path: Path, scores: ClipScores, name: str) -> None:
    scores.save(tmp_path / "s.npz")
    found = read_arrays(tmp_path / "s.npz")
    one = found[name]
    for other in (one.astype(complex), one.astype("U9"), one.astype("i1"), one[..., None], np.float64(1)):
        write_arrays(tmp_path / "s.npz", {**found, name: other})
        with pytest.raises(ScoresError, match=name):
            load_scores(tmp_path / "s.npz")


@pytest.fixture
def loader(labelled_store: Store) -> ClipLoader:
    config = quick()
    data = plan_trial(labelled_store, five_folds(labelled_store), config, fold="0")
    inputs = Stream(config.stream("rgb", 2)).backbone.inputs
    group = ProcessGroup(torch.device("cpu"))
    return ClipLoader(data, config, inputs, process_group=group, loader_config=LoaderConfig(micro_batch=3))


@pytest.fixture
def networks() -> Networks:
    config = quick()
    flow, rgb = Stream(config.stream("flow", 2)), Stream(config.stream("rgb", 2))
    gate = GatingConvNet(config=config.gate_net(2, flow.tap_channels))
    return Networks(flow=flow, rgb=rgb, gate=gate)


def test_scores_come_in_the_order_of_the_ids(loader: ClipLoader, networks: Networks) -> None:
    ids = loader.data.test
    there = score_clips(networks, loader, ids, segments=2)
    back = score_clips(networks, loader, ids[::-1], segments=2)
    assert (there.ids, back.ids) == (ids, ids[::-1])
    assert there.labels.tolist() == [loader.data.labels[k] for k in ids]
    assert there.groups == tuple(loader.data.groups[k] for k in ids)
    # Other clips in the same batch, whose sums a library may order otherwise: float32's noise.
    np.testing.assert_allclose(back.flow[::-1], there.flow, rtol=1e-4, atol=1e-6)
    assert there.flow.dtype == np.float64
    assert there.flow.shape == (len(ids), 2)


def test_gated_scores_are_the_weighed_sum_of_the_streams(loader: ClipLoader, networks: Networks) -> None:
    found = score_clips(networks, loader, loader.data.test, segments=2, crops=5)
    assert found.gates is not None
    assert found.gated is not None
    assert (found.segments, found.crops) == (2, 5)
    weighed = found.gates[:, :1] * found.flow + found.gates[:, 1:] * found.rgb
    np.testing.assert_allclose(found.gated, weighed, rtol=1e-5, atol=1e-6)


def test_zero_gates_are_kept_and_the_fixed_weights_fuse(loader: ClipLoader, networks: Networks) -> None:
    assert networks.gate is not None
    with torch.no_grad():
        networks.gate.fc_gate.weight.zero_()
        networks.gate.fc_gate.bias.fill_(-1.0)
    found = score_clips(networks, loader, loader.data.test, segments=1)
    assert found.gates is not None
    assert found.gated is not None
    assert not found.gates.any()
    np.testing.assert_allclose(found.gated, 1.5 * found.flow + found.rgb, rtol=1e-5, atol=1e-6)


def test_features_and_the_gate_are_optional(loader: ClipLoader, networks: Networks) -> None:
    streams = dataclasses.replace(networks, gate=None)
    found = score_clips(streams, loader, loader.data.test, segments=1, features=False)
    assert (found.gates, found.gated, found.flow_features, found.rgb_features) == (None, None, None, None)
    assert score_clips(streams, loader, loader.data.test, segments=1).flow_features is not None


def test_joined_scores_keep_the_order_of_their_parts(tmp_path: Path) -> None:
    one, other = made_scores(["a", "b"], ("up", "down")), made_scores(["c"], ("up", "down"), seed=1)
    both = joined_scores([one, other])
    assert both.ids == ("a", "b", "c")
    np.testing.assert_array_equal(both.rgb, np.concatenate([one.rgb, other.rgb]))
    without = [dataclasses.replace(part, gates=None, gated=None) for part in (one, other)]
    assert joined_scores(without).gates is None
