"""`gating.fuse`: all trials of two streams that other tools computed, and the table over them.

results = fuse("videomae.npz", "audio.h5", "labels.csv", options=FuseOptions(out=Path("runs/mine")))
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import torch

from flowkit.datasets import Split, SplitRequest, check_split, labels_from_csv, splits_of_labels
from flowkit.datasets.splits import write_split_file
from flowkit.errors import InvalidParameterError
from flowkit.validate import check_at_least
from gating.distributed import join_process_group
from gating.evaluation.comparison import TrialComparison
from gating.events import Event, OnEvent, ignore
from gating.fusing.gate_maps import GateMaps, gate_maps
from gating.fusing.inputs import StreamArrays, read_stream
from gating.fusing.joined import JoinedStreams, join_streams
from gating.fusing.results import FuseResults, data_of, results_of
from gating.fusing.trial import FuseConfig, FuseParts, FuseTrial, plan_parts
from gating.run_folder import (
    COMPARISON,
    RECORD,
    open_log,
    split_path,
    trial_folder,
    trial_folders,
    write_results,
)

DEFAULT_FOLDS = 5
"""Of clips without a split."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class FuseOptions:
    """Options of a fusion.

    Parameters
    ----------
    out : Path
        Folder of the run.
    seeds : tuple of int
        One trial each, of each split or fold; they replace that of `FuseConfig`.
    device : str
        Of the gate: "auto", "cpu", "cuda" or "cuda:N".
    threads : int or None
        Of torch; None leaves them as they are.
    on_event : callable
        Receives each event of `gating.events`.
    """

    out: Path
    seeds: tuple[int, ...] = (0,)
    device: str = "auto"
    threads: int | None = None
    on_event: OnEvent = ignore

    def __post_init__(self) -> None:
        """Check the seeds and the threads."""
        if self.threads is not None:
            check_at_least("threads", self.threads, 1)
        if not self.seeds or min(self.seeds) < 0 or len(set(self.seeds)) < len(self.seeds):
            raise InvalidParameterError(f"seeds must be distinct numbers >= 0, got {self.seeds}")


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class _Plan:
    """One trial to be run."""

    split: Split
    parts: FuseParts
    config: FuseConfig
    folder: Path


def fuse(
    a: Path | str | StreamArrays,
    b: Path | str | StreamArrays,
    labels: Path | str | Mapping[str, str],
    *,
    splits: SplitRequest | Sequence[Split] | None = None,
    config: FuseConfig | None = None,
    options: FuseOptions,
) -> FuseResults:
    """Put two streams through every fusion and the gate, write `results.json`, and return its content.

    Parameters
    ----------
    a, b
        A file or folder as `gating.fusing.inputs` has them, or the arrays. On features linear heads are
        fitted, whose scores of a clip are by heads that did not learn from it; scores without features are
        taken to be such already. In tables, and in the gate, `a` stands for rgb and `b` for flow.
    labels
        A CSV file as `flowkit.datasets.labels_from_csv` reads it, or the label of each id.
    splits
        Folds, or lists of train and test clips, and groups; None is five folds without groups.
    config
        Of the fits; None is `FuseConfig()`.
    options
        Folder, seeds and device.

    Raises
    ------
    InputError
        A stream cannot be read, the two have no labelled clip in common, or a split does not fit them.
    InvalidParameterError
        The device does not exist, a choice does not fit the clips, or the folder has other trials.
    """
    config = config or FuseConfig()
    first, second = _told_apart(
        *(one if isinstance(one, StreamArrays) else read_stream(one) for one in (a, b))
    )
    if not isinstance(labels, Mapping):
        labels = labels_from_csv(labels, {*first.ids, *second.ids})
    joined = join_streams(first, second, labels)
    plans = list(_plans(joined, _splits(joined, splits), config, options))
    maps = gate_maps(joined.rgb, joined.flow, combine=config.net.combine)
    data = data_of((first, second), joined, maps)
    _clear(options.out, [plan.folder for plan in plans])
    if options.threads is not None:
        torch.set_num_threads(options.threads)
    with join_process_group(options.device) as process_group:
        if process_group.world_size > 1:
            raise InvalidParameterError("a fusion runs in one process; start it without torchrun")
        read = maps if isinstance(maps, GateMaps) else None
        lines = [*data.inputs.values(), data.gate]
        comparisons = [
            _run(plan, joined, read, lines, device=process_group.device, on_event=options.on_event)
            for plan in plans
        ]
    results = results_of(comparisons, plans[0].config, data)
    write_results(options.out, results.to_json())
    return results


def _told_apart(first: StreamArrays, second: StreamArrays) -> tuple[StreamArrays, StreamArrays]:
    """Return both, by their place where they have one name."""
    if first.name != second.name:
        return first, second
    return (
        dataclasses.replace(first, name=f"{first.name} (A)"),
        dataclasses.replace(second, name=f"{second.name} (B)"),
    )


def _splits(joined: JoinedStreams, splits: SplitRequest | Sequence[Split] | None) -> Sequence[Split]:
    if splits is None or isinstance(splits, SplitRequest):
        request = splits or SplitRequest()
        if not request.has_source:
            request = dataclasses.replace(request, folds=DEFAULT_FOLDS)
        return splits_of_labels(joined.labels, request)
    for split in splits:
        check_split(split, joined.labels)
    return splits


def _plans(
    joined: JoinedStreams, splits: Sequence[Split], config: FuseConfig, options: FuseOptions
) -> Iterator[_Plan]:
    for split in splits:
        for fold in (None,) if split.kind == "subset" else split.names:
            for seed in options.seeds:
                own = dataclasses.replace(config, seed=seed)
                parts = plan_parts(joined, split, own, fold=fold)
                folder = trial_folder(options.out, parts.split, parts.part, seed)
                yield _Plan(split=split, parts=parts, config=own, folder=folder)


def _clear(out: Path, planned: Sequence[Path]) -> None:
    """Remove earlier comparisons of these trials, so that a page is never of two runs."""
    strays = sorted(trial_folders(out) - set(planned)) or [one for one in planned if (one / RECORD).is_file()]
    if strays:
        raise InvalidParameterError(
            f"out must be a new folder, or that of the same trials, got {out} with "
            f"{strays[0].relative_to(out)} of another run; give another -o, or remove it"
        )
    for folder in planned:
        (folder / COMPARISON).unlink(missing_ok=True)


def _run(
    plan: _Plan,
    joined: JoinedStreams,
    maps: GateMaps | None,
    lines: Sequence[str],
    *,
    device: torch.device,
    on_event: OnEvent,
) -> TrialComparison:
    with open_log(plan.folder) as log:

        def log_all(event: Event) -> None:
            log(event)
            on_event(event)

        which = {"split": plan.parts.split, "part": plan.parts.part, "seed": plan.config.seed}
        log_all({"event": "trial", **which, "lines": [*plan.parts.lines(), *lines]})
        write_split_file(split_path(plan.folder), plan.split)
        comparison = FuseTrial(
            joined=joined,
            maps=maps,
            parts=plan.parts,
            kind=plan.split.kind,
            config=plan.config,
            folder=plan.folder,
            device=device,
            on_event=log_all,
        ).run()
        log_all({"event": "judged", "validation": dict(comparison.validation)})
    return comparison
