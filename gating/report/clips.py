"""The clips where the gate made the difference, with their pictures and what each stream said."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from gating.config import BASELINE, GATING
from gating.fusions import softmax
from gating.report.evidence import Evidence
from gating.report.markup import Html, facts, join, note, section, tag
from gating.report.pictures import Gallery, wheel_image
from gating.report.turns import Turn, choose, find_turns
from gating.report.wording import number, percent

_SAID_BY = {"rgb": "rgb", "flow": "flow", BASELINE: "fixed weights", GATING: "gating"}


def clips_section(evidence: Evidence, gallery: Gallery, count: int) -> Html:
    """Return the clips that the gate saved and lost against the best fixed weights."""
    saved, lost = choose(find_turns(evidence.judgements), count)
    tests = [one.test for one in evidence.judgements if one.test is not None]
    n_saved, n_lost = sum(one.only_first for one in tests), sum(one.only_second for one in tests)
    total = sum(len(one.scores) for one in evidence.judgements)
    return section(
        "Clips where the gate made the difference",
        tag(
            "div",
            wheel_image() if gallery.store else None,
            note(
                f"Of {total} answers, the gate saved {n_saved} and lost {n_lost} against the best fixed "
                "weights. Shown are the plainest.",
                " The colour of flow is its direction, as on the wheel." if gallery.store else None,
            ),
            class_="beside",
        ),
        tag("p", gallery.reason, class_="notice") if gallery.reason and (saved or lost) else None,
        _group("Saved: wrong by the fixed weights, right by the gate", saved, gallery),
        _group("Lost: right by the fixed weights, wrong by the gate", lost, gallery),
    )


def _group(title: str, turns: list[Turn], gallery: Gallery) -> Html:
    shown = tag("div", [_card(turn, gallery) for turn in turns], class_="clips") if turns else note("None.")
    return join(tag("h3", title), shown)


def _card(turn: Turn, gallery: Gallery) -> Html:
    scores = turn.judgement.scores
    label = int(scores.labels[turn.row])
    said = [
        (words, _answer(_scores(turn, name), label, scores.classes))
        for name, words in _SAID_BY.items()
        if name in turn.judgement.fused
    ]
    return tag(
        "article",
        gallery.of(turn.video_id),
        tag("h4", turn.video_id, class_="said"),
        tag("p", "label ", _bold(scores.classes[label]), _often(turn), class_="labelled"),
        facts([*said, ("weights", _weights(turn))]),
        class_="clip",
    )


def _bold(words: str) -> Html:
    return tag("strong", words, class_="said")


def _scores(turn: Turn, name: str) -> NDArray[np.float64]:
    scores: NDArray[np.float64] = turn.judgement.fused[name][turn.row]
    return scores


def _answer(scores: NDArray[np.float64], label: int, classes: tuple[str, ...]) -> Html:
    probabilities = softmax(scores[None])[0]
    answer = int(probabilities.argmax())
    return tag(
        "span",
        tag("span", classes[answer], class_="said"),
        f" {percent(float(probabilities[answer]), 0)}\N{NO-BREAK SPACE}%",
        class_="right" if answer == label else "wrong",
    )


def _weights(turn: Turn) -> str:
    gates = turn.judgement.scores.gates
    if gates is None:
        return "not kept"
    flow, rgb = gates[turn.row].tolist()
    fallback = "; both are zero, so the fixed weights served" if flow <= 0 and rgb <= 0 else ""
    return f"flow {number(flow)}, rgb {number(rgb)}{fallback}"


def _often(turn: Turn) -> str:
    if turn.seeds == 1:
        return ""
    times, way = (turn.saved, "saved") if turn.is_saved else (turn.lost, "lost")
    return f", {way} in {times} of {turn.seeds} seeds"
