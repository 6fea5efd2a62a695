"""Trained networks from a trial's folder, with what they were trained on.

trial = load_networks(Path("runs/ucf101/split1/seed0"), device=torch.device("cpu"))
trial.networks.rgb, trial.networks.flow, trial.networks.gate
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

import torch
from torch import nn

from gating.checkpoint import check_identity, load_checkpoint
from gating.config import GATING, Modality
from gating.errors import CheckpointError
from gating.evaluation.infer import Networks
from gating.gate import GatingConvNet
from gating.run_folder import RECORD, TrialRecord, best_checkpoint, out_of_fold_stage, read_trial
from gating.streams import Stream


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class LoadedTrial:
    """The networks of a finished trial, in evaluation mode, and its record."""

    record: TrialRecord
    networks: Networks


def unfinished_stages(record: TrialRecord) -> list[str]:
    """Return the stages of a trial that have not been trained to their end.

    Raises
    ------
    CheckpointError
        A checkpoint is damaged.
    """
    return [stage for stage in record.stages if not _is_finished(best_checkpoint(record.folder, stage))]


def _is_finished(path: Path) -> bool:
    return path.is_file() and bool(load_checkpoint(path)["finished"])


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


def load_out_of_fold_streams(record: TrialRecord, fold: int, *, device: torch.device) -> Networks:
    """Return the streams that were trained without one fold.

    Raises
    ------
    CheckpointError
        As `load_networks`.
    """
    flow, rgb = (_stream(record, out_of_fold_stage(fold, one), one, device) for one in ("flow", "rgb"))
    networks = Networks(flow=flow, rgb=rgb)
    networks.eval()
    return networks


def _stream(record: TrialRecord, stage: str, modality: Modality, device: torch.device) -> Stream:
    stream = Stream(record.config.stream(modality, len(record.classes)))
    _load(record, stage, stream)
    return stream.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload,no-any-return]


def _load(record: TrialRecord, stage: str, network: nn.Module) -> None:
    path = best_checkpoint(record.folder, stage)
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
        differing = " ".join(str(error).split())  # torch writes it over several lines
        raise CheckpointError(
            f"{path} does not fit the networks of {record.folder / RECORD}: {differing} Put back the files "
            "of one trial"
        ) from error
