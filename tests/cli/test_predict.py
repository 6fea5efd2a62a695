"""`flowkit eval` and `flowkit predict` as a user calls them, and the table that eval prints."""

from __future__ import annotations

import csv
import dataclasses
import importlib
import json
import shutil
from pathlib import Path

import pytest

pytest.importorskip("torch")

from click.testing import CliRunner, Result

from flowkit.atomic import host_name
from flowkit.errors import InputError
from flowkit_cli.fusion_table import print_table
from gating.evaluation.results import fusion_results
from tests.make import clips, labelled
from tests.make.finished_runs import FinishedRun, train_run
from tests.make.scores import made_comparison

CLASSES = ("run", "jump")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> FinishedRun:
    folder = tmp_path_factory.mktemp("cli")
    (folder / "made").mkdir()
    return train_run(labelled.make_store(folder / "made"), folder)


@pytest.fixture
def run(trained: FinishedRun, tmp_path: Path) -> FinishedRun:
    shutil.copytree(trained.out, tmp_path / "run")
    return dataclasses.replace(trained, out=tmp_path / "run")


def says(name: str, *words: object) -> Result:
    command = importlib.import_module(f"flowkit_cli.{name}").command
    return CliRunner().invoke(command, [*map(str, words)])


def test_eval_prints_the_table_and_names_its_folder(run: FinishedRun) -> None:
    done = says("eval", run.out, "--segments", 3, "--device", "cpu", "--threads", 1)
    assert done.exit_code == 0, done.output
    assert "split 5-fold, tested on 0, seed 0: scoring 4 clips" in done.stderr
    names = [line.split()[0] for line in done.stdout.splitlines() if line]
    assert names[0] == "fusion"
    assert names.index("search") < names.index("gating") < names.index("oracle")
    assert f"{run.out}: scores and results.json" in done.stdout
    assert json.loads((run.out / "results.json").read_text())["config"]["test_segments"] == 3


def test_eval_quietly_into_another_folder(run: FinishedRun, tmp_path: Path) -> None:
    before = (run.out / "results.json").read_bytes()
    done = says("eval", run.out, "--segments", 2, "-q", "--scores", tmp_path / "new", "--device", "cpu")
    assert (done.exit_code, done.stderr) == (0, "")
    assert (run.out / "results.json").read_bytes() == before
    assert (tmp_path / "new" / "results.json").is_file()


def test_predict_prints_classes_weights_and_label(run: FinishedRun) -> None:
    video_id = "square-down/square-down_g01_c001"
    done = says("predict", run.store, "--run", run.out, "--ids", video_id, "--device", "cpu")
    assert done.exit_code == 0, done.output
    head, *lines = done.stdout.splitlines()
    assert head.startswith(f"{video_id}  flow ")
    assert head.endswith("(label square-down)")
    assert sorted(line.split()[-1] for line in lines) == ["disc-sideways", "square-down"]
    assert f"trial: {run.trial}, the first finished one" in done.stderr


def test_predict_ends_with_1_when_a_video_fails_and_predicts_the_others(
    run: FinishedRun, tmp_path: Path
) -> None:
    folder = tmp_path / "videos"
    folder.mkdir()
    clips.mjpeg_avi(folder / "good.avi", clips.moving_texture(4))
    (folder / "bad.avi").write_bytes(b"RIFF")
    words = ("predict", folder, "--run", run.out, "--jobs", 1, "--device", "cpu", "-q")
    done = says(*words, "--json", "--top", 1)
    assert done.exit_code == 1
    failed, good = (json.loads(line) for line in done.stdout.splitlines())
    assert (failed["source"], failed["reason"]) == (str(folder / "bad.avi"), "unopenable")
    assert (good["video_id"], len(good["classes"]), len(good["weights"])) == ("good", 1, 2)


def test_predict_writes_a_table_that_has_failures_windows_and_a_column_a_class(
    run: FinishedRun, tmp_path: Path
) -> None:
    folder = tmp_path / "videos"
    folder.mkdir()
    clips.mjpeg_avi(folder / "good.avi", clips.moving_texture(6))
    (folder / "bad.avi").write_bytes(b"RIFF")
    # Of a process that was killed: ids of processes go no higher.
    orphan = tmp_path / f"out.csv.{host_name()}.{2**22 + 1}.tmp"
    orphan.write_text("half a")
    words = ("predict", folder, "--run", run.out, "--jobs", 1, "--device", "cpu", "-q", "--top", 1)
    done = says(*words, "--csv", tmp_path / "out.csv", "--window", 4, "--stride", 2, "--json")
    assert (done.exit_code, orphan.exists()) == (1, False)
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    with (tmp_path / "out.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [*rows[0]] == [
        *("video_id", "source", "label", "reason", "detail", "first_frame", "last_frame", "start", "end"),
        *("predicted", "weight_flow", "weight_rgb", "fallback", "p_disc-sideways", "p_square-down"),
    ]
    bad, *good = rows
    assert (bad["video_id"], bad["reason"], bad["predicted"]) == ("bad", "unopenable", "")
    assert bad["detail"] == lines[0]["detail"]
    for row, line, first in zip(good, lines[1:], (0, 2), strict=True):
        assert (line["first_frame"], line["last_frame"]) == (first, first + 3)
        assert (int(row["first_frame"]), float(row["end"])) == (first, line["end"])
        assert [row["predicted"]] == line["classes"]
        assert float(row[f"p_{row['predicted']}"]) == line["probabilities"][0]
        assert float(row["p_disc-sideways"]) + float(row["p_square-down"]) == pytest.approx(1)


def test_a_prediction_that_ends_early_leaves_the_table_as_it_was(run: FinishedRun, tmp_path: Path) -> None:
    table = tmp_path / "out.csv"
    table.write_text("before")
    words = ("predict", run.store, "--run", run.out, "--device", "cpu", "-q", "--csv", table)
    done = says(*words, "--ids", "nobody")
    assert done.exit_code == 1
    assert [path.name for path in tmp_path.iterdir() if path.name != "run"] == ["out.csv"]
    assert table.read_text() == "before"
    done = says(*words[:-1], tmp_path / "no" / "out.csv")
    assert isinstance(done.exception, InputError)


def table(capsys: pytest.CaptureFixture[str], *comparisons: object) -> str:
    print_table(fusion_results(comparisons))  # type: ignore[arg-type]
    return capsys.readouterr().out


def test_the_table_adds_up_mcnemars_counts_over_the_folds_of_a_seed(
    capsys: pytest.CaptureFixture[str],
) -> None:
    folds = [
        made_comparison([f"{fold}/{k}" for k in range(20)], CLASSES, part=fold, kind="fold", seed=seed)
        for seed in (0, 1)
        for fold in ("0", "1")
    ]
    printed = table(capsys, *folds)
    for seed in (0, 1):
        tests = [one.test for one in folds if one.seed == seed]
        alone = sum(one.only_first for one in tests if one)
        other = sum(one.only_second for one in tests if one)
        assert f"seed {seed}: right with gating alone {alone}, with search alone {other}," in printed
    assert "trials 4, tested parts 2, seeds 2" in printed


def test_mcnemars_chance_in_the_table_is_the_exact_one(capsys: pytest.CaptureFixture[str]) -> None:
    one = made_comparison([f"clip{k}" for k in range(40)], CLASSES)
    assert one.test is not None
    assert f"McNemar's p = {one.test.p_value:.2g}\n" in table(capsys, one)


def test_a_run_without_a_gate_has_a_table_without_gains(capsys: pytest.CaptureFixture[str]) -> None:
    printed = table(capsys, made_comparison([f"clip{k}" for k in range(10)], CLASSES, gate=False))
    assert "gain" not in printed
    assert "oracle (to read only)" in printed
    assert "McNemar" not in printed
