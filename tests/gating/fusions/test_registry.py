"""A fusion is one class and one line: comparison, results, table and page ask it for the rest."""

from __future__ import annotations

import ast
import dataclasses
import json
import math
import re
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")

import torch

from flowkit_cli.fusion_table import print_table
from gating.config import CHOSEN
from gating.evaluation.comparison import compare_fusions
from gating.evaluation.results import fusion_results, read_comparison, read_comparisons
from gating.fusions import (
    FUSIONS,
    Fusion,
    FusionData,
    Kind,
    Scores,
    build_fusion,
    in_order,
    kind_of,
    probabilities_of,
    softmax,
)
from gating.report import write_report
from gating.statistics import calibration
from tests.make import fusion_data
from tests.make.fusion_data import accuracy, clips, fuse_all
from tests.make.scores import CHEAP, made_scores, write_run

ROOT = Path(__file__).resolve().parent.parent.parent.parent
CLASSES = ("up", "down", "still")


class Toy(Fusion):
    """Half of each stream's probabilities: sums to 1 for each clip, and no score before softmax."""

    kind = Kind.LEARNED
    sums = "probabilities"
    needs = frozenset({"features"})

    def fit(self, data: FusionData, *, seed: int) -> None:
        self.seen = len(data.labels)
        data.both_features()

    def apply(self, data: FusionData) -> Scores:
        return (softmax(data.flow) + softmax(data.rgb)) / 2


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run whose fusions are all of the registry, the toy among them."""
    monkeypatch.setitem(FUSIONS, "toy", Toy)
    clips, held, validation = (
        made_scores([f"{part}{k}" for k in range(18)], CLASSES, seed=seed, features=part != "held")
        for seed, part in enumerate(("test", "held", "validation"))
    )
    return write_run(tmp_path, [compare_fusions(clips, fit_on=held, validation=validation, split="s")])


def test_a_registered_fusion_is_compared_and_written(run: Path) -> None:
    comparison = read_comparison(run / "s-test" / "seed0")
    results = json.loads((run / "results.json").read_text())
    assert set(comparison.fused) == set(results["fusions"]) - {CHOSEN} == set(FUSIONS)
    # Its scores are probabilities: another softmax on them would be another confidence.
    expected = calibration(comparison.fused["toy"], comparison.scores.labels).error
    assert results["fusions"]["toy"]["calibration_error"] == pytest.approx(expected, abs=1e-12)
    assert [gain["rival"] for gain in results["gains"]].count("toy") == 1


def test_a_registered_fusion_stands_in_the_commands_table(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    print_table(fusion_results(read_comparisons(run)))
    names = [line.split()[0] for line in capsys.readouterr().out.splitlines() if line]
    assert names[names.index("attention") : names.index("oracle") + 1] == [
        "attention",
        "toy",
        "gating",
        "chosen",
        "oracle",
    ]


def test_a_registered_fusion_stands_on_the_page_with_its_kind(run: Path) -> None:
    page = write_report(run).read_text(encoding="utf-8")
    rows = [re.sub(r"<[^>]*>", " ", row).split() for row in re.findall(r"<tr.*?</tr>", page, flags=re.DOTALL)]
    assert [row[:2] for row in rows if row and row[0] == "toy"] == [["toy", "learned"]]
    order = [row[0] for row in rows if row and row[0] in ("attention", "toy", "gating", "oracle")]
    assert order[:4] == ["attention", "toy", "gating", "oracle"]
    assert [row[1:3] for row in rows if row and row[0] == "qmf"] == [["by", "confidence"]]


def test_what_needs_features_is_fitted_on_clips_that_have_them(monkeypatch: pytest.MonkeyPatch) -> None:
    fitted: list[Toy] = []

    def build() -> Toy:
        fitted.append(Toy())
        return fitted[-1]

    monkeypatch.setitem(FUSIONS, "toy", build)
    test, held, validation = (
        made_scores([f"{k}" for k in range(count)], CLASSES, features=count != 12) for count in (9, 12, 15)
    )
    compare_fusions(test, fit_on=held, validation=validation, split="s", names=["toy"])
    assert [one.seen for one in fitted if hasattr(one, "seen")] == [15]


def test_a_bound_comes_last_and_has_no_calibration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Bound(Toy):
        kind = Kind.BOUND

    monkeypatch.setitem(FUSIONS, "toy", Bound)
    made = made_scores([f"{k}" for k in range(12)], CLASSES)
    trial = compare_fusions(made, fit_on=made, validation=made, split="s", names=["toy", *CHEAP])
    assert math.isnan(fusion_results([trial]).fusions["toy"].calibration_error)
    assert in_order(["toy", "gating", "oracle", "rgb"]) == ["rgb", "gating", "oracle", "toy"]


def test_fusions_stand_by_kind_with_the_oracle_last() -> None:
    given = ["oracle", "gating", "mine", "stack", "search", "rgb", "flow"]
    assert in_order(given) == ["rgb", "flow", "search", "stack", "gating", "mine", "oracle"]


def test_every_fusion_declares_itself() -> None:
    built = {name: build_fusion(name) for name in FUSIONS}
    assert {name for name, one in built.items() if one.sums == "probabilities"} == {
        *("average-probabilities", "weighted-probabilities", "search-probabilities"),
        "calibrated-probabilities",
    }
    assert {name: set(one.needs) for name, one in built.items() if one.needs} == {
        "features": {"features"},
        "gmu": {"features"},
        "attention": {"features"},
        "oracle": {"labels"},
        "gating": {"images"},
    }
    assert (kind_of("rgb"), kind_of("search"), kind_of("mine")) == (Kind.STREAM, Kind.FIXED, Kind.OTHER)
    assert (kind_of("qmf"), kind_of("calibrated"), kind_of("pdf")) == (
        *(Kind.CONFIDENCE, Kind.LEARNED, Kind.LEARNED),
    )


def test_sums_of_probabilities_are_scaled_and_scores_go_through_softmax() -> None:
    sums = np.array([[1.5, 1.0], [0.5, 2.0]])
    np.testing.assert_allclose(probabilities_of("average-probabilities", sums), [[0.6, 0.4], [0.2, 0.8]])
    np.testing.assert_allclose(probabilities_of("average", np.log(sums)), [[0.6, 0.4], [0.2, 0.8]])
    np.testing.assert_allclose(probabilities_of("mine", np.log(sums)), [[0.6, 0.4], [0.2, 0.8]])


def test_names_of_fusions_stand_in_the_registry_and_the_documentation_alone() -> None:
    own = {"average-probabilities", "weighted-probabilities", "search-probabilities", "score-gate", "gmu"}
    own |= {"qmf", "calibrated", "calibrated-probabilities", "pdf"}
    assert own < set(FUSIONS)
    listing = {
        path.relative_to(ROOT).as_posix()
        for package in ("gating", "cli")
        for path in (ROOT / package).rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Constant) and node.value in own
    }
    assert listing == {"gating/fusions/__init__.py"}
    documented = set(re.findall(r"`([a-z-]+)`", (ROOT / "docs" / "gating.md").read_text()))
    assert set(FUSIONS) - {"gating"} <= documented


LEARNED = tuple(name for name in FUSIONS if kind_of(name) == Kind.LEARNED)


def test_all_of_the_list_give_scores_of_every_clip() -> None:
    fit_on, test = clips(60), clips(17, seed=1)
    scores = fuse_all(fit_on, test, seed=0)
    assert list(scores) == [
        *("rgb", "flow", "average", "average-probabilities", "weighted", "weighted-probabilities"),
        *("search", "search-probabilities", "qmf", "global", "per-class", "calibrated"),
        *("calibrated-probabilities", "stack", "score-gate", "pdf", "features", "gmu", "attention"),
        *("oracle", "gating"),
    ]
    for name, values in scores.items():
        assert values.shape == (17, fusion_data.CLASSES), name
        assert values.dtype == np.float64, name
        assert np.isfinite(values).all(), name


def test_without_a_gate_or_features_their_fusions_are_left_out() -> None:
    bare = dataclasses.replace(clips(20), gates=None, gated=None, flow_features=None, rgb_features=None)
    assert set(FUSIONS) - set(fuse_all(bare, bare, seed=0)) == {"gating", "features", "gmu", "attention"}


@pytest.mark.parametrize("name", LEARNED)
def test_learned_fusions_beat_either_stream_where_they_complement_each_other(name: str) -> None:
    fit_on, test = clips(400), clips(400, seed=1)
    alone = max(accuracy("rgb", fit_on, test), accuracy("flow", fit_on, test))
    assert accuracy(name, fit_on, test) > alone + 0.1


@pytest.mark.parametrize("name", LEARNED)
def test_the_seed_decides_and_torchs_generator_is_left_alone(name: str) -> None:
    fit_on, test = clips(60), clips(20, seed=1)
    before = torch.get_rng_state()
    one, two = (fuse_all(fit_on, test, seed=3, names=[name])[name] for _ in range(2))
    np.testing.assert_array_equal(one, two)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("name", ["score-gate", "gmu", "attention"])
def test_another_seed_gives_another_net(name: str) -> None:
    fit_on = clips(60)
    one, two = (fuse_all(fit_on, fit_on, seed=seed, names=[name])[name] for seed in (0, 1))
    assert not np.array_equal(one, two)


@pytest.mark.parametrize("name", [name for name in FUSIONS if name != "oracle"])
def test_only_the_oracle_reads_the_labels_of_what_it_is_applied_to(name: str) -> None:
    fit_on, test = clips(60), clips(20, seed=1)
    blind = dataclasses.replace(test, labels=np.zeros_like(test.labels))
    np.testing.assert_array_equal(
        fuse_all(fit_on, test, seed=0, names=[name])[name],
        fuse_all(fit_on, blind, seed=0, names=[name])[name],
    )


RIVALS = ("qmf", "calibrated", "calibrated-probabilities", "pdf")


@pytest.mark.parametrize("name", [*RIVALS, "attention"])
@pytest.mark.parametrize(("classes", "count"), [(2, 20), (100, 20)])
def test_few_clips_of_few_or_many_classes_are_fused(name: str, classes: int, count: int) -> None:
    """Most of the hundred classes have no clip to learn from."""
    fit_on, test = (noisy(count, classes, seed=seed) for seed in (0, 1))
    scores = fuse_all(fit_on, test, seed=0, names=[name])[name]
    assert scores.shape == (count, classes)
    assert scores.dtype == np.float64
    assert np.isfinite(scores).all()
    weights = fitted(name, fit_on).clip_weights(test)
    assert weights is None or (weights.shape == (count, 2) and (weights >= 0).all())


def noisy(count: int, classes: int, *, seed: int) -> FusionData:
    """Scores and features of two streams that know a little."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(classes, size=count)
    flow, rgb = (2 * np.eye(classes)[labels] + rng.normal(size=(count, classes)) for _ in range(2))
    return FusionData(flow=flow, rgb=rgb, labels=labels, flow_features=flow[:, :8], rgb_features=rgb[:, :8])


def fitted(name: str, data: FusionData) -> Fusion:
    fusion = build_fusion(name)
    fusion.fit(data, seed=0)
    return fusion


@pytest.mark.parametrize("name", RIVALS)
def test_the_order_of_classes_and_clips_does_not_count(name: str) -> None:
    """Scores go with their classes and clips; 1e-3 is the optimiser's."""
    fit_on, test = clips(80), clips(20, seed=1)
    classes, members = np.array([2, 0, 3, 1]), np.random.default_rng(0).permutation(80)
    turned = [
        dataclasses.replace(
            one, flow=one.flow[:, classes], rgb=one.rgb[:, classes], labels=np.argsort(classes)[one.labels]
        )
        for one in (fit_on, test)
    ]
    scores = fuse_all(fit_on, test, seed=0, names=[name])[name]
    np.testing.assert_allclose(
        fuse_all(turned[0], turned[1], seed=0, names=[name])[name], scores[:, classes], atol=1e-3
    )
    mixed = dataclasses.replace(
        fit_on,
        flow=fit_on.flow[members],
        rgb=fit_on.rgb[members],
        labels=fit_on.labels[members],
        groups=None if fit_on.groups is None else fit_on.groups[members],
        flow_features=None,
        rgb_features=None,
        gates=None,
        gated=None,
    )
    np.testing.assert_allclose(fuse_all(mixed, test, seed=0, names=[name])[name], scores, atol=1e-3)
    backwards = fitted(name, fit_on).apply(
        dataclasses.replace(test, flow=test.flow[::-1], rgb=test.rgb[::-1])
    )
    np.testing.assert_allclose(backwards[::-1], scores, atol=1e-12)
