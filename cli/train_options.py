"""Options of `flowkit train` that change a preset, and the store that it trains on."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import click

from flowkit.errors import InputError, InvalidParameterError

from .options import Function, Options, given_flags
from .streams import echo

if TYPE_CHECKING:
    from flowkit.datasets import Split
    from flowkit.remote import Location
    from flowkit.store.read.store import Store
    from gating.config import AugmentConfig, GateConfig, Modality, Preset, Schedule
    from gating.extension import ParentRun
    from gating.train_config import TrainConfig

_Row: TypeAlias = tuple[str, type[str] | type[int] | type[float] | None, str]
"""Name of an option, its type, its help; the default of each is the preset's."""

_NETWORKS: tuple[_Row, ...] = (
    ("--backbone", str, "bn_inception, resnet18, resnet50, efficientnet_lite0 or small, for both streams."),
    ("--weights", str, "imagenet, none, or a file, for both streams."),
    ("--rgb-weights", str, "As --weights, for one stream."),
    ("--flow-weights", str, "As --weights, for one stream."),
    ("--rgb-dropout", float, "Fraction of the pooled feature dropped, [0, 1)."),
    ("--flow-dropout", float, "Fraction of the pooled feature dropped, [0, 1)."),
    ("--partial-bn/--no-partial-bn", None, "Keep all batch norms but the first as they are."),
    ("--segments", int, "Segments of a clip, K."),
    ("--stack", int, "Flow fields of a segment, L."),
    ("--bound", float, "Clip flow to +-BOUND px, as the network sees it."),
    ("--size", int, "Side of the network's square input, px."),
    (
        "--flip/--no-flip",
        None,
        "Mirror half of the training clips; off where left and right differ in class.",
    ),
)
_GATE: tuple[_Row, ...] = (
    ("--gate-data", str, "Clips that the gate learns from: out-of-fold, holdout or same."),
    ("--stream-folds", int, "Folds, each with a pair of streams, for --gate-data out-of-fold."),
    ("--holdout-share", float, "Fraction of the training list for --gate-data holdout."),
    ("--activation", str, "relu, softmax or sigmoid."),
    ("--combine", str, "Join of the two feature maps: concat, height or sum."),
    ("--placement", str, "Activate the mean over segments (consensus) or each (snippet)."),
    ("--tap", str, "Layer that the gate reads."),
    ("--auxiliary-weight", float, "Weight of the auxiliary classification."),
    ("--prior", float, "Weight of the prior towards the fixed weights."),
    ("--gate-dropout", float, "Fraction of the gate's pooled feature dropped, [0, 1)."),
)
_TRAINING: tuple[_Row, ...] = (
    ("--rgb-epochs", int, "Passes over the clips."),
    ("--flow-epochs", int, "Passes over the clips."),
    ("--gate-epochs", int, "Passes over the clips."),
    ("--batch", int, "Effective batch of the streams, clips."),
    ("--gate-batch", int, "Effective batch of the gate, clips."),
    (
        "--patience",
        int,
        "End a network's stage after so many epochs without a better validation value: top-1, then the loss.",
    ),
    (
        "--class-weights",
        str,
        "none, or balanced: losses weigh a clip by its class, inversely proportional to the class's clips.",
    ),
    ("--sampling", str, "Clips of a network's epoch: random, each once, or balanced, as many of each class."),
    ("--lr-factor", float, "Factor on the learning rates of all stages."),
    ("--validation-share", float, "Fraction of the training list that picks the best epochs."),
    ("--test-segments", int, "Segments of a clip when it is tested."),
    ("--test-crops", int, "Crops of a clip when it is tested: 1, 5 or 10."),
    ("--field", str, "Flow field of the store."),
    ("--amp/--no-amp", None, "Mixed precision."),
)


def config_options(function: Function) -> Function:
    """Add --preset and the options that replace single values of it."""
    for flag, kind, text in reversed(_NETWORKS + _GATE + _TRAINING):
        function = click.option(flag, type=kind, default=None, help=f"{text} [default: the preset's]")(
            function
        )
    return click.option(
        "--preset",
        type=click.Choice(["auto", "frozen", "tiny", "tsn", "zhu2018"]),
        default="auto",
        show_default=True,
        help="frozen: linear heads on ImageNet features, minutes on a CPU; tiny: small clips from scratch on "
        "a CPU, minutes; tsn: TSN's recipe and a gate on out-of-fold scores; zhu2018: the gate as its "
        "authors released it; auto: frozen, or tiny without its weights, and says why.",
    )(function)


# Field of TrainConfig that each option sets, as a path of names.
_FIELDS: dict[str, tuple[str, ...]] = {
    **{
        name: (name,)
        for name in (
            *("backbone", "rgb_dropout", "flow_dropout", "partial_bn", "segments", "stack", "gate_data"),
            *("stream_folds", "holdout_share", "tap", "validation_share", "test_segments", "test_crops"),
            *("field", "amp", "patience", "class_weights", "sampling"),
        )
    },
    **{name: ("net", name) for name in ("activation", "combine", "placement", "auxiliary_weight", "prior")},
    "bound": ("augment", "bound_px"),
    "size": ("augment", "size"),
    "flip": ("augment", "flip"),
    "gate_dropout": ("net", "dropout"),
    "rgb_epochs": ("rgb", "epochs"),
    "flow_epochs": ("flow", "epochs"),
    "gate_epochs": ("gate", "epochs"),
    "gate_batch": ("gate", "batch"),
}


def streams_option(function: Function) -> Function:
    """Add --streams."""
    return click.option(
        "--streams",
        type=click.Choice(["both", "rgb", "flow"]),
        help="Train both streams and fuse them, or one alone, without gate and fusion. [default: both, but "
        "flow of a store without frames]",
    )(function)


# Options that a run to go on from has decided.
_OF_PARENT = (
    *("preset", "streams", "all_clips", "seed", "seeds"),
    *("split", "ucf101", "hmdb51", "list", "folds", "leave_one_out", "group", "groups", "group_column"),
    *("fold", "allow_missing"),
)


def take_parent(options: Options) -> ParentRun | None:
    """Take --extend out of a command's options, and with it those that the run named there has decided.

    Its seeds stay, as `seed` and `seeds`.

    Raises
    ------
    InvalidParameterError
        One of these options is given, or the run has nothing to go on with.
    """
    from gating.extension import read_parent

    run = options.pop("extend")
    if run is None:
        return None
    if given := given_flags(click.get_current_context(), _OF_PARENT):
        raise InvalidParameterError(
            f"--extend {run} goes on with the split, streams and seeds of that run, got "
            f"{' and '.join(given)} with it; leave them out"
        )
    for name in set(_OF_PARENT) - {"preset", "streams", "all_clips"}:
        del options[name]
    return read_parent(run)


def take_train_config(options: Options, *, store: Store, parent: ParentRun | None = None) -> TrainConfig:
    """Take --preset, --fusion and the options of `config_options` out of a command's options.

    Without a preset that is named, the number of clips and the device decide, and a line says so; as one
    does where the store has no frames and the flow stream is trained alone. Of a run to go on from, its
    configuration is changed instead of a preset.

    Raises
    ------
    InvalidParameterError
        A value is outside its range.
    """
    from gating.config import STAGES
    from gating.train_config import train_preset

    preset, streams, all_clips = (options.pop(name) for name in ("preset", "streams", "all_clips"))
    values: dict[tuple[str, ...], object] = {("fusion",): options.pop("fusion")}
    if parent is not None:
        config = parent.config
    else:
        config = train_preset(_chosen_preset(len(store), options["device"]) if preset == "auto" else preset)
        lone = lone_stream(streams, store)
        values[("all_clips",)] = all_clips
        values[("modalities",)] = None if lone is None else (lone,)
        values[("fusion",)] = values[("fusion",)] or lone
    going_on = [stage for stage in STAGES if options[f"{stage}_epochs"] is not None]
    for name, path in _FIELDS.items():
        values[path] = options.pop(name)
    weights, batch, factor = (options.pop(name) for name in ("weights", "batch", "lr_factor"))
    for name in ("rgb_weights", "flow_weights"):
        own = options.pop(name)
        values[(name,)] = weights if own is None else own
    for stage in ("rgb", "flow"):
        values[(stage, "batch")] = batch
    if factor is not None:
        values |= {(stage, "lr"): config.schedule(stage).lr * factor for stage in ("rgb", "flow", "gate")}
    config = _replaced(config, {path: value for path, value in values.items() if value is not None})
    return config if parent is None else parent.extended(config, going_on=going_on)


def lone_stream(asked: str | None, store: Store) -> Modality | None:
    """Return the stream that is trained alone, None for both; say so where the store decides."""
    if asked is None and store.options.frame_codec == "none":
        echo(f"streams: flow alone, as {store.path} keeps no frames", err=True)
        return "flow"
    if asked == "rgb":
        return "rgb"
    return "flow" if asked == "flow" else None


def take_split_of_all(store: Store, options: Options) -> list[Split]:
    """Take the split options out of a command's options, and return the split in which every clip trains.

    Raises
    ------
    InvalidParameterError
        One of them is given that says which clips are tested.
    """
    from flowkit.datasets import SplitRequest, check_split
    from gating.data.partition import split_of_all

    given = {field.name: options[field.name] for field in dataclasses.fields(SplitRequest)}
    for name in given.keys() - {"fold"}:
        del options[name]
    request = SplitRequest(**{name: given.pop(name) for name in ("group", "groups", "group_column")})
    if tested := [f"--{name.replace('_', '-')}" for name, value in given.items() if value]:
        raise InvalidParameterError(
            f"--all trains on every clip and tests none, got {' and '.join(tested)} with it; leave out one "
            "of them. --group and --groups, which say what clips belong together, go with --all"
        )
    split = split_of_all(store, request.groups_of(store))
    check_split(split, dict(zip(store, store.column("label"), strict=True)))
    return [split]


def _chosen_preset(clips: int, device: str) -> Preset:
    from gating.auto_preset import auto_preset

    preset, reason = auto_preset(clips, device=device)
    echo(f"preset {preset}: {reason}", err=True)
    return preset


def _replaced(config: TrainConfig, values: dict[tuple[str, ...], object]) -> TrainConfig:
    """Return the configuration with values at paths of field names; "none" is None."""
    tops: Options = {}
    for (top, *below), value in values.items():
        if below:
            tops.setdefault(top, {})[below[0]] = value
        else:
            tops[top] = None if value == "none" else value
    changed: Options = {
        name: _with_values(getattr(config, name), value) if isinstance(value, dict) else value
        for name, value in tops.items()
    }
    return dataclasses.replace(config, **changed)


def _with_values(
    part: AugmentConfig | GateConfig | Schedule, values: Options
) -> AugmentConfig | GateConfig | Schedule:
    """Replace values; the milestones and the warm-up of a schedule move with its epochs."""
    from gating.config import Schedule

    epochs = values.get("epochs")
    if epochs is not None and isinstance(part, Schedule):
        factor = epochs / part.epochs
        values = {
            **values,
            "milestones": tuple(round(one * factor, 3) for one in part.milestones),
            "warmup_epochs": part.warmup_epochs * min(1.0, factor),
        }
    return dataclasses.replace(part, **values)


def find_store(given: Location | None) -> Location:
    """Return the store: as given, FLOWKIT_STORE, or the only one in this folder.

    Raises
    ------
    InputError
        None of them, or several stores in this folder.
    """
    if given is not None:
        return given
    if named := os.environ.get("FLOWKIT_STORE"):
        from flowkit.remote import locate

        return locate(named)
    here = sorted(Path().glob("*.h5"))
    if len(here) != 1:
        names = ", ".join(str(path) for path in here[:5]) or "none"
        raise InputError(
            f"no STORE given, FLOWKIT_STORE is not set, and the stores here are: {names}; name one"
        )
    return here[0]
