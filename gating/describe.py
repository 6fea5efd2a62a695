"""What is told before training starts: all that is often wrong without being noticed."""

from __future__ import annotations

from gating.batches import Loading
from gating.data import TrialData, flow_record
from gating.places import Place
from gating.train_config import TrainConfig

_MOST_CLASSES = 12


def describe(data: TrialData, config: TrainConfig, *, place: Place, loading: Loading) -> list[str]:
    """Return lines on the flow, the batches, the parts of the data and the balance of classes."""
    return [
        _flow_line(data, config),
        *(_batch_line(stage, config, place, loading) for stage in ("rgb", "flow", "gate")),
        _parts_line(data, config),
        *_balance_lines(data),
    ]


def _flow_line(data: TrialData, config: TrainConfig) -> str:
    record = flow_record(data.store)
    codec, bound = data.store.options.codec, config.augment.bound_px
    stored = f"clipped to +-{codec.bound_px:g} px when stored" if codec.bounded else "not clipped when stored"
    line = (
        f"flow: preset {data.store.options.fields[0].tvl1_preset}, step {record['step']}, "
        f"codec {codec.name}, {stored}; the network sees it clipped to +-{bound:g} px"
    )
    if codec.bounded and codec.bound_px != bound:
        line += f" (WARNING: the bounds differ; --bound {codec.bound_px:g} fits this store)"
    return line


def _batch_line(stage: str, config: TrainConfig, place: Place, loading: Loading) -> str:
    schedule = config.schedule(stage)
    own = max(1, schedule.batch // place.world)
    micro = min(own, loading.micro_batch)
    return (
        f"{stage}: {schedule.epochs} epochs, {schedule.optimizer}, rate {schedule.lr:g}, effective batch "
        f"{own * place.world} clips = {place.world} processes x {-(-own // micro)} x {micro}"
    )


def _parts_line(data: TrialData, config: TrainConfig) -> str:
    gate = {
        "same": "the same clips (their scores may be saturated)",
        "holdout": f"{len(data.gate)} kept from the streams",
        "out-of-fold": f"the same, scored by copies of the streams without them, {len(data.folds)} folds",
    }[config.gate_data]
    return (
        f"split {data.split}, {data.part}: the streams learn from {len(data.learn)} clips; the gate from "
        f"{gate}; {len(data.validation)} pick the best epochs; {len(data.test)} are tested; "
        f"{len(set(data.groups.values()))} groups"
    )


def _balance_lines(data: TrialData) -> list[str]:
    rows = data.balance()
    lines = ["class: clips to learn / gate / validation / test"]
    for name, learn, gate, validation, test in rows[:_MOST_CLASSES]:
        lines.append(f"  {name}: {learn} / {gate} / {validation} / {test}")
    if len(rows) > _MOST_CLASSES:
        counts = [row[1] for row in rows]
        lines.append(f"  ... {len(rows)} classes, {min(counts)} to {max(counts)} clips to learn from each")
    return lines
