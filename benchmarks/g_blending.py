"""A rival that trains both streams together, G-Blending, in one table with fusions of finished streams.

    python -m benchmarks.gate_sets DIR
    python -m benchmarks.g_blending DIR [SET ...] [--seeds 5] [--jobs 2]

Source: Wang, Tran, Feiszli, "What Makes Training Multi-Modal Classification Networks Hard?", CVPR 2020,
arXiv 1905.12681, the offline form. The network is both streams and a linear head on both pooled features;
each of the three heads has a loss, and the sum is weighed by how a head that trains alone generalises and
overfits:

    w_k ~ G_k / O_k^2     G: fall of the validation loss;  O: rise of (validation loss - training loss)

each from the start to the best epoch. So four networks are trained: flow, rgb and the joint head, each alone,
for the weights (the last is the row `joint`); then all three heads with them, from a new start. Its joint
head is the row `g-blending`, the mean of its heads' scores `g-blending-heads`. They learn from the clips of
the streams and of the gate together, since no fusion is to be fitted. The other rows are the campaign's
(benchmarks/gate_campaign.py): its trials are trained first where they are missing. Raw results:
benchmarks/results/g-blending-SET-<date>.json.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import multiprocessing
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

import flowkit
from benchmarks.gate_campaign import CONFIG, Job, log_of, run_job, seeded, summary
from benchmarks.gate_sets import SETS, SPLIT
from benchmarks.record import write_result
from flowkit.datasets import read_split
from flowkit.errors import FlowkitError
from gating.config import LoaderConfig, Modality
from gating.data.loader import BOTH, ClipLoader, InputBatch
from gating.data.partition import plan_trial
from gating.distributed import ProcessGroup
from gating.evaluation.comparison import TrialComparison
from gating.evaluation.results import read_comparison
from gating.evaluation.scores import ClipScores, Networks, score_clips
from gating.models.streams import CLASSIFIER_STD, Stream, build_stream
from gating.train_config import TrainConfig
from gating.training.loop import Trainer, validate
from gating.training.tasks import Stage, StreamTask, Task, TaskOutput

HEADS = ("flow", "rgb", "joint")
Blend = tuple[float, float, float]
"""Weights of the heads' losses, in the order of `HEADS`, with the sum 1."""
JOINT_ALONE: Blend = (0.0, 0.0, 1.0)
# Smallest rise of the generalisation gap, nats: a head that does not overfit would take all of the weight.
LEAST_OVERFITTING = 0.05


class JointNetwork(nn.Module):
    """Both streams and a linear head on both pooled features, with the streams' dropout before it."""

    def __init__(self, flow: Stream, rgb: Stream) -> None:
        super().__init__()
        self.flow, self.rgb = flow, rgb
        self.dropout = nn.Dropout(flow.config.dropout_rate)
        self.head = nn.Linear(flow.backbone.features + rgb.backbone.features, flow.config.num_classes)
        nn.init.normal_(self.head.weight, std=CLASSIFIER_STD)
        nn.init.zeros_(self.head.bias)

    def forward(self, flow: Tensor, rgb: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return scores (B, C) of the three heads, means over the segments (B, K, channels, S, S)."""
        outs = self.flow(flow), self.rgb(rgb)
        features = torch.cat([out.features for out in outs], dim=2)
        joint: Tensor = self.head(self.dropout(features)).mean(dim=1)
        return outs[0].consensus, outs[1].consensus, joint

    def heads_of(self, clips: ClipScores) -> dict[str, NDArray[np.float64]]:
        """Return float64 (N, C) of the heads, of this network's scores and features of clips.

        The head is linear: its mean over segments and crops is that of its mean features.
        """
        assert clips.flow_features is not None
        assert clips.rgb_features is not None
        features = np.concatenate([clips.flow_features, clips.rgb_features], axis=1)
        weight, bias = (one.detach().cpu().double().numpy() for one in (self.head.weight, self.head.bias))
        return {"flow": clips.flow, "rgb": clips.rgb, "joint": features @ weight.T + bias}


class JointTask(Task):
    """The blended cross-entropies of the three heads; the joint one's scores pick the best epoch."""

    def __init__(self, network: JointNetwork, blend: Blend) -> None:
        super().__init__()
        self.network, self.blend = network, blend
        self.modalities = BOTH

    @property
    def learner(self) -> JointNetwork:
        """The network that learns."""
        return self.network

    def forward(self, batch: InputBatch) -> TaskOutput:
        """Return the loss of a batch."""
        heads = [one.float() for one in self.network(batch.of("flow"), batch.of("rgb"))]
        losses = [F.cross_entropy(one, batch.labels) for one in heads]
        total = torch.stack([weight * loss for weight, loss in zip(self.blend, losses, strict=True)]).sum()
        parts = {name: loss.detach() for name, loss in zip(HEADS, losses, strict=True)}
        return TaskOutput(loss=total, scores=heads[2].detach(), parts=parts)


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Losses:
    """Mean cross-entropies of one network on its training and its validation clips, nats."""

    training: float
    validation: float


def blend_of(measured: Mapping[str, tuple[Losses, Losses]]) -> Blend:
    """Return the weights G / O^2, scaled to the sum 1, from each head's losses at the start and the end.

    A head whose validation loss has not fallen gets zero; without any that has, all count alike.
    """
    raw = []
    for start, end in (measured[name] for name in HEADS):
        generalised = max(0.0, start.validation - end.validation)
        overfitted = (end.validation - end.training) - (start.validation - start.training)
        raw.append(generalised / max(LEAST_OVERFITTING, overfitted) ** 2)
    flow, rgb, joint = (one / sum(raw) if sum(raw) else 1 / len(raw) for one in raw)
    return flow, rgb, joint


class Rival:
    """The four networks of one trial."""

    def __init__(self, job: Job, store: flowkit.Store) -> None:
        self.config, self.folder = job.config, job.out
        data = plan_trial(store, job.split, job.config, fold=job.fold)
        self.data = dataclasses.replace(data, train=(*data.train, *data.gate))
        self.batches = ClipLoader(
            self.data,
            self.config,
            self._stream("rgb").backbone.inputs,
            process_group=ProcessGroup(torch.device("cpu")),
            loader_config=LoaderConfig(micro_batch=64),
        )

    def run(self) -> tuple[dict[str, NDArray[np.float64]], ClipScores, dict[str, object]]:
        """Train all; return the rows' scores of the test clips, these clips, and the weights."""
        measured: dict[str, tuple[Losses, Losses]] = {
            name: self._measured(StreamTask(self._stream(name)), name) for name in BOTH
        }
        alone = JointTask(self._joint(), JOINT_ALONE)
        measured["joint"] = self._measured(alone, "joint")
        blend = blend_of(measured)
        blended = JointTask(self._joint(), blend)
        self._fit(blended, "blended", blend)
        first, clips = self._tested(alone)
        last, _ = self._tested(blended)
        rows = {
            "joint": first["joint"],
            "g-blending": last["joint"],
            "g-blending-heads": np.mean([last[name] for name in HEADS], axis=0),
        }
        losses = {name: [dataclasses.asdict(one) for one in both] for name, both in measured.items()}
        return rows, clips, {"blend": dict(zip(HEADS, blend, strict=True)), "losses": losses}

    def _stream(self, modality: Modality) -> Stream:
        torch.manual_seed(self.config.seed)
        return build_stream(self.config.stream(modality, len(self.data.classes)))

    def _joint(self) -> JointNetwork:
        return JointNetwork(self._stream("flow"), self._stream("rgb"))

    def _measured(self, task: Task, name: str) -> tuple[Losses, Losses]:
        """Train a head alone; return its losses before that and at the best epoch."""
        start = self._losses(task)
        self._fit(task, name, JOINT_ALONE)
        return start, self._losses(task)

    def _losses(self, task: Task) -> Losses:
        training, validation = (
            validate(task, self.batches, ids, precision=self.batches.precision)["loss"]
            for ids in (self.data.train, self.data.validation)
        )
        return Losses(training=training, validation=validation)

    def _fit(self, task: Task, name: str, blend: Blend) -> None:
        """Train a task, unless that was done; the joint networks by the flow stream's schedule."""
        modality: Modality = "rgb" if name == "rgb" else "flow"
        stage = Stage(
            name=name,
            folder=self.folder / name,
            schedule=self.config.schedule(modality),
            augment=self.config.stream_augment(modality),
            train_ids=self.data.train,
            validation_ids=self.data.validation,
            identity={"config": self.config.to_json(), "data": self.data.record(), "blend": list(blend)},
            resume=True,
        )
        Trainer(task, self.batches, stage, on_event=log_of(self.folder)).fit()

    def _tested(self, task: JointTask) -> tuple[dict[str, NDArray[np.float64]], ClipScores]:
        network, config = task.network, self.config
        clips = score_clips(
            Networks(flow=network.flow, rgb=network.rgb),
            self.batches,
            self.data.test,
            segments=config.test_segments,
            crops=config.test_crops,
            precision=self.batches.precision,
        )
        return network.heads_of(clips), clips


def with_rival(job: Job) -> tuple[TrialComparison, dict[str, object]]:
    """Return the campaign's comparison of a trial with the rival's rows in it, and the rival's weights."""
    folder, _ = run_job(job)
    comparison = read_comparison(folder)
    with flowkit.open(job.store) as store:
        own = dataclasses.replace(job, out=folder / "g-blending")
        rows, clips, found = Rival(own, store).run()
    if clips.ids != comparison.scores.ids:
        raise FlowkitError(f"{folder} was tested on other clips; remove it and train again")
    return dataclasses.replace(comparison, fused={**comparison.fused, **rows}), found


def run_set(name: str, folder: Path, config: TrainConfig, *, seeds: int, jobs: int) -> dict[str, object]:
    """Train the rival on one set; return the raw result."""
    store = folder / name / "store.h5"
    make = functools.partial(Job, store=store, split=read_split(store, SPLIT), fold=None)
    trials = [make(out=folder / name / "run", config=seeded(config, seed)) for seed in range(seeds)]
    with ProcessPoolExecutor(jobs, mp_context=multiprocessing.get_context("spawn")) as pool:
        done = list(pool.map(with_rival, trials))
    for _, found in done:
        print(f"  {found['blend']}", flush=True)
    comparisons, rivals = [one for one, _ in done], [found for _, found in done]
    made = dataclasses.asdict(SETS[name])
    return summary(comparisons, [], set=made, config=config.to_json(), rivals=rivals)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("folder", type=Path, metavar="DIR")
    parser.add_argument("sets", nargs="*", metavar="SET", default=["conflict"], choices=[*SETS, []])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--jobs", type=int, default=2)
    given = parser.parse_args()
    for name in given.sets:
        print(f"== {name}", flush=True)
        result = run_set(name, given.folder, CONFIG, seeds=given.seeds, jobs=given.jobs)
        write_result(f"g-blending-{name}", result)


if __name__ == "__main__":
    main()
