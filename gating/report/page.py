"""The page put together: its frame, style and script are files in `templates/`.

It may run its own script and style and load nothing (a content security policy with their hashes).
The look is that of the store's page in `flowkit.view`, whose style sheet comes first.
"""

from __future__ import annotations

import base64
import hashlib
import importlib.resources
import os
import re
from collections.abc import Iterator
from html import escape
from pathlib import Path

from flowkit.errors import InvalidParameterError
from gating.report.accuracy import accuracy_table
from gating.report.calibration import calibration_section
from gating.report.class_gain import class_gain_section
from gating.report.clips import clips_section
from gating.report.confusion import confusion_data, confusion_section
from gating.report.evidence import Evidence, read_evidence
from gating.report.gate_weights import gate_weights_section
from gating.report.headline import headline
from gating.report.markup import Html, json_for_html
from gating.report.pictures import Gallery, open_gallery
from gating.report.trials import facts_section, trials_section

NAME = "report.html"
_PLACE = re.compile(r"@@([A-Z]+)@@")


def write_report(out: Path, *, store: Path | None = None, dest: Path | None = None, clips: int = 12) -> Path:
    """Write one HTML page that tells how good a run's gate is.

    Parameters
    ----------
    out
        The run's folder, with finished trials.
    store
        Where the clips' pictures come from; None is the store that the run names, if it is there.
        Without one the page says so and shows no pictures.
    dest
        The page; it appears whole or not at all. None is `report.html` in the run's folder.
    clips
        Most clips that are shown, >= 0.

    Returns
    -------
    Path
        The page.

    Raises
    ------
    ScoresError
        The run has no finished trial, or a damaged one.
    InvalidParameterError
        `clips` is negative, or the trials of some seeds are not finished.
    OSError
        The page cannot be written.
    """
    if clips < 0:
        raise InvalidParameterError(f"clips must be >= 0, got {clips}")
    evidence = read_evidence(out)
    gallery = open_gallery(store or evidence.context.store)
    try:
        parts = list(_sections(evidence, gallery, clips))
    finally:
        if gallery.store is not None:
            gallery.store.close()
    path = dest or out / NAME
    _write(path, _page(out.resolve().name, parts, json_for_html(confusion_data(evidence))))
    return path


def _sections(evidence: Evidence, gallery: Gallery, clips: int) -> Iterator[Html]:
    yield headline(evidence)
    yield accuracy_table(evidence)
    if evidence.has_gate:
        yield class_gain_section(evidence)
    if any(one.scores.gates is not None for one in evidence.judgements):
        yield gate_weights_section(evidence)
    if evidence.has_gate and clips:
        yield clips_section(evidence, gallery, clips)
    yield confusion_section(evidence)
    yield calibration_section(evidence)
    yield trials_section(evidence)
    yield facts_section(evidence.context, [("pictures from", _told(gallery))])


def _told(gallery: Gallery) -> str:
    return "no store" if gallery.store is None else str(gallery.store.path)


def _page(title: str, parts: list[Html], data: Html) -> str:
    # The rules of the store's page first, so that both look alike; ours add to them.
    style = _asset("flowkit.view", "templates", "page.css") + _asset("gating.report", "templates", "page.css")
    script = _asset("gating.report", "templates", "page.js")
    fills = {
        "TITLE": escape(title),
        "POLICY": escape(_policy(style, script)),
        "STYLE": style,
        "HEAD": parts[0],
        "BODY": "\n".join(parts[1:]),
        "DATA": data,
        "SCRIPT": script,
    }
    # Split once, so that nothing that is put in is searched for places.
    pieces = _PLACE.split(_asset("gating.report", "templates", "page.html"))
    return "".join(fills[piece] if k % 2 else piece for k, piece in enumerate(pieces))


def _asset(package: str, *names: str) -> str:
    return importlib.resources.files(package).joinpath(*names).read_text(encoding="utf-8")


def _policy(style: str, script: str) -> str:
    def digest(text: str) -> str:
        return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"

    return f"default-src 'none'; img-src data:; style-src {digest(style)}; script-src {digest(script)}"


def _write(path: Path, page: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        # A name may hold halves of surrogate pairs, which no encoding has.
        temporary.write_text(page, encoding="utf-8", errors="replace")
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
