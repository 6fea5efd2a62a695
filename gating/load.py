"""Trained networks from a trial's folder, with what they were trained on.

trial = load_networks(Path("runs/ucf101/split1/seed0"), device=torch.device("cpu"))
trial.networks.rgb, trial.networks.flow, trial.networks.gate
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from flowkit.errors import InvalidParameterError
from gating.checkpoint import BEST, check_identity, load_checkpoint
from gating.config import Modality
from gating.errors import CheckpointError
from gating.judgement import GATING
from gating.models.gate import GatingConvNet
from gating.models.streams import Stream
from gating.score import Networks
from gating.train_config import TrainConfig
from gating.trial import RECORD


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class TrialRecord:
    """What a trial's `trial.json` says.

    Attributes
    ----------
    folder : Path
        Of the trial.
    config : TrainConfig
        With which it was trained.
    data : mapping
        As `gating.data.TrialData.record` gives: classes, split, part, how the flow was made, and
        digests of the clips.
    """

    folder: Path
    config: TrainConfig
    data: Mapping[str, Any]

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names, in the order of the scores."""
        return tuple(self.data["classes"])

    @property
    def stages(self) -> tuple[str, ...]:
        """The stages of the networks themselves."""
        return ("rgb", "flow", "gate") if self.config.fusion == GATING else ("rgb", "flow")

    def unfinished(self) -> list[str]:
        """Return the stages that have not been trained to their end.

        Raises
        ------
        CheckpointError
            A checkpoint is damaged.
        """
        return [stage for stage in self.stages if not self._is_finished(stage)]

    def _is_finished(self, stage: str) -> bool:
        path = self.folder / stage / BEST
        return path.is_file() and bool(load_checkpoint(path)["finished"])


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class LoadedTrial:
    """The networks of a finished trial, in evaluation mode, and its record."""

    record: TrialRecord
    networks: Networks


def read_trial(folder: Path) -> TrialRecord:
    """Return the record of a trial's folder.

    Raises
    ------
    CheckpointError
        There is none, or it cannot be read.
    """
    path = folder / RECORD
    if not path.is_file():
        raise CheckpointError(
            f"{folder} is no trial: it has no {RECORD}; name a run's folder, or SPLIT/seedN in it"
        )
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        data = {name: content["data"][name] for name in ("classes", "split", "part", "flow", "clips")}
        return TrialRecord(folder=folder, config=TrainConfig.from_json(content["config"]), data=data)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{path} cannot be read: {error!r}; was it made by `flowkit train`?") from error


def find_trials(out: Path) -> list[TrialRecord]:
    """Return the records of all trials of a run's folder, finished or not, by split, part and seed.

    Raises
    ------
    CheckpointError
        There is none, or one cannot be read.
    """
    found = [read_trial(path.parent) for path in out.glob(f"*/seed*/{RECORD}")]
    if not found:
        raise CheckpointError(f"{out} is no run: it has no SPLIT/seedN/{RECORD}; train one with --out {out}")
    return sorted(found, key=_order)


def load_networks(trial: Path | TrialRecord, *, device: torch.device) -> LoadedTrial:
    """Return both streams and the gate of a trial, where it has one, at their best epochs.

    Raises
    ------
    CheckpointError
        A stage has not finished, or its checkpoint is absent, damaged, or of other data.
    """
    record = trial if isinstance(trial, TrialRecord) else read_trial(trial)
    flow, rgb = (_stream(record, modality, modality, device) for modality in ("flow", "rgb"))
    gate = None
    if record.config.fusion == GATING:
        net = record.config.gate_net(len(record.classes), flow.tap_channels)
        gate = GatingConvNet(config=net).to(device)
        _load(record, "gate", gate)
    networks = Networks(flow=flow, rgb=rgb, gate=gate)
    networks.eval()
    return LoadedTrial(record=record, networks=networks)


def load_copies(record: TrialRecord, fold: int, *, device: torch.device) -> Networks:
    """Return the stream copies that were trained without one fold.

    Raises
    ------
    CheckpointError
        As `load_networks`.
    """
    flow, rgb = (_stream(record, f"fold{fold}/{one}", one, device) for one in ("flow", "rgb"))
    networks = Networks(flow=flow, rgb=rgb)
    networks.eval()
    return networks


def _stream(record: TrialRecord, stage: str, modality: Modality, device: torch.device) -> Stream:
    stream = Stream(record.config.stream(modality, len(record.classes)))
    _load(record, stage, stream)
    return stream.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload,no-any-return]


def _load(record: TrialRecord, stage: str, network: nn.Module) -> None:
    path = record.folder / stage / BEST
    if not path.is_file():
        raise CheckpointError(
            f"{path} is absent: the stage {stage!r} has not been trained; go on with `flowkit train --resume`"
        )
    content = load_checkpoint(path)
    if not content["finished"]:
        raise CheckpointError(
            f"{path} is of a stage that has not finished (best epoch so far {content['epoch'] + 1}); "
            "go on with `flowkit train --resume`"
        )
    found = content["identity"]["data"]
    # A stream's checkpoint does not depend on the clips of the gate, and has no record of them.
    clips = {part: record.data["clips"].get(part) for part in found["clips"]}
    check_identity(found, {**record.data, "clips": clips}, source=path)
    try:
        network.load_state_dict(content["network"])
    except RuntimeError as error:
        told = " ".join(str(error).split())  # torch tells over several lines
        raise CheckpointError(
            f"{path} does not fit the networks of {record.folder / RECORD}: {told} Put back the files of "
            "one trial"
        ) from error


def _order(record: TrialRecord) -> tuple[str, int, str, int]:
    part = str(record.data["part"])
    return str(record.data["split"]), len(part) if part.isdigit() else 0, part, record.config.seed


def recorded_store(out: Path) -> Path:
    """Return the store that a run was trained on, as its `results.json` names it.

    Raises
    ------
    CheckpointError
        The folder is no run.
    InvalidParameterError
        It names none, or one that is not there.
    """
    find_trials(out)
    try:
        named = json.loads((out / "results.json").read_text(encoding="utf-8"))["data"]["store"]
    except (OSError, ValueError, KeyError, TypeError):
        named = None
    if not isinstance(named, str) or not Path(named).is_file():
        told = "does not tell its store" if named is None else f"was trained on {named}, which is not there"
        raise InvalidParameterError(f"the run {out} {told}; name the store with --store")
    return Path(named)
