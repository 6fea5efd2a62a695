"""Gain of the gate over its baselines, on sets that were fixed before anything was trained on them.

    python -m benchmarks.gate_sets DIR
    python -m benchmarks.gate_campaign DIR [PART ...] [--seeds 5] [--jobs 2]

PART is a set of benchmarks.gate_sets (each with five seeds, gate data `holdout`), `overfit` (which
clips the gate may learn from), `ablation` (the gate's choices, on the streams of `conflict`),
`longer` (those streams trained twice as long), or `weizmann4` (real clips, one subject left out at a
time; needs shared data). An interrupted part resumes. Raw results:
benchmarks/results/gate-PART-<date>.json.
"""

from __future__ import annotations

import argparse
import dataclasses
import multiprocessing
import shutil
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import torch

import flowkit
from benchmarks.gate_sets import HELD_OUT, SETS, SPLIT
from benchmarks.record import ROOT, write_result
from flowkit.datasets import Split, groups_by_pattern, leave_one_out, read_split
from flowkit.errors import FlowkitError
from gating.config import GATING, GateConfig, LoaderConfig
from gating.data.partition import plan_trial
from gating.distributed import ProcessGroup
from gating.evaluation.comparison import TrialComparison
from gating.evaluation.results import fusion_results, read_comparison
from gating.events import Event, OnEvent
from gating.run_folder import trial_folder
from gating.statistics import correct_predictions
from gating.train_config import GateData, TrainConfig, train_preset
from gating.trial import Trial, TrialOptions

# The preset, with the gate's clips held out: the cheapest of the ways that are fair to every baseline.
CONFIG = dataclasses.replace(train_preset("tiny"), gate_data="holdout", test_segments=3, amp=True)
# Few clips, each seen very often: overfitted streams.
OVERFIT = dataclasses.replace(
    CONFIG,
    rgb=dataclasses.replace(CONFIG.rgb, epochs=80),
    flow=dataclasses.replace(CONFIG.flow, epochs=80),
    rgb_dropout=0.2,
    flow_dropout=0.2,
)
# 32 clips of four actions: as many steps as a thousand clips would take.
WEIZMANN = dataclasses.replace(
    CONFIG,
    gate_data="out-of-fold",
    stream_folds=3,
    rgb=dataclasses.replace(CONFIG.rgb, epochs=50, batch=8),
    flow=dataclasses.replace(CONFIG.flow, epochs=50, batch=8),
    gate=dataclasses.replace(CONFIG.gate, epochs=30, batch=8),
)
SUBJECT = r"/s(\d+)_"
MIRRORED = "_mirror"


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Job:
    """One trial."""

    store: Path
    split: Split
    fold: str | None
    out: Path
    config: TrainConfig
    held_out: bool = False
    """True: the gate learns from the split's clips that neither list has."""


def run_job(job: Job) -> tuple[Path, float]:
    """Train and compare one trial; return its folder and its duration in seconds."""
    torch.set_num_threads(1)
    began = time.monotonic()
    with flowkit.open(job.store) as store:
        data = plan_trial(store, job.split, job.config, fold=job.fold)
        if job.held_out:
            data = dataclasses.replace(data, gate=job.split.ids(HELD_OUT))
            classes = {name: index for index, name in enumerate(data.classes)}
            labels = dict(zip(store, store.column("label"), strict=True))
            data = dataclasses.replace(
                data, labels={**data.labels, **{k: classes[labels[k]] for k in data.gate}}
            )
        folder = trial_folder(job.out, data.split, data.part, job.config.seed)
        options = TrialOptions(
            folder=folder,
            process_group=ProcessGroup(torch.device("cpu")),
            loader=LoaderConfig(micro_batch=64),
            resume=True,
            on_event=log_of(folder),
        )
        Trial(data, job.config, options).run(kind=job.split.kind)
    return folder, time.monotonic() - began


def log_of(folder: Path) -> OnEvent:
    def log(event: Event) -> None:
        if event["event"] == "epoch" and event["epoch"] + 1 == event["epochs"]:
            valid = event["validation"]
            print(f"{folder} {event['stage']}: validation top-1 {100 * valid['top1']:.1f} %", flush=True)

    return log


def run_jobs(jobs: Sequence[Job], *, processes: int) -> tuple[list[TrialComparison], list[float]]:
    """Run trials, several at once; return their comparisons and durations, in order."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(processes, mp_context=context) as pool:
        done = list(pool.map(run_job, jobs))
    return [read_comparison(folder) for folder, _ in done], [seconds for _, seconds in done]


def summary(
    comparisons: Sequence[TrialComparison], seconds: Sequence[float], **more: object
) -> dict[str, object]:
    """Return the raw result of a part, and print its main figures."""
    results = fusion_results(comparisons)
    gains = {one.baseline: one for one in results.gains}
    fusions = {name: round(100 * row.top1, 2) for name, row in results.fusions.items()}
    print(f"  top-1 {fusions}", flush=True)
    for baseline in ("search", "score-gate", "features", "gmu", "attention"):
        gain = gains[baseline]
        each = [round(100 * one, 2) for one in gain.per_seed]
        low, high = (round(100 * one, 2) for one in gain.interval)
        print(f"  gating - {baseline}: {100 * gain.mean:+.2f} [{low}, {high}], seeds {each}", flush=True)
    print(f"  fraction of the headroom {results.headroom}", flush=True)
    return {**results.to_json(), "seconds_per_trial": list(seconds), **more}


def seeded(config: TrainConfig, seed: int) -> TrainConfig:
    """Return the configuration with another seed."""
    return dataclasses.replace(config, seed=seed)


def controlled(name: str, folder: Path, *, seeds: int, processes: int) -> dict[str, object]:
    """Train on one of the controlled sets."""
    store = folder / name / "store.h5"
    split = read_split(store, SPLIT)
    out = folder / name / "run"
    jobs = [
        Job(store=store, split=split, fold=None, out=out, config=seeded(CONFIG, seed))
        for seed in range(seeds)
    ]
    made = dataclasses.asdict(SETS[name])
    return summary(*run_jobs(jobs, processes=processes), set=made, config=CONFIG.to_json())


def overfit(folder: Path, *, seeds: int, processes: int) -> dict[str, object]:
    """Let the gate learn from the same clips, out-of-fold scores, or other clips; streams are shared."""
    store = folder / "overfit" / "store.h5"
    split = read_split(store, SPLIT)
    found: dict[str, object] = {}
    accuracy: dict[str, float] = {}
    for way in ("same", "out-of-fold", "held-out"):
        data: GateData = "out-of-fold" if way == "out-of-fold" else "same"
        config = dataclasses.replace(OVERFIT, gate_data=data)
        jobs = [
            Job(
                store=store,
                split=split,
                fold=None,
                out=folder / "overfit" / f"run-{way}",
                config=seeded(config, seed),
                held_out=way == "held-out",
            )
            for seed in range(seeds)
        ]
        for job in jobs:
            _copy_streams(folder / "overfit" / "run-same", job)
        print(f"{way}:", flush=True)
        comparisons, seconds = run_jobs(jobs, processes=processes)
        found[way] = summary(comparisons, seconds, config=config.to_json())
        accuracy[way] = fusion_results(comparisons).fusions[GATING].top1
    print(f"  out-of-fold - same {100 * (accuracy['out-of-fold'] - accuracy['same']):+.2f}", flush=True)
    return {"set": dataclasses.asdict(SETS["overfit"]), "ways": found}


def _copy_streams(source: Path, job: Job) -> None:
    """Copy the finished streams of another run of the same data and settings."""
    folder = trial_folder(job.out, job.split.name, "test", job.config.seed)
    for stage in ("rgb", "flow"):
        trained = trial_folder(source, job.split.name, "test", job.config.seed) / stage
        if trained.is_dir() and not (folder / stage).exists():
            shutil.copytree(trained, folder / stage)


# Choices of the paper and its successors; one change at a time.
ABLATIONS: dict[str, GateConfig] = {
    "default": CONFIG.net,
    "no auxiliary task": dataclasses.replace(CONFIG.net, auxiliary_weight=0.0),
    "auxiliary weight 1": dataclasses.replace(CONFIG.net, auxiliary_weight=1.0),
    "softmax": dataclasses.replace(CONFIG.net, activation="softmax"),
    "sigmoid": dataclasses.replace(CONFIG.net, activation="sigmoid"),
    "height": dataclasses.replace(CONFIG.net, combine="height"),
    "sum": dataclasses.replace(CONFIG.net, combine="sum"),
    "snippet": dataclasses.replace(CONFIG.net, placement="snippet"),
    "prior .1": dataclasses.replace(CONFIG.net, prior=0.1),
    "no prior": dataclasses.replace(CONFIG.net, prior=0.0),
    "zero start": dataclasses.replace(CONFIG.net, start="zero", prior=0.0),
}


def ablation(folder: Path, *, seeds: int, processes: int) -> dict[str, object]:
    """Change one choice of the gate at a time, on the streams of the conflict set."""
    store = folder / "conflict" / "store.h5"
    split = read_split(store, SPLIT)
    configs = {name: dataclasses.replace(CONFIG, net=net) for name, net in ABLATIONS.items()}
    configs["gate data: same"] = dataclasses.replace(CONFIG, gate_data="same")
    configs["tap: stage1"] = dataclasses.replace(CONFIG, tap="stage1")
    found: dict[str, object] = {}
    result: dict[str, object] = {}
    for name, config in configs.items():
        out = folder / "conflict" / f"ablation-{name.replace(' ', '-').replace(':', '')}"
        jobs = [
            Job(store=store, split=split, fold=None, out=out, config=seeded(config, seed))
            for seed in range(seeds)
        ]
        if _same_streams(config):
            for job in jobs:
                _copy_streams(folder / "conflict" / "run", job)
        print(f"{name}:", flush=True)
        found[name] = summary(*run_jobs(jobs, processes=processes))
        # The results so far: the whole takes long.
        result |= {"set": dataclasses.asdict(SETS["conflict"]), "config": CONFIG.to_json(), "changes": found}
        write_result("gate-ablation", result)
    return result


def longer(folder: Path, *, seeds: int, processes: int) -> dict[str, object]:
    """Train the streams of the conflict set twice as long, for the gate's gain on them."""
    store = folder / "conflict" / "store.h5"
    config = dataclasses.replace(
        CONFIG,
        rgb=dataclasses.replace(CONFIG.rgb, epochs=2 * CONFIG.rgb.epochs),
        flow=dataclasses.replace(CONFIG.flow, epochs=2 * CONFIG.flow.epochs),
    )
    split, out = read_split(store, SPLIT), folder / "conflict" / "run-longer"
    jobs = [
        Job(store=store, split=split, fold=None, out=out, config=seeded(config, seed))
        for seed in range(seeds)
    ]
    return summary(*run_jobs(jobs, processes=processes), config=config.to_json())


def _same_streams(config: TrainConfig) -> bool:
    return dataclasses.replace(config, net=CONFIG.net, gate=CONFIG.gate, seed=CONFIG.seed) == CONFIG


def weizmann4(folder: Path, *, seeds: int, processes: int) -> dict[str, object]:
    """Leave out one subject at a time; a mirrored copy stays with its original."""
    store = _weizmann_store(folder / "weizmann4")
    with flowkit.open(store) as opened:
        groups = groups_by_pattern(list(opened), SUBJECT)
    split = leave_one_out(groups)
    out = folder / "weizmann4" / "run"
    jobs = [
        Job(store=store, split=split, fold=fold, out=out, config=seeded(WEIZMANN, seed))
        for seed in range(seeds)
        for fold in split.names
    ]
    comparisons, seconds = run_jobs(jobs, processes=processes)
    originals = right_originals(comparisons)
    print(
        f"  originals right of {sum(not k.endswith(MIRRORED) for k in groups)}, mean over seeds: {originals}"
    )
    return summary(comparisons, seconds, config=WEIZMANN.to_json(), right_originals=originals)


def right_originals(comparisons: Sequence[TrialComparison]) -> dict[str, float]:
    """Return the right predictions of each fusion on clips that are no mirror images, a mean over seeds."""
    seeds = len({one.seed for one in comparisons})
    counts = dict.fromkeys(comparisons[0].fused, 0)
    for one in comparisons:
        own = np.array([not k.endswith(MIRRORED) for k in one.scores.ids])
        for name, scores in one.fused.items():
            counts[name] += int((correct_predictions(scores, one.scores.labels) & own).sum())
    return {name: count / seeds for name, count in counts.items()}


def _weizmann_store(folder: Path) -> Path:
    from flowkit.extraction.sources import find_sources

    videos = ROOT.parent / "shared" / "data" / "labelled" / "weizmann4" / "videos"
    if not videos.is_dir():
        raise FlowkitError("weizmann4 needs the shared data beside the checkout")
    folder.mkdir(parents=True, exist_ok=True)
    store = folder / "store.h5"
    flowkit.extract(find_sources([videos]), store)
    return store


def main() -> None:
    parts: dict[str, Callable[..., dict[str, object]]] = {
        "overfit": overfit,
        "ablation": ablation,
        "longer": longer,
        "weizmann4": weizmann4,
    }
    names = [*(name for name in SETS if name != "overfit"), *parts]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("folder", type=Path, metavar="DIR")
    parser.add_argument("parts", nargs="*", choices=[*names, []], metavar="PART")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--jobs", type=int, default=2)
    given = parser.parse_args()
    for name in given.parts or names:
        print(f"== {name}", flush=True)
        options = {"seeds": given.seeds, "processes": given.jobs}
        part = parts.get(name)
        result = part(given.folder, **options) if part else controlled(name, given.folder, **options)
        write_result(f"gate-{name}", result)


if __name__ == "__main__":
    main()
