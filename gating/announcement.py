"""Lines that a run prints of a trial before it trains it."""

from __future__ import annotations

from collections.abc import Iterator

from gating.config import GATING, LoaderConfig, StageKind
from gating.data.balance import class_weights
from gating.data.partition import TrialData, flow_record
from gating.distributed import ProcessGroup
from gating.models.weights import stream_origin
from gating.train_config import TrainConfig

# Classes whose clips are counted one by one.
_MOST_CLASSES = 12


def trial_lines(
    data: TrialData, config: TrainConfig, *, process_group: ProcessGroup, loader: LoaderConfig
) -> list[str]:
    """Return lines on settings that are often wrong unnoticed: flow, batches, parts, balance of classes."""
    return [
        _flow_line(data, config),
        *_learning_lines(config, process_group, loader),
        *_weights_lines(config),
        *_extension_lines(config),
        _parts_line(data, config),
        *_balance_lines(data),
        *_imbalance_lines(data, config),
    ]


def _flow_line(data: TrialData, config: TrainConfig) -> str:
    record = flow_record(data.store.options)
    codec, bound = data.store.options.codec, config.augment.bound_px
    stored = f"clipped to +-{codec.bound_px:g} px when stored" if codec.bounded else "no bound when stored"
    (field,) = [one for one in data.store.options.fields if one.name == config.field]
    line = (
        f"{field.name}: {field.summary}, step {record['step']}, "
        f"codec {codec.name}, {stored}; the network sees it clipped to +-{bound:g} px"
    )
    if codec.bounded and codec.bound_px != bound:
        line += f" (WARNING: the bounds differ; --bound {codec.bound_px:g} fits this store)"
    return line


def _learning_lines(config: TrainConfig, process_group: ProcessGroup, loader: LoaderConfig) -> Iterator[str]:
    """Yield a line for each stage: its epochs and batch, or what its head is fitted on."""
    if config.head == "segment":
        stages = (*config.modalities, *(("gate",) if config.lone_stream is None else ()))
        yield from (_batch_line(stage, config, process_group, loader) for stage in stages)
        return
    yield (
        f"{', '.join(config.modalities)}: linear heads on frozen {config.backbone}, "
        f"{config.test_segments} segments a clip; their strength by cross-validation over groups; features "
        "are kept beside the store"
    )
    if config.fusion == GATING:
        yield _batch_line("gate", config, process_group, loader)


def _batch_line(
    stage: StageKind, config: TrainConfig, process_group: ProcessGroup, loader: LoaderConfig
) -> str:
    schedule = config.schedule(stage)
    processes = process_group.world_size
    own = max(1, schedule.batch // processes)
    micro = min(own, loader.micro_batch)
    return (
        f"{stage}: {schedule.epochs} epochs, {schedule.optimizer}, learning rate {schedule.lr:g}, effective "
        f"batch {own * processes} clips = {processes} processes x {-(-own // micro)} x {micro}"
    )


def _weights_lines(config: TrainConfig) -> Iterator[str]:
    """Yield a warning for each stream that starts from a run's own: it may know clips that are held out."""
    for modality in config.modalities:
        weights = config.stream(modality, 2).weights
        origin = "" if weights is None or weights == "imagenet" else stream_origin(weights)
        if origin:
            yield (
                f"{modality}: starts from {weights}, which learned from {origin} (WARNING: scores of those "
                "clips, tested, held out or out of fold here, are too good)"
            )


def _extension_lines(config: TrainConfig) -> Iterator[str]:
    if config.extends is not None:
        stages = (*config.modalities, *(("gate",) if config.fusion == GATING else ()))
        on = [stage for stage in stages if stage not in config.extends.kept]
        kept = [stage for stage in stages if stage in config.extends.kept]
        rest = f"; {', '.join(kept)} stay as they are" if kept else ""
        yield f"{', '.join(on)}: from the weights of {config.extends.run}, with new optimisers{rest}"


def _parts_line(data: TrialData, config: TrainConfig) -> str:
    if config.all_clips:
        taken = "" if config.head == "clip" else "; the last epoch of each stage is taken"
        return (
            f"{' and '.join(config.modalities)}: every one of the {len(data.train)} clips trains and none is "
            f"tested; networks trained without them, {len(data.folds)} folds, score them for the gate, the "
            f"choice of the fusion and the table{taken}; {len(set(data.groups.values()))} groups"
        )
    picked = "" if config.head == "clip" else f"{len(data.validation)} pick the best epochs; "
    tested = f"{picked}{len(data.test)} are tested; {len(set(data.groups.values()))} groups"
    if config.lone_stream is not None:
        learn = f"{config.lone_stream} alone learns from {len(data.train)} clips"
        return f"split {data.split}, {data.part}: {learn}, no gate and no fusion; {tested}"
    gate = {
        "same": "the same clips (their scores may be saturated)",
        "holdout": f"{len(data.gate)} kept from the streams",
        "out-of-fold": f"the same, scored by streams trained without them, {len(data.folds)} folds",
    }[config.gate_data]
    return (
        f"split {data.split}, {data.part}: the streams learn from {len(data.train)} clips; the gate from "
        f"{gate}; {tested}"
    )


def _imbalance_lines(data: TrialData, config: TrainConfig) -> Iterator[str]:
    """Yield a line for each choice that treats rare classes otherwise than frequent ones."""
    if config.class_weights == "balanced":
        weights = class_weights([data.labels[k] for k in data.train], len(data.classes))
        yield f"class weights: inversely proportional to clips, {weights.min():.2f} to {weights.max():.2f}"
    if config.sampling == "balanced":
        yield "sampling: an epoch has as many clips of each class"


def _balance_lines(data: TrialData) -> list[str]:
    rows = data.balance()
    lines = ["class: clips to learn / gate / validation / test"]
    for name, learn, gate, validation, test in rows[:_MOST_CLASSES]:
        lines.append(f"  {name}: {learn} / {gate} / {validation} / {test}")
    if len(rows) > _MOST_CLASSES:
        counts = [row[1] for row in rows]
        lines.append(f"  ... {len(rows)} classes, {min(counts)} to {max(counts)} clips to learn from each")
    return lines
