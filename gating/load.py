"""A finished trial's networks and the fusion that it predicts with, from its folder.

trial = load_networks(Path("runs/ucf101/split1/seed0"))
trial.networks.rgb, trial.networks.flow, trial.networks.gate
choose_fusion(trial.record).fusion
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from gating.config import BASELINE, GATING, Modality
from gating.errors import CheckpointError, ScoresError
from gating.evaluation.comparison import TrialComparison
from gating.evaluation.results import read_comparison
from gating.evaluation.scores import ClipScores, Networks, load_scores
from gating.fusions import Fusion, Scores, build_fusion
from gating.fusions.fixed import Search
from gating.fusions.gating import Gating
from gating.models.gate import GatingConvNet
from gating.models.streams import Stream, build_stream
from gating.models.weights import check_finite
from gating.run_folder import (
    TrialRecord,
    best_checkpoint,
    find_trials,
    is_trial,
    out_of_fold_stage,
    read_trial,
    scores_path,
)
from gating.training.checkpoint import check_identity, load_network, load_stage


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class LoadedTrial:
    """The networks of a finished trial, in evaluation mode, and its record.

    Attributes
    ----------
    record : TrialRecord
        Configuration and data of the training.
    networks : Networks
        The streams and the gate, on one device.
    """

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
    return path.is_file() and bool(load_stage(path)["finished"])


def find_trial(run: Path) -> TrialRecord:
    """Return the trial of a trial's folder, or the first finished one of a run's.

    Raises
    ------
    CheckpointError
        The folder is neither, or no trial of the run has finished.
    """
    if is_trial(run):
        return read_trial(run)
    records = find_trials(run)
    for record in records:
        if record.is_compared and not unfinished_stages(record):
            return record
    raise CheckpointError(
        f"none of the {len(records)} trials of {run} has finished and been compared; go on with "
        "`flowkit train --resume`, or compare the trained ones with `flowkit eval`"
    )


def load_networks(trial: Path | TrialRecord, *, device: torch.device | str = "cpu") -> LoadedTrial:
    """Return the streams and the gate of a trial, where it has one, at their best epochs.

    Parameters
    ----------
    trial
        A trial's folder, RUN/SPLIT/seedN, or its record.
    device
        Of the networks.

    Returns
    -------
    LoadedTrial
        In evaluation mode, on `device`.

    Raises
    ------
    CheckpointError
        A stage has not finished, or its checkpoint is absent, damaged, or of other data.
    WeightsError
        Weights are not finite.
    """
    record = trial if isinstance(trial, TrialRecord) else read_trial(trial)
    streams = {one: _stream(record, one, one, device) for one in record.config.modalities}
    gate = None
    if record.config.fusion == GATING:
        gate = _gate(record, "gate", streams["flow"].tap_channels, device)
    networks = Networks(flow=streams.get("flow"), rgb=streams.get("rgb"), gate=gate)
    networks.eval()
    return LoadedTrial(record=record, networks=networks)


def load_out_of_fold(
    record: TrialRecord, fold: int, *, final: Networks, device: torch.device | str
) -> Networks:
    """Return the streams that were trained without one fold; where every clip trains, with such a gate.

    Raises
    ------
    CheckpointError
        As `load_networks`.
    """
    streams = {
        one: _stream(record, out_of_fold_stage(fold, one), one, device) for one in record.config.modalities
    }
    networks = Networks(flow=streams.get("flow"), rgb=streams.get("rgb"))
    if record.config.all_clips and final.gate is not None:
        flow, rgb = streams["flow"], streams["rgb"]
        gate = _gate(record, out_of_fold_stage(fold, "gate"), flow.tap_channels, device)
        networks = dataclasses.replace(final, gate=gate, scorers=(flow, rgb))
    networks.eval()
    return networks


def _gate(record: TrialRecord, stage: str, tap_channels: int, device: torch.device | str) -> GatingConvNet:
    gate = GatingConvNet(config=record.config.gate_net(len(record.classes), tap_channels)).to(device)
    _load(record, stage, gate)
    return gate


def _stream(record: TrialRecord, stage: str, modality: Modality, device: torch.device | str) -> Stream:
    config = record.config.stream(modality, len(record.classes))
    # Beside a head, a checkpoint has no backbone.
    stream = build_stream(config) if config.head == "clip" else Stream(config)
    _load(record, stage, stream.learner)
    return stream.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload,no-any-return]


def _load(record: TrialRecord, stage: str, network: nn.Module) -> None:
    path = best_checkpoint(record.folder, stage)
    if not path.is_file():
        raise CheckpointError(
            f"{path} is absent: the stage {stage!r} has not been trained; go on with `flowkit train --resume`"
        )
    content = load_stage(path)
    if not content["finished"]:
        raise CheckpointError(
            f"{path} is of a stage that has not finished (best epoch so far {content['epoch'] + 1}); "
            "go on with `flowkit train --resume`"
        )
    found = _data_of(content, path)
    # A stream's checkpoint does not depend on the clips of the gate, and has no record of them.
    clips = {part: record.data["clips"].get(part) for part in found["clips"]}
    check_identity(found, {**record.data, "clips": clips}, source=path)
    check_finite(content["network"], path)
    load_network(network, content, source=path)


def _data_of(content: dict[str, Any], path: Path) -> dict[str, Any]:
    """Return the record of the data in a checkpoint."""
    data: Any = content["identity"].get("data")
    if not isinstance(data, dict) or not isinstance(data.get("clips"), dict):
        raise CheckpointError(f"{path} has no record of its data; was it made by `flowkit train`?")
    return data


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class ChosenFusion:
    """A fusion that can be applied to new clips.

    Attributes
    ----------
    name : str
        "gating", "search", or the fusion that the run was trained for.
    reason : str
        The reason of the choice.
    fusion : Fusion
        Fitted.
    """

    name: str
    reason: str
    fusion: Fusion

    def probabilities(self, clips: ClipScores) -> Scores:
        """Return each clip's probabilities, float64 (N, classes)."""
        return self.fusion.to_probabilities(self.fusion.apply(clips.fusion_data()))

    def weights(self, clips: ClipScores) -> Scores | None:
        """Return each clip's weights of flow and rgb, float64 (N, 2); None without such a pair."""
        return self.fusion.clip_weights(clips.fusion_data())

    def fell_back(self, clips: ClipScores) -> NDArray[np.bool_]:
        """Return a mask of the clips with fixed weights instead of the fusion's own, bool (N,)."""
        return self.fusion.fell_back(clips.fusion_data())


def choose_fusion(record: TrialRecord) -> ChosenFusion:
    """Return the fusion that is best on a trial's validation clips: the gate, or the best fixed weights.

    A run that was trained for another fusion than the gate predicts with that one.

    Raises
    ------
    ScoresError
        The trial's fusions have not been compared.
    """
    comparison, asked = read_comparison(record.folder), record.config.fusion
    if asked == GATING and GATING not in comparison.validation:
        raise ScoresError(
            f"{record.folder} was trained with a gate, and its comparison lacks its top-1 on the validation "
            "clips; make it again with `flowkit eval`"
        )
    if comparison.chosen(asked) == asked and asked not in (GATING, BASELINE):
        reason = f"the run was trained for --fusion {asked}"
        if record.config.lone_stream is not None:
            reason = "the run has this stream alone"
        return ChosenFusion(name=asked, reason=reason, fusion=_fitted(asked, record))
    if comparison.prefers_gate:
        gate = Gating(fixed=record.config.net.fixed)
        return ChosenFusion(name=GATING, reason=_preference(comparison), fusion=gate)
    reason = _preference(comparison) if asked == GATING else "the run has no gate"
    return ChosenFusion(name=BASELINE, reason=reason, fusion=Search(fraction=comparison.search_fraction))


def _preference(comparison: TrialComparison) -> str:
    gate, search = (100 * comparison.validation[name] for name in (GATING, BASELINE))
    clips = "validation clips" if not comparison.is_out_of_fold else "training clips, out of fold,"
    return f"top-1 on the {clips} is {gate:.1f} % with the gate, {search:.1f} % with fixed weights"


def _fitted(name: str, record: TrialRecord) -> Fusion:
    fusion = build_fusion(name)
    fit_on = load_scores(scores_path(record.folder, "fit"))
    fusion.fit(fit_on.fusion_data(), seed=record.config.seed)
    return fusion
