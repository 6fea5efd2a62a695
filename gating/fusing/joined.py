"""Two streams joined on the ids of their clips, with a label of each."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Collection, Mapping, Sequence

import numpy as np

from flowkit.errors import InputError
from gating.fusing.inputs import StreamArrays

_NAMED = 5


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class JoinedStreams:
    """Two streams of the same clips.

    Attributes
    ----------
    rgb, flow : StreamArrays
        The first and the second stream, in the order of `labels`.
    labels : dict of str to str
        Class of each id; ids are sorted.
    classes : tuple of str
        Columns of all scores: those of the stream that gives scores, else the labels, sorted.
    """

    rgb: StreamArrays
    flow: StreamArrays
    labels: dict[str, str]
    classes: tuple[str, ...]


def join_streams(a: StreamArrays, b: StreamArrays, labels: Mapping[str, str]) -> JoinedStreams:
    """Return the clips that both streams and the labels have; a warning names those of one alone.

    Raises
    ------
    InputError
        There are none, fewer than two classes, a label that the scores have no column for, or scores of
        both streams have other classes.
    """
    shared = sorted(set(a.ids) & set(b.ids))
    if not shared:
        raise InputError(
            f"{a.name} and {b.name} have no id in common, such as {a.ids[0]!r} and {b.ids[0]!r}; expected "
            "the same ids in both"
        )
    for one in (a, b):
        _warn_of(sorted(set(one.ids) - set(shared)), f"clips of {one.name} are not in the other stream")
    kept = [video_id for video_id in shared if labels.get(video_id)]
    if not kept:
        raise InputError(f"no clip of both streams has a label, such as {shared[0]!r}; expected a row of it")
    _warn_of(sorted(set(shared) - set(kept)), "clips of both streams have no label")
    own = {video_id: labels[video_id] for video_id in kept}
    classes = _classes((a, b), own.values())
    rgb, flow = (_with_columns(one.of_clips(kept), classes) for one in (a, b))
    return JoinedStreams(rgb=rgb, flow=flow, labels=own, classes=classes)


def _warn_of(ids: Sequence[str], what: str) -> None:
    if ids:
        warnings.warn(
            f"{len(ids)} {what}: {list(ids[:_NAMED])}; they are left out", RuntimeWarning, stacklevel=4
        )


def _classes(streams: Sequence[StreamArrays], labels: Collection[str]) -> tuple[str, ...]:
    present = sorted(set(labels))
    if len(present) < 2:
        raise InputError(f"the labels of the clips must be of 2 classes or more, got {present}")
    scored = [one for one in streams if one.gives_scores]
    if not scored:
        return tuple(present)
    first, last = scored[0], scored[-1]
    if odd := sorted(set(first.classes) ^ set(last.classes)):
        raise InputError(
            f"the scores of {first.name} and {last.name} must be of the same classes, and one alone has "
            f"{odd[:_NAMED]}; name them alike, or leave columns out"
        )
    if unknown := [name for name in present if name not in first.classes]:
        raise InputError(
            f"{first.name} has no column of scores for {len(unknown)} labels: {unknown[:_NAMED]}; it has "
            f"{list(first.classes[:_NAMED])}"
        )
    return first.classes


def _with_columns(stream: StreamArrays, classes: tuple[str, ...]) -> StreamArrays:
    """Return a stream whose scores, if they are used, have their columns in this order."""
    if stream.scores is None or not stream.gives_scores:
        return dataclasses.replace(stream, scores=None, classes=())
    order = np.array([stream.classes.index(name) for name in classes])
    return dataclasses.replace(stream, scores=stream.scores[:, order], classes=classes)
