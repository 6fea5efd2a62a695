"""The page's first words: is the gate better than the best fixed weights, and by how much."""

from __future__ import annotations

from collections.abc import Sequence

from gating.config import BASELINE, GATING, ORACLE
from gating.evaluation.comparison import Comparison, FusionRow, Gain, pooled
from gating.report.evidence import Evidence
from gating.report.markup import Html, join, note, tag
from gating.report.wording import NOTHING, chance, percent, points, span, span_of_points
from gating.statistics import McNemar, correct_predictions, headroom_share, mcnemar


def headline(evidence: Evidence) -> Html:
    """Return the verdict and the numbers that it rests on."""
    gain = evidence.over_baseline()
    if gain is None:
        return join(_sizes(evidence), tag("p", "This run has no gate: there is nothing to weigh."))
    tests = paired_tests(evidence.judgements)
    tiles = [
        _tile("gating, top-1", f"{percent(evidence.rows[GATING].top1)} %", _interval(evidence, GATING)),
        _tile(
            "best fixed weights", f"{percent(evidence.rows[BASELINE].top1)} %", _interval(evidence, BASELINE)
        ),
        _tile("gain, points", points(gain.mean), span_of_points(*gain.interval)),
        _tile("McNemar's p", _chances(tests), _alone(tests)),
        _tile("headroom taken", _headroom(evidence.rows), "of the way from fixed weights to the oracle"),
    ]
    return join(
        _sizes(evidence),
        tag("p", verdict(gain), " ", preference(evidence.judgements), class_="verdict"),
        tag("dl", tiles, class_="tiles"),
    )


def verdict(gain: Gain) -> str:
    """Return one sentence: better, worse, or not to be told apart."""
    low, high = gain.interval
    told = f"{points(gain.mean)} points of top-1, 95 % interval {span_of_points(low, high)}"
    if low > 0:
        return f"The gate is better than the best fixed weights: {told}."
    if high < 0:
        return f"The gate is worse than the best fixed weights: {told}."
    return (
        f"The gate is no better and no worse than the best fixed weights, as far as these clips tell: {told}."
    )


def preference(judgements: Sequence[Comparison]) -> str:
    """Return what the validation clips prefer, which is what `predict` follows."""
    prefer = sum(one.prefers_gate for one in judgements)
    if prefer == len(judgements):
        return "Validation prefers the gate, so predict uses it."
    if prefer == 0:
        return "Validation does not prefer the gate, so predict uses the fixed weights."
    return (
        f"Validation prefers the gate in {prefer} of {len(judgements)} trials: predict uses it with those, "
        "and the fixed weights with the others."
    )


def paired_tests(judgements: Sequence[Comparison]) -> list[McNemar]:
    """Return McNemar's test of the gate (first) against the best fixed weights, one a split and seed.

    Seeds are not stacked: their answers to one clip depend on each other.
    """
    return [
        mcnemar(*(correct_predictions(pool.fused[name], pool.labels) for name in (GATING, BASELINE)))
        for seeds in pooled(judgements).values()
        for pool in seeds
    ]


def _sizes(evidence: Evidence) -> Html:
    judgements = evidence.judgements
    clips = len({(one.split, video_id) for one in judgements for video_id in one.scores.ids})
    words = [
        _counted(clips, "test clip"),
        _counted(len(evidence.classes), "class", "classes"),
        _counted(len({one.split for one in judgements}), "split"),
        _counted(len({one.seed for one in judgements}), "seed"),
        f"judged {evidence.context.judged:%Y-%m-%d %H:%M} UTC",
    ]
    return note(", ".join(words))


def _counted(count: int, one: str, many: str | None = None) -> str:
    return f"{count} {one if count == 1 else many or one + 's'}"


def _tile(name: str, value: str, small: str) -> Html:
    return tag("div", tag("dt", name), tag("dd", value), tag("dd", small, class_="small"))


def _interval(evidence: Evidence, name: str) -> str:
    return span(*evidence.rows[name].interval)


def _chances(tests: Sequence[McNemar]) -> str:
    low, high = min(one.p_value for one in tests), max(one.p_value for one in tests)
    return chance(high) if chance(low) == chance(high) else f"{chance(low)} to {chance(high)}"


def _alone(tests: Sequence[McNemar]) -> str:
    if len(tests) == 1:
        return f"right alone: the gate on {tests[0].only_first} clips, the weights on {tests[0].only_second}"
    return f"of each split and seed on its own, {len(tests)} tests"


def _headroom(rows: dict[str, FusionRow]) -> str:
    if ORACLE not in rows:
        return NOTHING
    share = headroom_share(rows[GATING].top1, rows[BASELINE].top1, rows[ORACLE].top1)
    text = percent(share, 0)
    return text if text == NOTHING else f"{text} %"
