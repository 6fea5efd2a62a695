"""Two streams on RGB frames and TV-L1 flow, a gating ConvNet that weighs them, and its baselines.

From a store to accuracy::

    config = gating.train_preset("tiny")                       # a TrainConfig; dataclasses.replace changes it
    with flowkit.open("out.h5") as store:
        splits = [read_split("out.h5", "split1")]              # of flowkit.datasets
        results = gating.train(store, splits, config, gating.RunOptions(out=Path("runs/mine")))
        results.fusions["gating"].top1                         # a RunResults: `results.json`
        gating.evaluate(Path("runs/mine"), store, gating.EvalOptions(segments=25, crops=10))
    gating.write_report(Path("runs/mine"))                     # one HTML page
    for one in gating.predict([Path("a.mp4")], Path("runs/mine"), gating.PredictOptions()):
        ...                                                    # a Prediction, or flowkit's Failure
    gating.export_model(Path("runs/mine"), Path("model.pt2"))  # for PyTorch alone

==================  =====================================================================================
train               `TrainConfig` (`StreamConfig`, `GateConfig`, `AugmentConfig`, `Schedule`), `train_preset`;
                    `RunOptions`, `LoaderConfig`, `Event`, `OnEvent`
results             `RunResults` (`RunData`), `FusionResults`: `FusionRow`, `Gain`, and of each trial
                    `TrialResults` (`FusionAccuracy`, `GateSummary`, `McNemar`)
evaluate, predict   `EvalOptions`; `PredictOptions`, `Prediction`
export_model        `ExportedModel`
load_networks       `LoadedTrial`: its `TrialRecord` (`DataRecord`, `FlowRecord`) and its `Networks`
networks            `Stream` → `StreamOutput`, `GatingConvNet` → `GateOutput`
fusions             `FUSIONS`; a new one is a subclass of `Fusion` (`FusionData`, `Kind`) and a line there
errors              `GatingError`: `CheckpointError`, `NotFittedError`, `ScoresError`, `TrainingError`,
                    `WeightsError`, `WeightsUnavailableError`
==================  =====================================================================================

Names load on first use: `import gating`, the configurations and the errors need no torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from flowkit._lazy import lazy_names

if TYPE_CHECKING:
    from gating.config import AugmentConfig, GateConfig, LoaderConfig, Schedule, StreamConfig
    from gating.errors import (
        CheckpointError,
        GatingError,
        NotFittedError,
        ScoresError,
        TrainingError,
        WeightsError,
        WeightsUnavailableError,
    )
    from gating.evaluation.comparison import FusionRow, Gain
    from gating.evaluation.results import FusionAccuracy, FusionResults, RunData, RunResults, TrialResults
    from gating.evaluation.scores import Networks
    from gating.events import Event, OnEvent
    from gating.fusions import FUSIONS, Fusion, FusionData, Kind
    from gating.load import LoadedTrial, load_networks
    from gating.metrics import GateSummary
    from gating.model_export import ExportedModel, export_model
    from gating.models.gate import GateOutput, GatingConvNet
    from gating.models.streams import Stream, StreamOutput
    from gating.prediction import Prediction, PredictOptions, predict
    from gating.report.page import write_report
    from gating.rescoring import EvalOptions, evaluate
    from gating.run import RunOptions, train
    from gating.run_folder import DataRecord, FlowRecord, TrialRecord
    from gating.statistics import McNemar
    from gating.train_config import TrainConfig, train_preset

__all__ = [
    "FUSIONS",
    "AugmentConfig",
    "CheckpointError",
    "DataRecord",
    "EvalOptions",
    "Event",
    "ExportedModel",
    "FlowRecord",
    "Fusion",
    "FusionAccuracy",
    "FusionData",
    "FusionResults",
    "FusionRow",
    "Gain",
    "GateConfig",
    "GateOutput",
    "GateSummary",
    "GatingConvNet",
    "GatingError",
    "Kind",
    "LoadedTrial",
    "LoaderConfig",
    "McNemar",
    "Networks",
    "NotFittedError",
    "OnEvent",
    "PredictOptions",
    "Prediction",
    "RunData",
    "RunOptions",
    "RunResults",
    "Schedule",
    "ScoresError",
    "Stream",
    "StreamConfig",
    "StreamOutput",
    "TrainConfig",
    "TrainingError",
    "TrialRecord",
    "TrialResults",
    "WeightsError",
    "WeightsUnavailableError",
    "evaluate",
    "export_model",
    "load_networks",
    "predict",
    "train",
    "train_preset",
    "write_report",
]

_HOMES = {
    "AugmentConfig": "gating.config",
    "CheckpointError": "gating.errors",
    "DataRecord": "gating.run_folder",
    "EvalOptions": "gating.rescoring",
    "Event": "gating.events",
    "ExportedModel": "gating.model_export",
    "FUSIONS": "gating.fusions",
    "FlowRecord": "gating.run_folder",
    "Fusion": "gating.fusions",
    "FusionAccuracy": "gating.evaluation.results",
    "FusionData": "gating.fusions",
    "FusionResults": "gating.evaluation.results",
    "FusionRow": "gating.evaluation.comparison",
    "Gain": "gating.evaluation.comparison",
    "GateConfig": "gating.config",
    "GateOutput": "gating.models.gate",
    "GateSummary": "gating.metrics",
    "GatingConvNet": "gating.models.gate",
    "GatingError": "gating.errors",
    "Kind": "gating.fusions",
    "LoadedTrial": "gating.load",
    "LoaderConfig": "gating.config",
    "McNemar": "gating.statistics",
    "Networks": "gating.evaluation.scores",
    "NotFittedError": "gating.errors",
    "OnEvent": "gating.events",
    "PredictOptions": "gating.prediction",
    "Prediction": "gating.prediction",
    "RunData": "gating.evaluation.results",
    "RunOptions": "gating.run",
    "RunResults": "gating.evaluation.results",
    "Schedule": "gating.config",
    "ScoresError": "gating.errors",
    "Stream": "gating.models.streams",
    "StreamConfig": "gating.config",
    "StreamOutput": "gating.models.streams",
    "TrainConfig": "gating.train_config",
    "TrainingError": "gating.errors",
    "TrialRecord": "gating.run_folder",
    "TrialResults": "gating.evaluation.results",
    "WeightsError": "gating.errors",
    "WeightsUnavailableError": "gating.errors",
    "evaluate": "gating.rescoring",
    "export_model": "gating.model_export",
    "load_networks": "gating.load",
    "predict": "gating.prediction",
    "train": "gating.run",
    "train_preset": "gating.train_config",
    "write_report": "gating.report.page",
}

__getattr__, __dir__ = lazy_names(__name__, _HOMES)
