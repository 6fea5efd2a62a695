"""A run as a graph of torch.export: loaded where neither flowkit nor gating can be imported."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")

import torch

import flowkit
from flowkit.datasets import ClipSamples, Sampling
from flowkit.errors import InputError, InvalidParameterError
from gating.config import AugmentConfig
from gating.data.augment import evaluation_crops
from gating.evaluation.scores import load_scores
from gating.fusions import FUSIONS, build_fusion
from gating.load import ChosenFusion
from gating.model_export import export_model
from gating.model_graph import fusion_graph, tensor_crops
from gating.models import streams
from gating.prediction import Prediction, PredictOptions, predict
from gating.run import RunOptions, train
from gating.run_folder import scores_path
from tests.gating.frozen import test_trial as frozen
from tests.make.finished_runs import FinishedRun, prefer, train_run
from tests.make.labelled import five_folds

# -I leaves out PYTHONPATH and this folder; an installed flowkit is refused by the finder.
ELSEWHERE = """
import json, sys

class Refused:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("flowkit", "gating", "flowkit_cli"):
            raise ImportError(f"{name} is not there")

sys.meta_path.insert(0, Refused())
import numpy, torch

torch.set_num_threads(1)
for model, inputs, outputs in json.loads(sys.argv[1]):
    extra = {"flowkit.json": ""}
    program = torch.export.load(model, extra_files=extra)
    assert json.loads(extra["flowkit.json"])["classes"], extra
    given = numpy.load(inputs)
    made = program.module()(*(torch.from_numpy(given[name]) for name in ("rgb", "flow")))
    numpy.savez(outputs, **{name: value.numpy() for name, value in made.items()})
"""


@pytest.fixture(scope="module")
def tiny(labelled_path: Path, tmp_path_factory: pytest.TempPathFactory) -> FinishedRun:
    return train_run(labelled_path, tmp_path_factory.mktemp("exporting"))


@pytest.fixture(scope="module")
def heads(tiny: FinishedRun) -> Path:
    """A run of heads on frozen backbones, random ones."""
    with pytest.MonkeyPatch.context() as patch:
        seed_backbones(patch)
        out = tiny.out.parent / "heads"
        with flowkit.open(tiny.store) as store:
            train(
                store, [five_folds(store)], frozen.config(), RunOptions(out=out, folds=("0",), device="cpu")
            )
    return out


@pytest.fixture(autouse=True)
def seeded(monkeypatch: pytest.MonkeyPatch) -> None:
    seed_backbones(monkeypatch)


def seed_backbones(patch: pytest.MonkeyPatch) -> None:
    build = streams.build_stream

    def made(config: Any) -> streams.Stream:
        torch.manual_seed(0)
        return build(config)

    for module in ("gating.frozen.trial", "gating.load"):
        patch.setattr(f"{module}.build_stream", made)


def inputs_of(store: Path, card: dict[str, Any], ids: tuple[str, ...]) -> dict[str, Any]:
    """Frames and flow in px of clips, as the card says."""
    about = card["sampling"]
    sampling = Sampling(segments=about["segments"], stack=about["stack"], short=about["short"])
    with flowkit.open(store) as opened:
        samples = ClipSamples(opened, ids=ids, sampling=sampling, flow_form="px")
        batch = samples.read([(0, k) for k in range(len(ids))])
    assert batch.rgb is not None
    return {"rgb": np.ascontiguousarray(batch.rgb), "flow": batch.flow}


def test_a_model_gives_predicts_probabilities_without_flowkit(
    tiny: FinishedRun, heads: Path, tmp_path: Path
) -> None:
    prefer(tiny.trial, gate=1.0, search=0.0)
    (other,) = heads.glob("*/seed0")
    prefer(other, gate=0.0, search=1.0, search_share=0.25)
    expected, tasks = [], []
    for k, run in enumerate((tiny.out, heads)):
        with flowkit.open(tiny.store) as store:
            ids = tuple(store)[: 3 - 2 * k]  # several clips, and one
        card = dict(export_model(run, tmp_path / f"{k}.pt2").card)
        assert json.loads((tmp_path / f"{k}.pt2.json").read_text()) == card
        np.savez(tmp_path / f"in{k}.npz", **inputs_of(tiny.store, card, ids))
        tasks.append([str(tmp_path / name) for name in (f"{k}.pt2", f"in{k}.npz", f"out{k}.npz")])
        found = list(predict([tiny.store], run, PredictOptions(ids=ids, device="cpu")))
        expected.append((card, [one for one in found if isinstance(one, Prediction)]))
    done = subprocess.run(
        [sys.executable, "-I", "-c", ELSEWHERE, json.dumps(tasks)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    for k, (card, predictions) in enumerate(expected):
        made = np.load(tmp_path / f"out{k}.npz")
        assert {name: ["B", *made[name].shape[1:]] for name in made} == card["outputs"]
        assert len(made["probabilities"]) == len(predictions) == 3 - 2 * k
        for row, weights, one in zip(made["probabilities"], made["weights"], predictions, strict=True):
            own = dict(zip(one.classes, one.probabilities, strict=True))
            np.testing.assert_allclose(row, [own[name] for name in card["classes"]], rtol=0, atol=1e-5)
            assert one.weights is not None
            np.testing.assert_allclose(weights, one.weights, rtol=1e-5)
    assert [card["fusion"]["name"] for card, _ in expected] == ["gating", "search"]
    assert expected[0][0]["flow"]["extract"].startswith("flowkit extract --preset ")


@pytest.mark.parametrize("size", [(64, 64), (240, 320), (320, 240), (256, 340), (30, 41), (33, 200)])
@pytest.mark.parametrize("count", [1, 10])
def test_crops_of_symbols_are_those_of_numbers(size: tuple[int, int], count: Any) -> None:
    for augment in (AugmentConfig(), AugmentConfig(size=56), AugmentConfig(whole_frame=True)):
        if augment.whole_frame and count > 1:
            continue
        made = tensor_crops(torch.zeros(2, 3, *size), augment, count)
        for one, other in zip(made, evaluation_crops(2, size, augment, count), strict=True):
            assert torch.equal(one.boxes, other.boxes.float())
            assert torch.equal(one.flips, other.flips)


def test_each_fusion_is_as_the_table_has_it_or_is_refused(tiny: FinishedRun) -> None:
    data = load_scores(scores_path(tiny.trial, "test")).fusion_data()
    found = {
        name: torch.from_numpy(getattr(data, name)).float() for name in ("flow", "rgb", "gates", "gated")
    }
    refused = {"qmf", "stack", "score-gate", "pdf", "features", "gmu", "attention", "oracle"}
    for name in FUSIONS:
        fusion = build_fusion(name)
        chosen = ChosenFusion(name=name, reason="", fusion=fusion)
        if name in refused:
            with pytest.raises(InvalidParameterError, match=f"got {name!r}, which `flowkit predict`"):
                fusion_graph(chosen)
            continue
        fusion.fit(data, seed=0)
        made = fusion_graph(chosen)(found)
        expected = fusion.to_probabilities(fusion.apply(data))
        np.testing.assert_allclose(made["probabilities"].numpy(), expected, atol=1e-5, err_msg=name)
        if (weights := fusion.clip_weights(data)) is not None:
            np.testing.assert_allclose(made["weights"].numpy(), weights, rtol=1e-5, err_msg=name)


def test_what_cannot_be_written_is_refused_before_the_networks_are_read(
    tiny: FinishedRun, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match="there is no folder"):
        export_model(tiny.out, tmp_path / "no" / "model.pt2")
    with pytest.raises(InvalidParameterError, match=r"Invalid crops \(3\)"):
        export_model(tiny.out, tmp_path / "model.pt2", crops=3)  # type: ignore[arg-type]
    assert list(tmp_path.iterdir()) == []
