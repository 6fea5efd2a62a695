"""What `flowkit extract` shows while it runs and when it ends."""

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
    from flowkit.extraction.run import ExtractReport, Setup
    from flowkit.extraction.store_run import VideoOutcome
    from flowkit.jobs import Progress


class Reporter:
    """Prints the plan, the progress and the summary; stdout carries JSON lines only.

    Parameters
    ----------
    store : Path
        The store that is written.
    dry_run, as_json, quiet : bool
        The switches of these names.
    """

    def __init__(self, store: Path, *, dry_run: bool, as_json: bool, quiet: bool) -> None:
        self._store = store
        self._dry_run = dry_run
        self._as_json = as_json
        self._show_bar = sys.stderr.isatty() and not quiet
        self._bar: Any = None
        self._began = time.monotonic()
        self._cores, self._gpu_lanes = 1, 0

    def plan(self, setup: Setup) -> None:
        """Print what will be done, and with what; in a dry run each video too."""
        from flowkit.extraction.run import server_configs
        from flowkit.tvl1.server import LANES

        plan, solver = setup.plan, setup.backend.solver
        self._cores, self._gpu_lanes = setup.config.jobs, LANES * len(server_configs(setup))
        if self._as_json:
            for source in plan.stored:
                self._print_json({"video_id": source.video_id, "status": "already_stored"})
        counts = [f"{len(plan.todo)} to extract"]
        counts += [f"{len(plan.stored)} already stored"] if plan.stored else []
        counts += [f"{len(plan.changed)} changed since they were stored"] if plan.changed else []
        self.say(f"{setup.store}: {', '.join(counts)}; {setup.config.jobs} jobs")
        self.say(f"TV-L1 preset {setup.options.fields[0].tvl1_preset}, backend {setup.backend.reason}")
        for deviation in solver.deviations:
            self.say(f"  {solver.name} deviates: {deviation}")
        for path, cause in setup.found.damaged.items():
            self.say(f"damaged part, its video counts as missing: {path}: {cause}")
        if setup.decoder != "av":
            self.say(f"decoder {setup.decoder}: {setup.decoder_reason}")
        if self._dry_run:
            self._print_plan(setup)

    def _print_plan(self, setup: Setup) -> None:
        for name in ("todo", "stored", "changed"):
            for source in getattr(setup.plan, name):
                word = {"todo": "extract", "stored": "stored"}.get(name, name)
                line = {"status": word, "video_id": source.video_id, "label": source.label}
                if self._as_json:
                    self._print_json(line | {"source": str(source.path)})
                else:
                    click.echo(f"{word:8} {source.video_id}  label={source.label or '-'}  {source.path}")
        if not self._as_json:
            options = dataclasses.asdict(setup.options)
            click.echo(json.dumps(options, indent=2))

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """Show progress; on an interruption say what is kept and how to go on."""
        from tqdm import tqdm

        form = "{percentage:3.0f}%|{bar}| {elapsed}<{remaining}{postfix}"
        self._bar = tqdm(total=1.0, disable=not self._show_bar, bar_format=form, file=sys.stderr)
        try:
            yield
        except KeyboardInterrupt:
            self._bar.close()
            self.say(
                f"interrupted: finished videos are kept in {self._store}.parts; "
                "the same command again goes on from there"
            )
            raise
        finally:
            self._bar.close()

    def progress(self, now: Progress[VideoOutcome]) -> None:
        """Move the bar; report a video that ended."""
        rate = now.frames / max(time.monotonic() - self._began, 1e-9)
        self._bar.set_postfix_str(
            f"{now.done}/{now.total} videos, {rate:.1f} frames/s, {now.failed} failed", refresh=False
        )
        self._bar.update(max(0.0, now.fraction - self._bar.n))
        if now.outcome is not None:
            self._outcome(now.outcome)

    def _outcome(self, outcome: VideoOutcome) -> None:
        if self._as_json:
            self._print_json(dataclasses.asdict(outcome) | self._rates(outcome.stages, outcome.n_frames))
        for warning in outcome.warnings:
            self.say(f"{outcome.video_id}: {warning}")
        if outcome.failure is not None:
            self.say(f"FAILED {outcome.source}: {outcome.failure.reason}: {outcome.failure.detail}")

    def summary(self, report: ExtractReport) -> int:
        """Print what came of the run and return the exit status."""
        seconds = time.monotonic() - self._began
        for outcome in report.outcomes:
            if outcome.failure and outcome.failure.reason == "source_changed":
                self._outcome(outcome)
        frames = sum(outcome.n_frames for outcome in report.outcomes)
        self.say(
            f"{self._store}: {report.stored} stored"
            + (f", {report.already_stored} were stored before" if report.already_stored else "")
            + (f", {len(report.failures)} failed" if report.failures else "")
            + (f", {report.not_tried} not tried" if report.not_tried else "")
            + f"; {frames} frames in {seconds:.1f} s ({frames / max(seconds, 1e-9):.1f} frames/s)"
        )
        if frames:
            found = self._rates(report.stages, frames)
            rates = ", ".join(f"{stage} {rate:.0f}" for stage, rate in found["stage_rates"].items())
            self.say(f"frames per second of work: {rates}; {found['limits']} limits")
        reasons = Counter(failure.reason for failure in report.failures)
        for reason, count in reasons.most_common():
            self.say(f"  {count} {reason}")
        if report.not_tried:
            self.say("stopped early; the same command again goes on from here")
        if report.failures:
            self.say(f"each failure with its detail: {self._store}.failures.jsonl")
        return 1 if report.failures else 0

    def _rates(self, stages: dict[str, float], frames: int) -> dict[str, Any]:
        """Return the frames per second of each stage's own work, and the stage that limits."""
        from flowkit.extraction.timing import limiting_stage, stage_rates

        rates = stage_rates(stages, frames)
        if not rates:
            return {}
        limits = limiting_stage(stages, cores=self._cores, gpu_lanes=self._gpu_lanes)
        return {"stage_rates": rates, "limits": limits}

    def say(self, text: str) -> None:
        """Print a line on stderr, above the bar if there is one."""
        if self._bar is not None:
            self._bar.write(text, file=sys.stderr)
        else:
            click.echo(text, err=True)

    def _print_json(self, value: dict[str, Any]) -> None:
        click.echo(json.dumps(value, ensure_ascii=False))
