"""A finished trial as one file for PyTorch alone: a graph of `torch.export`, and what it expects as JSON.

program = torch.export.load("model.pt2")                # needs neither flowkit nor gating
outputs = program.module()(rgb, flow)                   # rgb uint8 (B, K, 3, H, W), flow px (B, K, 2 L, H, W)
"""

from __future__ import annotations

import dataclasses
import json
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args

import torch
from torch import Tensor
from torch.export import Dim, ExportedProgram

from flowkit._version import __version__
from flowkit.atomic import replacement, write_text
from flowkit.errors import InputError
from flowkit.validate import check_choice, check_integer, check_range
from gating.compatibility import extract_options
from gating.config import MAX_SEGMENTS, MAX_SIDE_PX, CropCount
from gating.errors import CheckpointError
from gating.load import ChosenFusion, LoadedTrial, choose_fusion, find_trial, load_networks
from gating.model_graph import TwoStreamGraph

FORMAT = "flowkit-model 1"
CARD = "flowkit.json"
"""Name of the JSON within the file; beside it, it has the file's name and `.json`."""
LEAST_SIDE_PX = 8
_EXAMPLE = (2, 40, 52)  # clips, height, width: of no value but that none of them is 1, or another's


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class ExportedModel:
    """A trial's exported file.

    Attributes
    ----------
    path : Path
        Of the file.
    card : mapping
        What its JSON says: classes, inputs, outputs, sampling, flow, fusion, versions.
    """

    path: Path
    card: Mapping[str, Any]


def export_model(
    run: Path, path: Path, *, segments: int | None = None, crops: CropCount | None = None
) -> ExportedModel:
    """Write a finished trial as a graph of `torch.export`, with its preprocessing and its chosen fusion.

    Parameters
    ----------
    run
        A trial's folder, or a run's: then its first finished trial.
    path
        File to write, over an earlier one; its JSON is in it, and beside it as PATH.json.
    segments
        K of a clip, >= 1; None is as the trial was tested.
    crops
        Of each segment: 1, 5 or 10; None is as the trial was tested.

    Raises
    ------
    CheckpointError, ScoresError
        The trial has not finished, its fusions have not been compared, or it is damaged.
    InputError
        There is no such folder to write to.
    InvalidParameterError
        A value is outside its range, or the chosen fusion has no form as a graph.
    """
    if segments is not None:
        check_integer("segments", segments, 1)
        check_range("segments", segments, 1, MAX_SEGMENTS)
    if crops is not None:
        check_choice("crops", crops, get_args(CropCount))
    if not path.parent.is_dir():
        raise InputError(f"cannot write {path}: there is no folder {path.parent}; make it first")
    record = find_trial(run)
    chosen, config = choose_fusion(record), record.config
    crops = crops or config.test_crops
    trial = load_networks(record)
    graph = TwoStreamGraph(trial, chosen, crops=crops).eval().requires_grad_(False)
    # torch.export.save takes tensors in another order of memory for parts of larger ones, and warns.
    graph.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    program = _exported(graph, segments=segments or config.test_segments, stack=config.stack)
    card = _card(trial, chosen, program, segments=segments or config.test_segments, crops=crops)
    text = json.dumps(card, indent=1, ensure_ascii=False)
    with replacement(path) as temporary, temporary.open("wb") as file:
        torch.export.save(program, file, extra_files={CARD: text})
    write_text(path.with_name(f"{path.name}.json"), text)
    return ExportedModel(path=path, card=card)


def _exported(graph: TwoStreamGraph, *, segments: int, stack: int) -> ExportedProgram:
    clips, height, width = _EXAMPLE
    rgb = torch.zeros(clips, segments, 3, height, width, dtype=torch.uint8)
    flow = torch.zeros(clips, segments, 2 * stack, height, width)
    sides = [Dim(name, min=LEAST_SIDE_PX, max=MAX_SIDE_PX) for name in ("height", "width")]
    free = {0: Dim("clips", min=1), **dict(zip((3, 4), sides, strict=True))}
    with torch.no_grad():
        return torch.export.export(graph, (rgb, flow), dynamic_shapes={"rgb": free, "flow": free})


def _card(
    trial: LoadedTrial, chosen: ChosenFusion, program: ExportedProgram, *, segments: int, crops: CropCount
) -> dict[str, Any]:
    """Return all that a user of the file has to know, as plain values."""
    record = trial.record
    config = record.config
    outputs = program.module()(*(one for one in program.example_inputs[0]))
    return {
        "format": FORMAT,
        "classes": list(record.classes),
        "inputs": {
            "rgb": {
                "dtype": "uint8",
                "shape": ["B", segments, 3, "H", "W"],
                "meaning": "RGB frames, red first, 0 to 255, as stored: not cropped, not normalised",
            },
            "flow": {
                "dtype": "float32",
                "shape": ["B", segments, 2 * config.stack, "H", "W"],
                "meaning": "px per frame step of these frames: u (to the right) and v (down) of each of the "
                f"segment's {config.stack} fields in turn",
            },
        },
        "outputs": {name: ["B", *value.shape[1:]] for name, value in _tensors(outputs).items()},
        "sides_px": [LEAST_SIDE_PX, MAX_SIDE_PX],
        "sampling": {
            "segments": segments,
            "stack": config.stack,
            "short": config.short,
            "rule": "of N fields, n = max(1, N - stack + 1); segment k starts at "
            "s = min(floor((k + 0.5) n / segments), n - 1), has frame s and fields s to s + stack - 1; a "
            "field beyond the last is the last (short: clamp) or counted on from the first (wrap)",
        },
        "preprocessing": {
            "crops": crops,
            "whole_frame": config.augment.whole_frame,
            "size_px": config.augment.size,
            "flow_clipped_to_px": config.augment.bound_px,
            "flow_input": config.flow_input,
        },
        "flow": {**record.data["flow"], "field": config.field, "extract": _extract_command(trial)},
        "fusion": {"name": chosen.name, "reason": chosen.reason},
        "trial": {"split": record.data["split"], "part": record.data["part"], "config": config.to_json()},
        "versions": {
            "flowkit": __version__,
            "torch": torch.__version__,
            "python": platform.python_version(),
        },
    }


def _tensors(outputs: Any) -> dict[str, Tensor]:
    found: dict[str, Tensor] = outputs
    return found


def _extract_command(trial: LoadedTrial) -> str:
    """Return the options of `flowkit extract` that make such frames and flow; why not, where none do."""
    try:
        return " ".join(["flowkit extract", *extract_options(trial.record)])
    except CheckpointError as error:
        return f"none: {error}"
