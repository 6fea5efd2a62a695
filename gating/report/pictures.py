"""Pictures of clips, as data in the page: a frame and the flow that leads from it."""

from __future__ import annotations

import base64
import dataclasses
import functools
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

import flowkit
from flowkit.errors import FlowkitError
from flowkit.store.reader import Store
from flowkit.view.canvas import fit
from flowkit.view.legend import disc, per_step
from flowkit.view.moment import Footage, Moment
from flowkit.view.picture import encoded, thumbnail_webp
from flowkit.view.wheel import fitting_scale, flow_to_rgb
from gating.report.markup import Html, tag

UInt8 = NDArray[np.uint8]

_HEIGHT_PX = 120
_WIDEST = 1.8  # of the height
_QUALITY = 75
_WHEEL_PX = 72


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Gallery:
    """Where pictures come from: an open store, or none and why.

    Attributes
    ----------
    store : Store or None
    reason : str
        Why there is none; empty where there is one.
    """

    store: Store | None
    reason: str = ""

    def of(self, video_id: str) -> Html | None:
        """Return a clip's pictures, or a plain note of why it has none; nothing without a store."""
        if self.store is None:
            return None
        if video_id not in self.store:
            return _absent("not in the store")
        try:
            return _pictures(self.store, video_id)
        except (FlowkitError, OSError) as error:
            # One clip that cannot be read must not cost the page.
            return _absent(f"cannot be read: {error}")


def open_gallery(path: Path | None) -> Gallery:
    """Open a store for its pictures; a page can do without."""
    if path is None:
        return Gallery(
            store=None,
            reason="These clips have no pictures: the run names no store that is there. Give one as --store.",
        )
    try:
        return Gallery(store=flowkit.open(path))
    except (FlowkitError, OSError) as error:
        return Gallery(store=None, reason=f"These clips have no pictures: {error}")


@functools.cache
def wheel_image() -> Html:
    """Return the legend of the flow's colours."""
    data = base64.b64encode(encoded(disc(_WHEEL_PX))).decode()
    return tag(
        "img",
        src=f"data:image/png;base64,{data}",
        width=_WHEEL_PX,
        height=_WHEEL_PX,
        class_="wheel",
        alt="Directions of flow: right red, down yellow to green, left cyan, up blue to violet",
    )


def _absent(why: str) -> Html:
    return tag("div", tag("span", why), class_="shots absent")


def _pictures(store: Store, video_id: str) -> Html:
    footage = Footage(store, video_id, max_px=1.0)  # the scale is the one moment's own
    moment = footage.moment(len(footage.range) // 2)
    scale = fitting_scale(np.hypot(*moment.flow))
    shots = [_shot(flow_to_rgb(moment.flow, max_px=scale), "flow", moment)]
    if moment.frame is not None:
        shots.insert(0, _shot(moment.frame, "frame", moment))
    told = f"at {moment.seconds:.2f} s; full colour is {scale:g} {per_step(store.options.step)}"
    return tag("div", shots, class_="shots", title=told)


def _shot(rgb: UInt8, kind: str, moment: Moment) -> Html:
    height, width = moment.flow.shape[1:]
    shown = max(1, round(min(width * _HEIGHT_PX / height, _WIDEST * _HEIGHT_PX)))
    data = base64.b64encode(thumbnail_webp(fit(rgb, shown, _HEIGHT_PX), _QUALITY)).decode()
    return tag("img", src=f"data:image/webp;base64,{data}", width=shown, height=_HEIGHT_PX, alt=kind)
