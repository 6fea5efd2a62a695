"""The layout of a run's folder: known by one module, read with clear errors, written whole."""

from __future__ import annotations

import ast
import dataclasses
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gating.arrays import read_arrays, write_arrays
from gating.config import GATING
from gating.errors import CheckpointError, ScoresError
from gating.run_folder import (
    DataRecord,
    FlowRecord,
    best_checkpoint,
    compared_trials,
    default_run,
    find_trials,
    flattened,
    open_log,
    out_of_fold_stage,
    read_context,
    read_trial,
    recorded_store,
    scores_path,
    trial_folder,
    write_results,
    write_trial,
)
from gating.train_config import train_preset

ROOT = Path(__file__).resolve().parent.parent.parent
NAMES = {
    "runs",
    "results.json",
    "trial.json",
    "split.csv",
    "judgement.json",
    "fused.npz",
    "log.jsonl",
    "last.pt",
    "best.pt",
}
FOLDERS = {"scores", "tensorboard"}
FLOW = FlowRecord(
    bound=20.0,
    fields='["flow"]',
    flow_codec="i8",
    frame_codec="jpeg",
    jpeg_quality=90,
    resize="{}",
    rounding="half to even",
    sampling="{}",
    step=1,
    tvl1_params="{}",
    tvl1_preset="{}",
)
DATA = DataRecord(classes=["a", "b"], split="s", part="test", flow=FLOW, clips={})


def product_modules() -> Iterator[Path]:
    for package in ("gating", "cli"):
        yield from (ROOT / package).rglob("*.py")


def names_of_layout(path: Path) -> list[str]:
    """Strings that name a part of the layout: its files, its globs, and what a path is joined of."""
    found = []
    for node in ast.walk(ast.parse(path.read_text())):
        match node:
            case ast.Constant(value=str(text)) if text in NAMES or re.search(r"seed\*|.\.npz$", text):
                found.append(text)
            case ast.BinOp(op=ast.Div(), right=ast.Constant(value=str(text))) if text in FOLDERS:
                found.append(text)
            case ast.JoinedStr(values=values):
                literals = [str(one.value) for one in values if isinstance(one, ast.Constant)]
                found += [text for text in literals if re.search(r"(^|/)(seed|fold)$", text)]
    return found


def test_no_other_module_knows_a_name_of_the_layout() -> None:
    knowing = {path.relative_to(ROOT).as_posix() for path in product_modules() if names_of_layout(path)}
    assert knowing == {"gating/run_folder.py"}


def test_the_layout_is_known_without_torch_and_without_the_trainer() -> None:
    code = (
        "import sys, gating.run_folder;"
        "heavy = {'torch', 'click', 'gating.trial', 'gating.load', 'gating.evaluation', 'gating.fusions'};"
        "sys.exit(', '.join(heavy & set(sys.modules)) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_every_path_is_as_the_documentation_draws_it(tmp_path: Path) -> None:
    assert default_run(Path("sets/ucf.h5"), "tiny") == Path("runs/ucf-tiny")
    assert trial_folder(tmp_path, "split1", "test", 0) == tmp_path / "split1/seed0"
    trial = trial_folder(tmp_path, "5-fold", "3", 12)
    assert trial == tmp_path / "5-fold-3/seed12"
    assert scores_path(trial, "fit") == trial / "scores/fit.npz"
    assert best_checkpoint(trial, out_of_fold_stage(1, "rgb")) == trial / "fold1/rgb/best.pt"


def test_trials_are_found_by_split_part_and_seed(tmp_path: Path) -> None:
    for part, seed in (("10", 0), ("2", 1), ("2", 0)):
        config = dataclasses.replace(train_preset("tiny"), seed=seed)
        folder = trial_folder(tmp_path, "s", part, seed)
        write_trial(folder, config, {**DATA, "part": part})
    found = find_trials(tmp_path)
    assert [one.folder.relative_to(tmp_path).as_posix() for one in found] == [
        "s-2/seed0",
        "s-2/seed1",
        "s-10/seed0",
    ]
    assert found[0].config == train_preset("tiny")
    assert found[0].stages == ("rgb", "flow", "gate")
    assert found[0].config.fusion == GATING


CONFIG = train_preset("tiny").to_json()
DEEP = "[" * 100_000 + "]" * 100_000
CONFIGS: list[object] = [1, [], CONFIG | {"seed": "0"}]
CHANGES: list[dict[str, Any]] = [
    *({"classes": 10**12}, {"classes": "ab"}, {"classes": [1, 2]}, {"split": None}, {"part": 0}),
    *({"clips": []}, {"clips": {"learn": 1}}, {"flow": {}}, {"flow": {**FLOW, "tvl1_params": []}}),
    *({"flow": {**FLOW, "bound": float("nan")}}, {"flow": {**FLOW, "step": 1e308}}, {"flow": None}),
]
DAMAGED = [
    *(
        "",
        "{",
        "[]",
        '{"config": {}}',
        "null",
        DEEP,
        f'{{"config": {DEEP}}}',
        '{"data": ' + "9" * 10_000 + "}",
    ),
    *(json.dumps({"config": config, "data": DATA}) for config in CONFIGS),
    *(json.dumps({"config": CONFIG, "data": {**DATA, **change}}) for change in CHANGES),
]


@pytest.mark.parametrize("content", DAMAGED, ids=range(len(DAMAGED)))
def test_a_damaged_record_is_an_error_that_names_it(tmp_path: Path, content: str) -> None:
    (tmp_path / "trial.json").write_text(content)
    with pytest.raises(
        CheckpointError, match=r"trial\.json cannot be read: .*made by `flowkit train`"
    ) as caught:
        read_trial(tmp_path)
    assert len(str(caught.value)) < 1500


def test_a_folder_without_trials_is_no_run(tmp_path: Path) -> None:
    for read in (find_trials, recorded_store):
        with pytest.raises(CheckpointError, match="is no run: it has no SPLIT/seedN/trial"):
            read(tmp_path)
    with pytest.raises(ScoresError, match="holds no finished trial"):
        compared_trials(tmp_path)


def test_results_that_are_no_json_object_are_refused(tmp_path: Path) -> None:
    for content in ("{", "[1]", DEEP, '{"data": ' + "9" * 10_000 + "}"):
        (tmp_path / "results.json").write_text(content)
        with pytest.raises(ScoresError, match="make it again with `flowkit eval`"):
            read_context(tmp_path)


def test_results_hold_no_nan_and_a_failed_write_leaves_the_old_ones(tmp_path: Path) -> None:
    write_results(tmp_path, {"config": {"lr": 1.0}})
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_results(tmp_path, {"config": {"lr": float("nan")}})
    assert dict(read_context(tmp_path).config) == {"lr": 1.0}
    assert [path.name for path in tmp_path.iterdir()] == ["results.json"]


def test_arrays_come_back_under_their_names(tmp_path: Path) -> None:
    path = scores_path(tmp_path / "made", "test")
    write_arrays(path, {"flow": np.arange(3.0), "head": "words"})
    arrays = read_arrays(path)
    np.testing.assert_array_equal(arrays["flow"], [0.0, 1.0, 2.0])
    assert str(arrays["head"]) == "words"
    assert [one.name for one in path.parent.iterdir()] == ["test.npz"]


def test_a_log_is_gone_on_with(tmp_path: Path) -> None:
    for number in (1, 2):
        with open_log(tmp_path / "trial") as log:
            log({"event": "step", "step": number})
    lines = [json.loads(line) for line in (tmp_path / "trial" / "log.jsonl").read_text().splitlines()]
    assert [(list(one), one["step"]) for one in lines] == [
        (["time", "event", "step"], 1),
        (["time", "event", "step"], 2),
    ]


def test_nested_configuration_is_flattened() -> None:
    found = dict(flattened({"a": {"b": [1, 2], "c": {}}, "d": "x", "e": None}))
    assert found == {"a.b": "[1, 2]", "a.c": "{}", "d": "x", "e": "null"}


def test_context_forgives_what_is_missing(tmp_path: Path) -> None:
    context = read_context(tmp_path)
    assert (dict(context.config), dict(context.data), context.store) == ({}, {}, None)
