"""What `flowkit export` and `flowkit import` show while they run and when they end."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from flowkit.extraction.store_run import VideoOutcome
    from flowkit.jobs import Progress
    from flowkit.rawframes.export import ExportReport
    from flowkit.rawframes.export_worker import UnitOutcome
    from flowkit.rawframes.importer import ImportReport

CLIPPED_WARNING = 0.01


class Reporter:
    """Prints progress and the summary on stderr; stdout carries JSON lines only.

    Parameters
    ----------
    as_json, quiet : bool
        The switches of these names.
    """

    def __init__(self, *, as_json: bool, quiet: bool) -> None:
        self._as_json = as_json
        self._show_bar = sys.stderr.isatty() and not quiet
        self._bar: Any = None
        self._began = time.monotonic()

    @contextlib.contextmanager
    def running(self, kept: str) -> Iterator[None]:
        """Show progress; on an interruption say what is `kept` and how to go on."""
        from tqdm import tqdm

        form = "{percentage:3.0f}%|{bar}| {elapsed}<{remaining}{postfix}"
        self._bar = tqdm(total=1.0, disable=not self._show_bar, bar_format=form, file=sys.stderr)
        try:
            yield
        except KeyboardInterrupt:
            self._bar.close()
            self.say(f"interrupted: {kept}; the same command again goes on from there")
            raise
        finally:
            self._bar.close()

    def progress(self, now: Progress[Any]) -> None:
        """Move the bar; report what has ended."""
        rate = now.frames / max(time.monotonic() - self._began, 1e-9)
        self._bar.set_postfix_str(
            f"{now.done}/{now.total}, {rate:.0f} frames/s, {now.failed} failed", refresh=False
        )
        self._bar.update(max(0.0, now.fraction - self._bar.n))
        if now.outcome is None:
            return
        if hasattr(now.outcome, "failure"):
            self.clip(now.outcome)
        else:
            self.unit(now.outcome)

    def unit(self, outcome: UnitOutcome) -> None:
        """Report a unit of an export."""
        self._print_json(outcome)
        if outcome.status == "failed":
            self.say(f"FAILED {outcome.name}: {outcome.reason}: {outcome.detail}")
        elif outcome.clipped_fraction > CLIPPED_WARNING:
            self.say(f"{outcome.name}: {outcome.clipped_fraction:.1%} of the flow lies beyond the bound")

    def clip(self, outcome: VideoOutcome) -> None:
        """Report a clip of an import."""
        self._print_json(outcome)
        for warning in outcome.warnings:
            self.say(f"{outcome.video_id}: {warning}")
        if outcome.failure is not None:
            self.say(f"FAILED {outcome.source}: {outcome.failure.reason}: {outcome.failure.detail}")

    def export_summary(self, dest: Path, report: ExportReport) -> int:
        """Print what came of an export and return the exit status."""
        counts = Counter(outcome.status for outcome in report.outcomes)
        new = [outcome for outcome in report.outcomes if outcome.status == "exported"]
        parts = [f"{counts['exported']} exported"]
        parts += [f"{counts['already_exported']} were there before"] if counts["already_exported"] else []
        parts += [f"{counts['failed']} failed"] if counts["failed"] else []
        parts += [f"{report.not_tried} not tried"] if report.not_tried else []
        self.say(f"{dest}: {', '.join(parts)}; {self._rate(sum(outcome.n_frames for outcome in new))}")
        if any(outcome.values for outcome in report.outcomes):
            self.say(f"{report.clipped_fraction:.3%} of the flow was clipped to the bound")
        for note in report.notes:
            self.say(note)
        return 1 if report.failures or report.not_tried else 0

    def import_summary(self, store: Path, report: ImportReport) -> int:
        """Print what came of an import and return the exit status."""
        told = {outcome.source for outcome in report.outcomes}
        for failure in report.failures:
            if failure.source not in told:
                self.say(f"FAILED {failure.source}: {failure.reason}: {failure.detail}")
        parts = [f"{report.stored} stored"]
        parts += [f"{report.already_stored} were stored before"] if report.already_stored else []
        parts += [f"{len(report.failures)} failed"] if report.failures else []
        parts += [f"{report.not_tried} not tried"] if report.not_tried else []
        frames = sum(outcome.n_frames for outcome in report.outcomes)
        self.say(f"{store}: {', '.join(parts)}; {self._rate(frames)}")
        for reason, count in Counter(failure.reason for failure in report.failures).most_common():
            self.say(f"  {count} {reason}")
        return 1 if report.failures or report.not_tried else 0

    def say(self, text: str) -> None:
        """Print a line on stderr, above the bar if there is one."""
        if self._bar is not None:
            self._bar.write(text, file=sys.stderr)
        else:
            click.echo(text, err=True)

    def _rate(self, frames: int) -> str:
        seconds = time.monotonic() - self._began
        return f"{frames} frames in {seconds:.1f} s ({frames / max(seconds, 1e-9):.0f} frames/s)"

    def _print_json(self, outcome: Any) -> None:
        if self._as_json:
            click.echo(json.dumps(dataclasses.asdict(outcome), ensure_ascii=False))
