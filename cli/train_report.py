"""What `flowkit train` shows while it runs."""

from __future__ import annotations

import sys
from typing import Any

import click


class TrainReporter:
    """Prints events: a bar within the epoch where there is a terminal, and a line an epoch."""

    def __init__(self, *, quiet: bool) -> None:
        self._quiet = quiet
        self._show_bar = sys.stderr.isatty() and not quiet
        self._bar: Any = None

    def __call__(self, event: dict[str, Any]) -> None:
        """Show one event of `gating.events`."""
        shown = getattr(self, f"_{event['event']}", None)
        if shown is not None:
            shown(event)

    def say(self, text: str) -> None:
        """Print a line to standard error, above the bar if one is shown."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None
        if not self._quiet:
            click.echo(text, err=True)

    def _trial(self, event: dict[str, Any]) -> None:
        self.say(f"\nsplit {event['split']}, tested on {event['part']}, seed {event['seed']}")
        for line in event["lines"]:
            self.say(f"  {line}")

    def _step(self, event: dict[str, Any]) -> None:
        if not self._show_bar:
            return
        if self._bar is None:
            from tqdm import tqdm

            epoch = f"{event['stage']} {event['epoch'] + 1}/{event['epochs']}"
            self._bar = tqdm(total=event["steps"], desc=epoch, unit="step", leave=False)
        self._bar.n = event["step"] + 1
        rates = f"top-1 {100 * event['top1']:.1f} %, {event['clips_per_second']:.0f} clips/s"
        self._bar.set_postfix_str(f"loss {event['loss']:.3f}, {rates}")

    def _epoch(self, event: dict[str, Any]) -> None:
        trained, valid = event["training"], event["validation"]
        parts = [f"validation {valid['loss']:.3f}, {100 * valid['top1']:.1f} %"]
        if "loss" in trained:  # an epoch that was left after its last step has none
            parts.insert(0, f"loss {trained['loss']:.3f}, top-1 {100 * trained['top1']:.1f} %")
            waiting = f"{100 * trained['waiting']:.0f} % of it waiting for data"
            parts.append(f"{trained['clips_per_second']:.0f} clips/s, {waiting}")
        best = " (best so far)" if event["best"] else ""
        self.say(f"{event['stage']} {event['epoch'] + 1}/{event['epochs']}: {'; '.join(parts)}{best}")
        if "gates" in valid:
            self.say(_gates_line(valid["gates"]))

    def _paused(self, event: dict[str, Any]) -> None:
        place = f"epoch {event['epoch'] + 1}, after {event['position']} clips"
        self.say(f"{event['stage']}: saved in {place}; --resume goes on from there")

    def _resumed(self, event: dict[str, Any]) -> None:
        self.say(f"{event['stage']}: goes on in epoch {event['epoch'] + 1}, after {event['position']} clips")

    def _skipped(self, event: dict[str, Any]) -> None:
        self.say(f"{event['stage']}: finished before, best epoch {event['best_epoch'] + 1}")

    def _finished(self, event: dict[str, Any]) -> None:
        self.say(f"{event['stage']}: best epoch {event['best_epoch'] + 1}")


def _gates_line(gates: dict[str, float]) -> str:
    return (
        f"  gates: flow {gates['mean_flow']:.2f} + rgb {gates['mean_rgb']:.2f} = {gates['mean_sum']:.2f}, "
        f"median ratio {gates['ratio']:.2f}; zero: flow {100 * gates['zero_flow']:.1f} %, rgb "
        f"{100 * gates['zero_rgb']:.1f} %, both {100 * gates['zero_both']:.1f} %"
    )
