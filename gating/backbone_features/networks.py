"""The backbones that features come from: of a run, of ImageNet, or of a file of weights."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import torch

from flowkit.errors import InvalidParameterError
from gating.backbone_features.options import FeatureOptions
from gating.config import Modality
from gating.frozen.features import weights_digest
from gating.load import find_trial, load_networks
from gating.models.streams import Stream, build_stream
from gating.run_folder import TrialRecord
from gating.train_config import TrainConfig, train_preset


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class FeatureNetworks:
    """Streams whose backbones give features, in evaluation mode.

    Attributes
    ----------
    config : TrainConfig
        Form of their input: size, bound, crop, stack, field.
    streams : mapping
        By modality, those that are run, on one device.
    digests : mapping
        Digest of each one's weights, as they were loaded.
    record : TrialRecord or None
        The trial that they are of.
    """

    config: TrainConfig
    streams: Mapping[Modality, Stream]
    digests: Mapping[Modality, str]
    record: TrialRecord | None


def feature_networks(options: FeatureOptions, device: torch.device) -> FeatureNetworks:
    """Return the networks that options name.

    Raises
    ------
    CheckpointError
        The run is none, or its streams have not been trained to their end.
    InvalidParameterError
        The run lacks a stream.
    WeightsError, WeightsUnavailableError
        The file does not fit, or no installed package gives the weights.
    """
    record = None
    if options.run is not None:
        record = find_trial(options.run)
        options.on_note(f"trial: {record.folder}")
        networks = load_networks(record, device=device).networks
        config = record.config
        if missing := [one for one in options.modalities if one not in networks.streams]:
            raise InvalidParameterError(
                f"{options.run} has no stream {missing[0]}: it was trained alone on "
                f"{' and '.join(networks.streams)}; give --streams {next(iter(networks.streams))}"
            )
        streams = {one: networks.streams[one] for one in options.modalities}
    else:
        config = _config_of(options)
        streams = {one: build_stream(config.stream(one, 2)) for one in options.modalities}
    digests = {one: weights_digest(stream) for one, stream in streams.items()}
    for one, stream in streams.items():
        stream.freeze().eval().backbone.fuse_norms()
        streams[one] = stream.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    return FeatureNetworks(config=config, streams=streams, digests=digests, record=record)


def _config_of(options: FeatureOptions) -> TrainConfig:
    """Return the form of the preset `frozen`, with the backbone, weights and stack of options."""
    return dataclasses.replace(
        train_preset("frozen"),
        backbone=options.backbone,
        rgb_weights=options.weights,
        flow_weights=options.flow_weights or options.weights,
        stack=options.stack or 1,
        flow_input="image" if options.stack is None else "stack",
    )


def feature_settings(options: FeatureOptions, networks: FeatureNetworks) -> dict[str, Any]:
    """Return all that decides features but for the clips, as plain values."""
    config = networks.config
    rows: dict[str, Any] = {"per": options.per}
    if options.per == "window":
        for name in ("window", "stride", "frames_per_window", "fields_per_window"):
            rows[name] = getattr(options, name)
    else:
        rows["segments"] = options.segments
    return {
        **rows,
        "streams": options.streams,
        "fps": options.fps,
        "backbone": config.backbone,
        "weights": {one: digest[:16] for one, digest in networks.digests.items()},
        "flow_input": config.flow_input,
        "stack": config.stack,
        "short": config.short,
        "field": config.field,
        "size": config.augment.size,
        "whole_frame": config.augment.whole_frame,
        "bound_px": config.augment.bound_px,
    }
