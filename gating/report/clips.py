"""The clips whose prediction the gate changed for better or worse, with images from their store."""

from __future__ import annotations

import dataclasses
import functools
from collections import defaultdict
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

import flowkit
from flowkit.errors import FlowkitError
from flowkit.html import data_uri
from flowkit.remote import Location
from flowkit.store.read.store import Store
from flowkit.typing import UInt8
from flowkit.view.canvas import encoded, fit, thumbnail_webp
from flowkit.view.footage import Footage, Sample
from flowkit.view.wheel import disc, fitting_scale, flow_to_rgb, per_step
from gating.config import BASELINE, GATING
from gating.evaluation.comparison import TrialComparison
from gating.fusions import softmax
from gating.report.data import Evidence
from gating.report.format import number, percent
from gating.statistics import correct_predictions

_HEIGHT_PX = 120
_WIDEST = 1.8  # of the height
_QUALITY = 75
_WHEEL_PX = 72

_NAMES = {"rgb": "rgb", "flow": "flow", BASELINE: "fixed weights", GATING: "gating"}


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class ChangedClip:
    """One clip of one split that the gate saved in more seeds than it lost it, or the reverse.

    Attributes
    ----------
    comparison, row
        The trial where the change is plainest, and the clip's index in it.
    saved, lost, seeds : int
        Numbers of seeds in which it was saved and lost, and of all.
    margin : float
        The gate's probability of the label less the fixed weights' (lost: with the other sign).
    """

    comparison: TrialComparison
    row: int
    saved: int
    lost: int
    seeds: int
    margin: float

    @property
    def video_id(self) -> str:
        """The clip's."""
        return self.comparison.scores.ids[self.row]

    @property
    def is_saved(self) -> bool:
        """True if the gate saved it in most seeds."""
        return self.saved > self.lost


@dataclasses.dataclass(frozen=True, slots=True)
class _Change:
    """The change of one clip in one trial: 1 if saved, -1 if lost."""

    comparison: TrialComparison
    row: int
    change: int
    margin: float


def find_changed(comparisons: Sequence[TrialComparison]) -> list[ChangedClip]:
    """Return the clips that changed, those first that did so in most seeds and by most.

    Every comparison must have a gate.
    """
    of_clip: dict[tuple[str, str], list[_Change]] = defaultdict(list)
    for one in comparisons:
        for change in _changes(one):
            of_clip[one.split, one.scores.ids[change.row]].append(change)
    found = [_summed(changes) for changes in of_clip.values() if sum(one.change for one in changes)]
    return sorted(found, key=lambda clip: (-abs(clip.saved - clip.lost) / clip.seeds, -clip.margin))


def choose(changed: Iterable[ChangedClip], count: int) -> tuple[list[ChangedClip], list[ChangedClip]]:
    """Return up to `count` of them, saved and lost: half each, or more of one where the other has few."""
    changed = list(changed)
    saved = [clip for clip in changed if clip.is_saved]
    lost = [clip for clip in changed if not clip.is_saved]
    half = count // 2
    n_saved = min(len(saved), max(count - half, count - len(lost)))
    return saved[:n_saved], lost[: count - n_saved]


def _changes(one: TrialComparison) -> list[_Change]:
    labels = one.scores.labels
    right = {name: correct_predictions(one.fused[name], labels) for name in (GATING, BASELINE)}
    change = right[GATING].astype(int) - right[BASELINE]
    rows = np.arange(len(labels))
    margins = softmax(one.fused[GATING])[rows, labels] - softmax(one.fused[BASELINE])[rows, labels]
    return [
        _Change(one, row, int(change[row]), float(margins[row]) * int(change[row])) for row in rows.tolist()
    ]


def _summed(changes: Sequence[_Change]) -> ChangedClip:
    saved = sum(one.change > 0 for one in changes)
    lost = sum(one.change < 0 for one in changes)
    way = 1 if saved > lost else -1
    plainest = max((one for one in changes if one.change == way), key=lambda one: one.margin)
    return ChangedClip(
        comparison=plainest.comparison,
        row=plainest.row,
        saved=saved,
        lost=lost,
        seeds=len(changes),
        margin=plainest.margin,
    )


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Image:
    """An image as data in the page: its data URI, its size in px and its description."""

    src: str
    width: int
    height: int
    alt: str


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class ClipImages:
    """A frame of a clip and the flow that leads from it, or the reason for neither."""

    images: tuple[Image, ...] = ()
    title: str | None = None
    absent: str = ""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Gallery:
    """Source of images: an open store, or none and the reason.

    Attributes
    ----------
    store : Store or None
    reason : str
        The reason for none; empty where there is one.
    """

    store: Store | None
    reason: str = ""

    def of(self, video_id: str) -> ClipImages | None:
        """Return a clip's images, or the reason for none; None without a store."""
        if self.store is None:
            return None
        if video_id not in self.store:
            return ClipImages(absent="not in the store")
        try:
            return _clip_images(self.store, video_id)
        except (FlowkitError, OSError) as error:
            # One clip that cannot be read must not cost the page.
            return ClipImages(absent=f"cannot be read: {error}")


def open_gallery(path: Location | None) -> Gallery:
    """Open a store for its images, which a page can do without."""
    if path is None:
        return Gallery(
            store=None,
            reason="These clips have no images: the run names no store that exists. Give one as --store.",
        )
    try:
        return Gallery(store=flowkit.open(path))
    except (FlowkitError, OSError) as error:
        return Gallery(store=None, reason=f"These clips have no images: {error}")


@functools.cache
def wheel_image() -> Image:
    """Return the legend of the flow's colours."""
    return Image(
        src=data_uri(encoded(disc(_WHEEL_PX)), "image/png"),
        width=_WHEEL_PX,
        height=_WHEEL_PX,
        alt="Directions of flow: right red, down yellow to green, left cyan, up blue to violet",
    )


def _clip_images(store: Store, video_id: str) -> ClipImages:
    footage = Footage(store, video_id, max_px=1.0)  # the scale is that of one field
    sample = footage.sample(len(footage.range) // 2)
    scale = fitting_scale(np.hypot(*sample.flow))
    images = [_image(flow_to_rgb(sample.flow, max_px=scale), "flow", sample)]
    if sample.frame is not None:
        images.insert(0, _image(sample.frame, "frame", sample))
    title = f"at {sample.seconds:.2f} s; full colour is {scale:g} {per_step(store.options.step)}"
    return ClipImages(images=tuple(images), title=title)


def _image(rgb: UInt8, kind: str, sample: Sample) -> Image:
    height, width = sample.flow.shape[1:]
    shown = max(1, round(min(width * _HEIGHT_PX / height, _WIDEST * _HEIGHT_PX)))
    webp = thumbnail_webp(fit(rgb, shown, _HEIGHT_PX), _QUALITY)
    return Image(src=data_uri(webp, "image/webp"), width=shown, height=_HEIGHT_PX, alt=kind)


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class ClipPrediction:
    """A predicted class of a clip: its name, its probability in per cent, and True if it is right."""

    name: str
    percent: str
    right: bool


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class ClipCard:
    """A clip with the prediction of each stream and fusion; `why` is the gate's decision in words."""

    video_id: str
    label: str
    seeds: str
    images: ClipImages | None
    predictions: list[tuple[str, ClipPrediction]]
    weights: str
    why: str = ""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class ChangedClips:
    """The clips that the gate saved and lost against the best fixed weights.

    `n_saved` and `n_lost` are of all `total` predictions, `wheel` is for images of flow, `notice` has
    the reason for none.
    """

    total: int
    n_saved: int
    n_lost: int
    wheel: Image | None
    notice: str
    saved: list[ClipCard]
    lost: list[ClipCard]


def changed_clips(evidence: Evidence, gallery: Gallery, count: int) -> ChangedClips:
    """Return the clips where the gate made the difference, up to `count`, the plainest first."""
    saved, lost = choose(find_changed(evidence.comparisons), count)
    tests = [one.test for one in evidence.comparisons if one.test is not None]
    return ChangedClips(
        total=sum(len(one.scores) for one in evidence.comparisons),
        n_saved=sum(one.only_first for one in tests),
        n_lost=sum(one.only_second for one in tests),
        wheel=wheel_image() if gallery.store else None,
        notice=gallery.reason if saved or lost else "",
        saved=[clip_card(clip.comparison, clip.row, gallery, seeds=_seeds(clip)) for clip in saved],
        lost=[clip_card(clip.comparison, clip.row, gallery, seeds=_seeds(clip)) for clip in lost],
    )


def clip_card(
    comparison: TrialComparison, row: int, gallery: Gallery, *, seeds: str = "", why: str = ""
) -> ClipCard:
    """Return the card of one clip of a trial."""
    scores = comparison.scores
    label = int(scores.labels[row])
    video_id = scores.ids[row]
    return ClipCard(
        video_id=video_id,
        label=scores.classes[label],
        seeds=seeds,
        images=gallery.of(video_id),
        predictions=[
            (words, _prediction(comparison.fused[name][row], label, scores.classes))
            for name, words in _NAMES.items()
            if name in comparison.fused
        ],
        weights=_weights(comparison, row),
        why=why,
    )


def _prediction(scores: NDArray[np.float64], label: int, classes: tuple[str, ...]) -> ClipPrediction:
    probabilities = softmax(scores[None])[0]
    best = int(probabilities.argmax())
    return ClipPrediction(
        name=classes[best], percent=percent(float(probabilities[best]), 0), right=best == label
    )


def _weights(comparison: TrialComparison, row: int) -> str:
    gates = comparison.scores.gates
    if gates is None:
        return "not kept"
    flow, rgb = gates[row].tolist()
    fallback = "; both are zero, so the fixed weights served" if flow <= 0 and rgb <= 0 else ""
    return f"flow {number(flow)}, rgb {number(rgb)}{fallback}"


def _seeds(clip: ChangedClip) -> str:
    if clip.seeds == 1:
        return ""
    times, way = (clip.saved, "saved") if clip.is_saved else (clip.lost, "lost")
    return f", {way} in {times} of {clip.seeds} seeds"
