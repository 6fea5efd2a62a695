"""Differences between two sources of flow: end-point errors and changed codes, by video and in all."""

from __future__ import annotations

import dataclasses
import functools
import math
import os
from collections.abc import Callable, Sequence

from flowkit.comparison.epe import Difference, Tally
from flowkit.comparison.sources import TSN_BOUND_PX, FlowSource, StoreSource, open_source
from flowkit.distribution import spread
from flowkit.errors import FlowkitError, InputError
from flowkit.executor import InlineExecutor, LocalExecutor, Worker
from flowkit.remote import Location
from flowkit.validate import check_at_least

_BATCH = 8

Pair = tuple[str, str]
"""The ids of one video in both sources."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class CompareConfig:
    """The two sources and the fields to compare.

    Parameters
    ----------
    a, b
        A store or its address, a folder of flow files, or a flow file each; `b` is compared with `a`.
    field
        Name of the stores' flow field.
    field_b
        Name of that of `b` where it is another, as of two methods in one store; None: `field`.
    bound_px
        Half the range of folders of images, px.
    step
        Of folders whose names have several steps, the one to take.
    most_fields
        Most fields compared of each video, evenly spread; None: all.
    """

    a: Location
    b: Location
    field: str = "flow"
    field_b: str | None = None
    bound_px: float = TSN_BOUND_PX
    step: int | None = None
    most_fields: int | None = None

    def __post_init__(self) -> None:
        if self.most_fields is not None:
            check_at_least("most_fields", self.most_fields, 1)
        if self.step is not None:
            check_at_least("step", self.step, 1)


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class VideoDifference:
    """One video of both sources."""

    video_id: str
    """Its id in a."""
    partner: str
    """Its id in b."""
    difference: Difference | None
    worst_field: int = -1
    """The field with the largest mean error; -1 where there is none."""
    worst_epe_px: float = math.nan
    """Its mean error."""
    problem: str = ""
    """Reason why not all of it could be compared; empty where it could."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Comparison:
    """The differences between two sources of flow."""

    a: str
    b: str
    overall: Difference
    videos: tuple[VideoDifference, ...]
    only_a: tuple[str, ...]
    only_b: tuple[str, ...]
    options: tuple[str, ...]
    """Of two stores, the options that differ."""

    def failings(self, *, max_epe_px: float | None = None, common: bool = False) -> list[str]:
        """Return the reasons why the two differ, a line each; empty if there are none.

        Parameters
        ----------
        max_epe_px
            The largest mean error that a video may have, px; None: any.
        common
            Leave out videos that only one of the two has.
        """
        lines = [f"{video.video_id}: {video.problem}" for video in self.videos if video.problem]
        if not common:
            lines += [f"{name}: only in {self.a}" for name in self.only_a]
            lines += [f"{name}: only in {self.b}" for name in self.only_b]
        for video in self.videos:
            found = video.difference
            if max_epe_px is not None and found is not None and found.epe_mean_px > max_epe_px:
                lines.append(
                    f"{video.video_id}: mean EPE {found.epe_mean_px:.4f} px, expected at most {max_epe_px:g}"
                )
        return lines


def compare(
    config: CompareConfig, *, jobs: int = 1, on_video: Callable[[int, int], object] | None = None
) -> Comparison:
    """Compare all videos that two sources have in common.

    Parameters
    ----------
    config
        The sources. Where each of them has one video only, these are compared whatever their ids.
    jobs
        Worker processes; 1 uses this one.
    on_video
        Called with (videos done, videos in all).

    Raises
    ------
    InputError, StoreError
        A source cannot be opened, or the two have no video in common.
    """
    a, b = open_pair(config)
    pairs, only_a, only_b = _pairs(a, b)
    total = Tally()
    videos: list[VideoDifference] = []
    with InlineExecutor() if jobs == 1 else LocalExecutor(jobs) as executor:
        tasks = [(config, tuple(pairs[k : k + _BATCH])) for k in range(0, len(pairs), _BATCH)]
        for outcome in executor.run(_compare_batch, tasks):
            if outcome.result is None:
                videos += [_lost(pair, outcome.died) for pair in outcome.task[1]]
            else:
                total.merge(outcome.result[1])
                videos += outcome.result[0]
            if on_video:
                on_video(len(videos), len(pairs))
    order = {video_id: k for k, (video_id, _) in enumerate(pairs)}
    return Comparison(
        a=a.name,
        b=b.name,
        overall=total.difference(),
        videos=tuple(sorted(videos, key=lambda video: order[video.video_id])),
        only_a=only_a,
        only_b=only_b,
        options=_differing_options(a, b),
    )


def open_pair(config: CompareConfig) -> tuple[FlowSource, FlowSource]:
    """Open both sources, once in each process."""
    return _opened(config, os.getpid())


@functools.lru_cache(maxsize=2)
def _opened(config: CompareConfig, _pid: int) -> tuple[FlowSource, FlowSource]:
    a, b = (
        open_source(path, field=field, bound_px=config.bound_px, step=config.step)
        for path, field in ((config.a, config.field), (config.b, config.field_b or config.field))
    )
    return a, b


def _pairs(a: FlowSource, b: FlowSource) -> tuple[list[Pair], tuple[str, ...], tuple[str, ...]]:
    """Return the ids of each pair of videos, and those without a partner."""
    in_a, in_b = a.ids(), b.ids()
    if len(in_a) == len(in_b) == 1:
        return [(next(iter(in_a)), next(iter(in_b)))], (), ()
    pairs = [(name, name) for name in in_a if name in in_b]
    if not pairs:
        raise InputError(
            f"{a.name} and {b.name} share no video: the first has {_some(list(in_a))}, the second "
            f"{_some(list(in_b))}"
        )
    return pairs, tuple(x for x in in_a if x not in in_b), tuple(x for x in in_b if x not in in_a)


def _some(names: Sequence[str]) -> str:
    return ", ".join(map(repr, names[:3])) + (", ..." if len(names) > 3 else "")


def _differing_options(a: FlowSource, b: FlowSource) -> tuple[str, ...]:
    if isinstance(a, StoreSource) and isinstance(b, StoreSource):
        methods = [f"method: {a.method} and {b.method}"] if a.method != b.method else []
        options = [
            line.replace(": stored ", ": ").replace(", asked ", " and ")
            for line in a.store.options.differences(b.store.options)
        ]
        return (*methods, *options)
    return ()


def _lost(pair: Pair, why: str) -> VideoDifference:
    return VideoDifference(video_id=pair[0], partner=pair[1], difference=None, problem=why)


def _compare_batch(
    task: tuple[CompareConfig, tuple[Pair, ...]], _: Worker
) -> tuple[list[VideoDifference], Tally]:
    config, pairs = task
    total = Tally()
    sources = open_pair(config)
    return [_compare_video(sources, pair, config.most_fields, total) for pair in pairs], total


def _compare_video(
    sources: tuple[FlowSource, FlowSource], pair: Pair, most_fields: int | None, total: Tally
) -> VideoDifference:
    problem, tally, worst = "", Tally(), (-math.inf, -1)
    try:
        counts = [source.count(name) for source, name in zip(sources, pair, strict=True)]
        if counts[0] != counts[1]:
            problem = f"the numbers of fields differ: {counts[0]} and {counts[1]}"
        for index in spread(range(min(counts)), most_fields or max(1, *counts)):
            a, b = (source.flow(name, index) for source, name in zip(sources, pair, strict=True))
            worst = max(worst, (tally.add(a, b), index), key=lambda found: found[0])
    except (FlowkitError, OSError) as error:
        problem = str(error)
    total.merge(tally)
    difference = tally.difference()
    return VideoDifference(
        video_id=pair[0],
        partner=pair[1],
        difference=difference if difference.n_fields else None,
        worst_field=worst[1],
        worst_epe_px=worst[0] if worst[1] >= 0 else math.nan,
        problem=problem,
    )
