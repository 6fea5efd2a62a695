"""A trial's comparison on disk, and the results of a run."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")

from gating.config import CHOSEN, GATING
from gating.errors import ScoresError
from gating.evaluation.results import fusion_results, read_comparison, read_comparisons, write_comparison
from gating.run_folder import COMPARISON
from gating.statistics import top1
from tests.make.scores import CHEAP, made_comparison, write_run

CLASSES = ("up", "down", "still")
IDS = [f"clip{k}" for k in range(12)]


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return write_run(tmp_path, [made_comparison(IDS, CLASSES, seed=seed) for seed in (0, 1)])


def trial_of(out: Path) -> Path:
    return out / "split1-test" / "seed0"


def test_what_is_written_is_read(out: Path) -> None:
    first, second = read_comparisons(out)
    expected = made_comparison(IDS, CLASSES, seed=0)
    assert (first.seed, second.seed) == (0, 1)
    assert first.validation == expected.validation
    assert first.search_fraction == expected.search_fraction
    assert first.fused.keys() == expected.fused.keys()
    for name, scores in expected.fused.items():
        np.testing.assert_array_equal(first.fused[name], scores)


def test_no_trial_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ScoresError, match="no finished trial"):
        read_comparisons(tmp_path)


@pytest.mark.parametrize("name", ["fused.npz", COMPARISON, "scores/test.npz"])
@pytest.mark.parametrize("content", [None, b"", b"{", b"[1]"])
def test_a_file_absent_or_damaged_is_an_error(out: Path, name: str, content: bytes | None) -> None:
    path = trial_of(out) / name
    path.unlink() if content is None else path.write_bytes(content)
    with pytest.raises(ScoresError, match="seed0"):
        read_comparison(trial_of(out))


def test_a_comparison_with_a_field_too_many_is_refused(out: Path) -> None:
    path = trial_of(out) / COMPARISON
    path.write_text(json.dumps({**json.loads(path.read_text()), "extra": 1}))
    with pytest.raises(ScoresError, match="extra"):
        read_comparison(trial_of(out))


def test_fused_scores_of_other_clips_are_refused(out: Path) -> None:
    write_comparison(trial_of(out), made_comparison(IDS[:-1], CLASSES))
    with pytest.raises(ScoresError, match="flowkit eval"):
        read_comparison(trial_of(out))


def test_results_are_plain_json_that_repeats_each_trials_own_accuracy() -> None:
    trials = [made_comparison(IDS, CLASSES, seed=seed) for seed in (0, 1)]
    results = fusion_results(trials)
    assert math.isnan(results.fusions["oracle"].calibration_error)
    content = json.loads(json.dumps(results.to_json(), allow_nan=False))
    assert list(content["fusions"]) == [*CHEAP, GATING, CHOSEN]
    assert content["chosen"] in (GATING, "search")
    for trial, one in zip(content["trials"], trials, strict=True):
        assert trial["fusions"]["rgb"]["top1"] == top1(one.fused["rgb"], one.scores.labels)
    assert content["fusions"]["oracle"]["calibration_error"] is None


@pytest.mark.parametrize(
    "change",
    [
        *({"seed": "0"}, {"seed": None}, {"kind": []}, {"kind": "fifth"}, {"part": 0}, {"split": {}}),
        *({"search_share": "x"}, {"search_share": float("nan")}, {"validation": []}, {"validation": {}}),
        *({"validation": {"search": "1"}}, {"validation": {"gating": 1.0}}, {"seed": 10**4000}),
    ],
    ids=range(13),
)
def test_numbers_of_other_types_are_refused(out: Path, change: dict[str, object]) -> None:
    path = trial_of(out) / COMPARISON
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(ScoresError, match=r"make it again with `flowkit eval`"):
        read_comparison(trial_of(out))
