"""One HTML page about a run; its template, style and script are in `templates/`.

It has the frame and the style sheet of the store's page in `flowkit.view`.
"""

from __future__ import annotations

from pathlib import Path

from flowkit import html
from flowkit._version import __version__
from flowkit.errors import InvalidParameterError
from flowkit.remote import Location
from gating.report import sections
from gating.report.clips import Gallery, changed_clips, open_gallery
from gating.report.data import Evidence, confusion_data, read_evidence
from gating.report.disagreement import disagreement
from gating.report.sections import Pairs
from gating.run_folder import RunContext, flattened

NAME = "report.html"
_PAGE = html.Page(
    template="gating.report/page.html",
    # The rules of the store's page first, so that both look alike; these add to them.
    styles=("flowkit.view/page.css", "gating.report/page.css"),
    script="gating.report/page.js",
)


def write_report(
    run: Path, *, store: Location | None = None, dest: Path | None = None, clips: int = 12
) -> Path:
    """Write one HTML page of a run: accuracy of its fusions, and the gate's gains, weights and changed clips.

    Parameters
    ----------
    run
        The run's folder, with finished trials.
    store
        Source of the clips' images; None is the store that the run names, if it exists. Without one
        the page says so and shows no images.
    dest
        The page's file; it appears whole or not at all. None is `report.html` in the run's folder.
    clips
        Most clips of each of the two sections that show them, >= 0.

    Returns
    -------
    Path
        The page's file.

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
    evidence = read_evidence(run)
    gallery = open_gallery(store or evidence.context.store)
    try:
        context = _context(run.resolve().name, evidence, gallery, clips)
    finally:
        if gallery.store is not None:
            gallery.store.close()
    path = dest or run / NAME
    path.parent.mkdir(parents=True, exist_ok=True)
    html.write_page(path, _PAGE, context)
    return path


def _context(title: str, evidence: Evidence, gallery: Gallery, clips: int) -> dict[str, object]:
    """Return the template's sections, None for those without data in this run."""
    has_gate, lone = evidence.has_gate, evidence.lone_stream
    changed = changed_clips(evidence, gallery, clips) if has_gate and clips else None
    shown = () if changed is None else {card.video_id for card in (*changed.saved, *changed.lost)}
    return {
        "title": title,
        "data": confusion_data(evidence),
        "headline": sections.headline(evidence),
        "accuracy": sections.accuracy(evidence),
        "class_gain": sections.class_gain(evidence) if has_gate else None,
        "gates": sections.gates(evidence),
        "clips": changed,
        "disagreement": None if lone else disagreement(evidence, gallery, clips, shown=shown),
        "confusion": sections.confusion(evidence),
        "reliability": sections.reliability(evidence),
        "trials": sections.trials(evidence),
        "lone": lone,
        "provenance": provenance(evidence.context, gallery),
    }


def provenance(context: RunContext, gallery: Gallery) -> list[tuple[str, Pairs]]:
    """Return the provenance of the run and of this page: titles, with names and values each."""
    source = "no store" if gallery.store is None else str(gallery.store.path)
    named = {"Configuration": context.config, "Data": context.data, "Versions": context.versions}
    page = [
        ("run", str(context.out)),
        ("images from", source),
        ("flowkit of this page", __version__),
    ]
    return [
        *((title, list(flattened(values)) if values else []) for title, values in named.items()),
        ("This page", page),
    ]
