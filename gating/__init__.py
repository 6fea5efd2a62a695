"""Two streams on RGB frames and TV-L1 flow, a gating ConvNet that weighs them, and its baselines.

From a store to accuracy::

    config = gating.train_preset("tiny")                       # a TrainConfig; dataclasses.replace changes it
    with flowkit.open("out.h5") as store:
        splits = [read_split("out.h5", "split1")]              # of flowkit.datasets
        results = gating.train(store, splits, config, gating.RunOptions(out=Path("runs/mine")))
        results.fusions["gating"].top1                         # a RunResults: `results.json`
        gating.evaluate(Path("runs/mine"), store, gating.EvalOptions(segments=25, crops=10))
    gating.write_report(Path("runs/mine"))                     # one HTML page
    gating.fuse("video.npz", "audio.npz", "labels.csv",        # two streams of other tools, a FuseResults
                options=gating.FuseOptions(out=Path("runs/fused")))
    for one in gating.predict([Path("a.mp4")], Path("runs/mine"), gating.PredictOptions()):
        ...                                                    # a Prediction, or flowkit's Failure
    for one in gating.features([Path("a.mp4")], gating.FeatureOptions(window=16, stride=8)):
        ...                                                    # a VideoFeatures, or flowkit's Failure
    gating.export_model(Path("runs/mine"), Path("model.pt2"))  # for PyTorch alone

==================  =====================================================================================
train               `TrainConfig` (`StreamConfig`, `GateConfig`, `AugmentConfig`, `Schedule`), `train_preset`;
                    `RunOptions`, `LoaderConfig`, `Event`, `OnEvent`; `split_of_all` with
                    `TrainConfig.all_clips`; `read_parent` (`ParentRun`, `Extension`) to go on from a run
results             `RunResults` (`RunData`), `FusionResults`: `FusionRow`, `Gain`, and of each trial
                    `TrialResults` (`FusionAccuracy`, `GateSummary`, `McNemar`)
evaluate, predict   `EvalOptions`; `PredictOptions`, `Prediction`
fuse                `FuseOptions`, `FuseConfig`; `StreamArrays`; `FuseResults` (`FuseData`)
features            `FeatureOptions`, `VideoFeatures`
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
    from gating.backbone_features.options import FeatureOptions
    from gating.backbone_features.run import VideoFeatures, features
    from gating.config import AugmentConfig, Extension, GateConfig, LoaderConfig, Schedule, StreamConfig
    from gating.data.partition import split_of_all
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
    from gating.extension import ParentRun, read_parent
    from gating.fusing.inputs import StreamArrays
    from gating.fusing.results import FuseData, FuseResults
    from gating.fusing.run import FuseOptions, fuse
    from gating.fusing.trial import FuseConfig
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
    "Extension",
    "FeatureOptions",
    "FlowRecord",
    "FuseConfig",
    "FuseData",
    "FuseOptions",
    "FuseResults",
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
    "ParentRun",
    "PredictOptions",
    "Prediction",
    "RunData",
    "RunOptions",
    "RunResults",
    "Schedule",
    "ScoresError",
    "Stream",
    "StreamArrays",
    "StreamConfig",
    "StreamOutput",
    "TrainConfig",
    "TrainingError",
    "TrialRecord",
    "TrialResults",
    "VideoFeatures",
    "WeightsError",
    "WeightsUnavailableError",
    "evaluate",
    "export_model",
    "features",
    "fuse",
    "load_networks",
    "predict",
    "read_parent",
    "split_of_all",
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
    "Extension": "gating.config",
    "ExportedModel": "gating.model_export",
    "FUSIONS": "gating.fusions",
    "FeatureOptions": "gating.backbone_features.options",
    "FlowRecord": "gating.run_folder",
    "FuseConfig": "gating.fusing.trial",
    "FuseData": "gating.fusing.results",
    "FuseOptions": "gating.fusing.run",
    "FuseResults": "gating.fusing.results",
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
    "ParentRun": "gating.extension",
    "PredictOptions": "gating.prediction",
    "Prediction": "gating.prediction",
    "RunData": "gating.evaluation.results",
    "RunOptions": "gating.run",
    "RunResults": "gating.evaluation.results",
    "Schedule": "gating.config",
    "ScoresError": "gating.errors",
    "Stream": "gating.models.streams",
    "StreamArrays": "gating.fusing.inputs",
    "StreamConfig": "gating.config",
    "StreamOutput": "gating.models.streams",
    "TrainConfig": "gating.train_config",
    "TrainingError": "gating.errors",
    "TrialRecord": "gating.run_folder",
    "TrialResults": "gating.evaluation.results",
    "VideoFeatures": "gating.backbone_features.run",
    "WeightsError": "gating.errors",
    "WeightsUnavailableError": "gating.errors",
    "evaluate": "gating.rescoring",
    "fuse": "gating.fusing.run",
    "features": "gating.backbone_features.run",
    "export_model": "gating.model_export",
    "load_networks": "gating.load",
    "predict": "gating.prediction",
    "read_parent": "gating.extension",
    "split_of_all": "gating.data.partition",
    "train": "gating.run",
    "train_preset": "gating.train_config",
    "write_report": "gating.report.page",
}

__getattr__, __dir__ = lazy_names(__name__, _HOMES)
