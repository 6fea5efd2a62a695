"""Scores of clips by trained networks: many segments and crops a clip, divided between the processes."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gating.data.loader import ClipLoader, InputBatch
from gating.distributed import autocast
from gating.evaluation.scores import ClipScores
from gating.models.gate import GatingConvNet, activate, fuse, with_fallback
from gating.models.streams import Stream


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Networks:
    """Both streams, and the gate where there is one.

    Attributes
    ----------
    flow, rgb : Stream
        Of one number of classes.
    gate : GatingConvNet or None
        Reads both streams' feature maps.
    """

    flow: Stream
    rgb: Stream
    gate: GatingConvNet | None = None

    def eval(self) -> None:
        """Set evaluation mode."""
        for net in (self.flow, self.rgb, self.gate):
            if net is not None:
                net.eval()


@torch.inference_mode()
def score_clips(
    networks: Networks,
    batches: ClipLoader,
    ids: Sequence[str],
    *,
    segments: int,
    crops: int = 1,
    features: bool = True,
    precision: torch.dtype | None = None,
) -> ClipScores:
    """Return the networks' scores of clips, in the order of `ids`.

    Scores, features and pre-activations of the gate are averaged over crops and segments; with
    placement "snippet" each segment of each crop is weighed before that.

    Parameters
    ----------
    networks
        On the batches' device.
    ids
        Clips of the batches' trial.
    segments, crops
        A clip; TSN tests with 25 and 10.
    features
        Keep the pooled features.
    precision
        Of mixed precision, or None.
    """
    networks.eval()
    process_group = batches.process_group
    rows: list[dict[str, np.ndarray]] = []
    for several in batches.testing(ids, segments=segments, crops=crops):
        with autocast(process_group.device, precision):
            rows.extend(_rows(networks, several))
    by_id = {str(row["id"]): row for part in process_group.all_gather(rows) for row in part}
    ordered = [by_id[video_id] for video_id in ids]
    arrays = {name: np.stack([row[name] for row in ordered]) for name in ordered[0] if name != "id"}
    if not features:
        arrays = {name: value for name, value in arrays.items() if not name.endswith("_features")}
    data = batches.data
    return ClipScores(
        ids=tuple(ids),
        groups=tuple(data.groups.get(video_id, video_id) for video_id in ids),
        classes=data.classes,
        segments=segments,
        crops=crops,
        **arrays,
    )


def _rows(networks: Networks, crops: Sequence[InputBatch]) -> Iterator[dict[str, np.ndarray]]:
    """Yield each clip's arrays, from the same clips under several crops."""
    flows, rgbs = (
        [net(one.of(net.config.modality)) for one in crops] for net in (networks.flow, networks.rgb)
    )
    # Crops and segments are averaged alike: they share one axis.
    scores = [torch.cat([out.scores.float() for out in outs], dim=1) for outs in (flows, rgbs)]
    found: dict[str, Tensor] = {"labels": crops[0].labels}
    for name, outs, own in zip(("flow", "rgb"), (flows, rgbs), scores, strict=True):
        found[name] = own.mean(dim=1)
        found[f"{name}_features"] = torch.cat([out.features.float() for out in outs], dim=1).mean(dim=1)
    if networks.gate is not None:
        config = networks.gate.config
        raw = [
            networks.gate(flow.feature_map, rgb.feature_map).raw.float()
            for flow, rgb in zip(flows, rgbs, strict=True)
        ]
        mean = torch.stack(raw).mean(dim=0) if config.placement == "consensus" else torch.cat(raw, dim=1)
        gates = activate(mean, config)
        alive = with_fallback(gates, config.fixed)
        found["gated"] = fuse(alive, *scores)
        found["gates"] = gates if gates.ndim == 2 else gates.mean(dim=1)
    arrays = {name: value.cpu().numpy() for name, value in found.items()}
    for k, video_id in enumerate(crops[0].ids):
        own_row = {
            name: value[k].astype(np.float64 if name != "labels" else np.int64)
            for name, value in arrays.items()
        }
        yield {"id": np.array(video_id), **own_row}


def joined_scores(parts: Sequence[ClipScores]) -> ClipScores:
    """Return the scores of several sets of clips as one; all have the same arrays."""
    values: dict[str, Any] = {
        name: np.concatenate([getattr(part, name) for part in parts])
        for name in ("labels", "flow", "rgb", "flow_features", "rgb_features", "gates", "gated")
        if getattr(parts[0], name) is not None
    }
    for name in ("ids", "groups"):
        values[name] = tuple(k for part in parts for k in getattr(part, name))
    return dataclasses.replace(parts[0], **values)
