"""Search the values of the presets `accurate` and `fast` on the tuning part of `tuning_pairs`.

    python -m benchmarks.tune_presets accurate [--candidates 70] [--rounds 2]

Random changes of the present preset first, on a quarter of the pairs; the best of them on all;
then the two best value by value. Writes the finalists and their rows to benchmarks/results. Its
result is a direction: values that go together are moved together by hand, on this part, and
`tuning_report` measures the effect of each. One thread; needs scikit-image.
"""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.random import Generator

from benchmarks.record import JsonObject, write_result
from benchmarks.tuning_pairs import pairs
from benchmarks.tuning_score import Row, Scorer, loss_accurate, loss_fast, summarise
from flowkit.errors import InvalidParameterError
from flowkit.tvl1.params import PRESETS, TVL1Params

LOSSES: dict[str, Callable[[Sequence[Row]], float]] = {"accurate": loss_accurate, "fast": loss_fast}
ALL_LEVELS = 20
"""More than fit: levels down to 16 px whatever the frame's size."""

SPACE: dict[str, tuple[Any, ...]] = {
    "lambda_": (0.04, 0.06, 0.08, 0.1, 0.12, 0.15, 0.2, 0.3, 0.4),
    "theta": (0.1, 0.15, 0.2, 0.3, 0.4, 0.6),
    "tau": (0.125, 0.2, 0.25),
    "nscales": (4, 5, 6, 8, ALL_LEVELS),
    "scale_step": (0.5, 0.6, 0.7, 0.75, 0.8, 0.85),
    "pyramid": ("resize", "gaussian"),
    "warps": (1, 2, 3, 4, 5, 6, 8, 10),
    "iterations": (5, 10, 15, 20, 30, 50, 100, 300),
    "epsilon": (0.0, 0.003, 0.005, 0.007, 0.01, 0.014, 0.02, 0.03, 0.05),
    "check_every": (5, 10, 20),
    "median": (0, 5),
    "median_every": (5, 10, 20, 30, 60, 300),
    "bicubic_a": (-0.4, -0.5, -0.6, -0.75),
    "border": ("clamp", "off"),
    "presmooth_sigma": (0.0, 0.4, 0.5, 0.6, 0.8, 1.0),
}
CHANGE = 0.35
"""Chance that a random candidate draws a value anew."""


def changed(params: TVL1Params, **values: Any) -> TVL1Params | None:
    """Return the parameters with other values, or None where they do not go together."""
    try:
        return dataclasses.replace(params, **values)
    except InvalidParameterError:
        return None


def draw(rng: Generator, base: TVL1Params) -> TVL1Params:
    """Return random changes of `base`, of warps x iterations that end within reason."""
    while True:
        drawn = {
            name: options[rng.integers(len(options))]
            for name, options in SPACE.items()
            if rng.random() < CHANGE
        }
        params = changed(base, **drawn)
        never_stops = params is None or (params.epsilon < 0.005 and params.warps * params.iterations > 300)
        if params is not None and not never_stops:
            return params


def random_search(base: TVL1Params, loss: Callable[..., float], few: Scorer, count: int) -> list[TVL1Params]:
    """Return `base` and random changes of it, the best on `few` pairs first."""
    rng = np.random.default_rng(1)
    candidates = [base, *(draw(rng, base) for _ in range(count))]
    return sorted(candidates, key=lambda params: loss(few.rows(params)))


def neighbours(params: TVL1Params, name: str) -> list[TVL1Params]:
    """Return the parameters with each other value of one name (two steps either way at most)."""
    options, value = SPACE[name], getattr(params, name)
    if isinstance(value, float) or name in ("iterations", "warps", "median_every"):
        order = sorted(options, key=lambda option: abs(options.index(option) - nearest(options, value)))[:5]
    else:
        order = list(options)
    found = (changed(params, **{name: option}) for option in order if option != value)
    return [other for other in found if other is not None]


def nearest(options: Sequence[float], value: float) -> int:
    return int(np.argmin([abs(option - value) for option in options]))


def descend(params: TVL1Params, loss: Callable[..., float], scorer: Scorer, rounds: int) -> TVL1Params:
    """Take the best value of each parameter in turn, until a round changes nothing."""
    for _ in range(rounds):
        before = params
        for name in SPACE:
            if name == "median_every" and not params.median:
                continue
            params = min([params, *neighbours(params, name)], key=lambda one: loss(scorer.rows(one)))
            print(f"{name:16} {getattr(params, name)!s:8} {summarise(scorer.rows(params))}", flush=True)
        if params == before:
            break
    return params


def finalist(params: TVL1Params, loss: Callable[..., float], scorer: Scorer) -> JsonObject:
    rows = scorer.rows(params)
    return {
        "params": dataclasses.asdict(params),
        "loss": loss(rows),
        "summary": dataclasses.asdict(summarise(rows)),
        "rows": [dataclasses.asdict(row) for row in rows],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("preset", choices=LOSSES)
    parser.add_argument("--candidates", type=int, default=70)
    parser.add_argument("--rounds", type=int, default=2)
    options = parser.parse_args()
    loss, base, scorer = LOSSES[options.preset], PRESETS[options.preset], Scorer(pairs("tuning"))
    print(f"present: {summarise(scorer.rows(base))}", flush=True)
    few = Scorer(scorer.pairs[::4])  # this stride keeps every band and both sources
    ranked = random_search(base, loss, few, options.candidates)[: max(4, options.candidates // 10)]
    best = sorted(dict.fromkeys([base, *ranked]), key=lambda one: loss(scorer.rows(one)))
    found = [descend(params, loss, scorer, options.rounds) for params in best[:2]]
    found = sorted(dict.fromkeys([*found, *best]), key=lambda one: loss(scorer.rows(one)))
    target = write_result(
        f"tuning-search-{options.preset}",
        {"space": SPACE, "finalists": [finalist(params, loss, scorer) for params in found]},
    )
    print(f"{found[0]}\n{summarise(scorer.rows(found[0]))}\nwritten to {target}")


if __name__ == "__main__":
    main()
