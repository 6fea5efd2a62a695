"""Output of the long commands: plan, bar, JSON lines, failures, summary; events of training."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict

import click

from .streams import echo, printable

if TYPE_CHECKING:
    from typing import Never

    from tqdm import tqdm

    from flowkit.extraction.run import ExtractReport, ExtractSetup
    from flowkit.extraction.store_run import VideoOutcome
    from flowkit.jobs import Progress
    from flowkit.rawframes.export import ExportReport, ExportSetup
    from flowkit.rawframes.export_worker import ExportOutcome
    from flowkit.rawframes.importer import ImportReport, ImportSetup
    from flowkit.store.record import Failure
    from gating.events import Event


class _StageSpeeds(TypedDict):
    stage_rates: Mapping[str, float]
    limits: str


class Reporter:
    """Prints plan, progress and summary on stderr; stdout carries JSON lines only.

    Parameters
    ----------
    as_json, quiet : bool
        The switches of these names.
    """

    def __init__(self, *, as_json: bool, quiet: bool) -> None:
        self._as_json = as_json
        self._show_bar = sys.stderr.isatty() and not quiet
        self._bar: tqdm[Never] | None = None
        self._noun = ""
        self._began = time.monotonic()
        self._cores, self._gpu_lanes = 1, 0
        self._reported: set[str] = set()

    def plan_extraction(self, setup: ExtractSetup, *, dry_run: bool) -> None:
        """Print the plan, the engine and the decoder; in a dry run each video too."""
        from flowkit.extraction.run import server_configs
        from flowkit.tvl1.server.server import LANES

        plan = setup.plan
        self._cores, self._gpu_lanes = setup.config.jobs, LANES * len(server_configs(setup))
        for source in plan.stored:
            self._print_json({"video_id": source.video_id, "status": "already_stored"})
        counts = [f"{len(plan.todo)} to extract"]
        counts += [f"{len(plan.stored)} already stored"] if plan.stored else []
        counts += [f"{len(plan.changed)} changed since they were stored"] if plan.changed else []
        self.write_line(f"{setup.store}: {', '.join(counts)}; {setup.config.jobs} jobs")
        for line in _method_lines(setup):
            self.write_line(line)
        for path, cause in setup.found.damaged.items():
            self.write_line(f"damaged part, its video counts as missing: {path}: {cause}")
        if setup.decoder != "av":
            self.write_line(f"decoder {setup.decoder}: {setup.decoder_reason}")
        if dry_run:
            self._print_sources(setup)

    def _print_sources(self, setup: ExtractSetup) -> None:
        for name in ("todo", "stored", "changed"):
            for source in getattr(setup.plan, name):
                word = {"todo": "extract", "stored": "stored"}.get(name, name)
                line = {"status": word, "video_id": source.video_id, "label": source.label}
                self._print_json(line | {"source": source.name})
                if not self._as_json:
                    echo(f"{word:8} {source.video_id}  label={source.label or '-'}  {source.name}")
        if not self._as_json:
            click.echo(json.dumps(dataclasses.asdict(setup.options), indent=2))

    def plan_import(self, setup: ImportSetup) -> None:
        """Print the number of clips to import, and what was passed over."""
        plan = setup.plan
        self.write_line(f"{setup.store}: {len(plan.todo)} to import, {len(plan.stored)} already stored")
        for line in setup.ignored:
            self.write_line(f"  not imported: {line}")

    def plan_export(self, setup: ExportSetup) -> None:
        """Print the number of units to write; report those already there and those refused."""
        self.write_line(
            f"{setup.destination.path}: {len(setup.todo)} to write, {len(setup.there)} there already"
        )
        for outcome in (*setup.there, *setup.refused):
            self._report(outcome)

    @contextlib.contextmanager
    def running(self, noun: str, *, kept: str) -> Iterator[None]:
        """Show a bar; on an interruption print what is kept and how to go on.

        Parameters
        ----------
        noun : str
            The unit of the bar, such as "videos".
        kept : str
            The state after an interruption, as the beginning of a sentence.
        """
        from tqdm import tqdm

        self._noun = noun
        form = "{percentage:3.0f}%|{bar}| {elapsed}<{remaining}{postfix}"
        self._bar = tqdm(total=1.0, disable=not self._show_bar, bar_format=form, file=sys.stderr)
        try:
            yield
        except KeyboardInterrupt:
            self._bar.close()
            self.write_line(f"interrupted: {kept}; the same command again goes on from there")
            raise
        finally:
            self._bar.close()

    def progress(self, now: Progress[VideoOutcome] | Progress[ExportOutcome]) -> None:
        """Move the bar; report the outcome that has ended, if any."""
        pace = now.frames / max(time.monotonic() - self._began, 1e-9)
        counts = f"{now.done}/{now.total} {self._noun}, {pace:.1f} frames/s, {now.failed} failed"
        if self._bar is not None:
            self._bar.set_postfix_str(counts, refresh=False)
            self._bar.update(max(0.0, now.fraction - self._bar.n))
        if now.outcome is not None:
            self._report(now.outcome)

    def _report(self, outcome: VideoOutcome | ExportOutcome) -> None:
        """Print the JSON line, warnings and failure of one video, clip or shard."""
        self._reported.add(outcome.name)
        if self._as_json:
            speeds = self._stage_speeds(getattr(outcome, "stages", {}), outcome.n_frames)
            self._print_json(dataclasses.asdict(outcome) | dict(speeds or {}))
        for warning in outcome.warnings:
            self.write_line(f"{outcome.name}: {warning}")
        if outcome.failure is not None:
            self._print_failure(outcome.failure)

    def store_summary(self, store: Path, report: ExtractReport | ImportReport) -> int:
        """Print the summary of an extraction or an import; return the exit status."""
        reported = {str(outcome.source) for outcome in report.outcomes}
        for outcome in report.outcomes:
            if outcome.name not in self._reported and outcome.failure is not None:
                self._report(outcome)
        for failure in report.failures:
            if failure.source not in reported:
                self._print_failure(failure)
        frames = sum(outcome.n_frames for outcome in report.outcomes)
        counts = [f"{report.stored} stored"]
        counts += [f"{report.already_stored} were stored before"] if report.already_stored else []
        self._print_total(
            store, counts, failed=len(report.failures), not_tried=report.not_tried, frames=frames
        )
        phases = getattr(report, "phases", {})
        tried = len(report.outcomes)
        found = self._stage_speeds(getattr(report, "stages", {}), frames, videos=tried, phases=phases)
        if found:
            speeds = ", ".join(f"{stage} {fps:.0f}" for stage, fps in found["stage_rates"].items())
            self.write_line(f"frames per second of work: {speeds}; {found['limits']} limits")
        if phases:
            took = ", ".join(f"{phase} {seconds:.1f}" for phase, seconds in phases.items())
            self.write_line(f"seconds: {took}")
        for reason, count in Counter(failure.reason for failure in report.failures).most_common():
            self.write_line(f"  {count} {reason}")
        if report.not_tried:
            self.write_line("stopped early; the same command again goes on from here")
        if report.failures:
            self.write_line(f"each failure with its detail: {store}.failures.jsonl")
        return 1 if report.failures or report.not_tried else 0

    def export_summary(self, dest: Path, report: ExportReport) -> int:
        """Print the summary of an export; return the exit status."""
        new = [outcome for outcome in report.outcomes if outcome.status == "exported"]
        there = sum(outcome.status == "already_exported" for outcome in report.outcomes)
        counts = [f"{len(new)} exported"]
        counts += [f"{there} were there before"] if there else []
        frames = sum(outcome.n_frames for outcome in new)
        self._print_total(
            dest, counts, failed=len(report.failures), not_tried=report.not_tried, frames=frames
        )
        if any(outcome.values for outcome in report.outcomes):
            self.write_line(f"{report.clipped_fraction:.3%} of the flow was clipped to the bound")
        for note in report.notes:
            self.write_line(note)
        return 1 if report.failures or report.not_tried or report.unlisted else 0

    def _print_total(
        self, path: Path, counts: list[str], *, failed: int, not_tried: int, frames: int
    ) -> None:
        seconds = time.monotonic() - self._began
        counts += [f"{failed} failed"] if failed else []
        counts += [f"{not_tried} not tried"] if not_tried else []
        pace = frames / max(seconds, 1e-9)
        self.write_line(
            f"{path}: {', '.join(counts)}; {frames} frames in {seconds:.1f} s ({pace:.1f} frames/s)"
        )

    def _print_failure(self, failure: Failure) -> None:
        part = ""
        if failure.start_seconds is not None or failure.end_seconds is not None:
            end = "its end" if failure.end_seconds is None else f"{failure.end_seconds:g} s"
            part = f" from {failure.start_seconds or 0:g} s to {end}"
        self.write_line(f"FAILED {failure.source}{part}: {failure.reason}: {failure.detail}")

    def _stage_speeds(
        self,
        stages: Mapping[str, float],
        frames: int,
        *,
        videos: int | None = None,
        phases: Mapping[str, float] | None = None,
    ) -> _StageSpeeds | None:
        """Return the frames per second of each stage's own work, and what limits."""
        from flowkit.extraction.timing import limiting_stage, stage_fps

        speeds = stage_fps(stages, frames) if frames else {}
        if not speeds:
            return None
        limits = limiting_stage(
            stages, cores=self._cores, gpu_lanes=self._gpu_lanes, videos=videos, phases=phases or {}
        )
        return {"stage_rates": speeds, "limits": limits}

    def write_line(self, text: str) -> None:
        """Print a line on stderr, above the bar if there is one."""
        if self._bar is not None:
            self._bar.write(printable(text), file=sys.stderr)
        else:
            echo(text, err=True)

    def _print_json(self, value: Mapping[str, object]) -> None:
        if self._as_json:
            click.echo(json.dumps(value, ensure_ascii=False))


def show_extraction(now: Progress[VideoOutcome]) -> None:
    """Rewrite one line of the terminal with the progress of an extraction; clear it after the last video."""
    line = f"extracting: {now.done}/{now.total} videos, {100 * now.fraction:.0f} %, {now.failed} failed"
    click.echo(f"\r\033[K{line if now.done < now.total else ''}", nl=False, err=True)


class TrainReporter:
    """Prints events: a bar within the epoch on a terminal, and a line an epoch."""

    def __init__(self, *, quiet: bool) -> None:
        self._quiet = quiet
        self._show_bar = sys.stderr.isatty() and not quiet
        self._bar: tqdm[Never] | None = None

    def __call__(self, event: Event) -> None:
        """Show one event of `gating.events`."""
        shown = getattr(self, f"_{event['event']}", None)
        if shown is not None:
            shown(event)

    def write_line(self, text: str) -> None:
        """Print a line to standard error, above the bar if one is shown."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None
        if not self._quiet:
            echo(text, err=True)

    def _trial(self, event: Event) -> None:
        self.write_line(f"\n{trial_title(event)}")
        for line in event["lines"]:
            self.write_line(f"  {line}")

    def _note(self, event: Event) -> None:
        echo(f"note: {event['text']}", err=True)  # comes before any bar, and if quiet too

    def _step(self, event: Event) -> None:
        if not self._show_bar:
            return
        if self._bar is None:
            from tqdm import tqdm

            epoch = f"{event['stage']} {event['epoch'] + 1}/{event['epochs']}"
            self._bar = tqdm(total=event["steps"], desc=epoch, unit="step", leave=False)
        self._bar.n = event["step"] + 1
        progress = f"top-1 {100 * event['top1']:.1f} %, {event['clips_per_second']:.0f} clips/s"
        self._bar.set_postfix_str(f"loss {event['loss']:.3f}, {progress}")

    def _epoch(self, event: Event) -> None:
        trained, valid = event["training"], event["validation"]
        parts = [f"validation {valid['loss']:.3f}, {100 * valid['top1']:.1f} %"] if valid else []
        if "loss" in trained:  # an epoch interrupted after its last step has none
            parts.insert(0, f"loss {trained['loss']:.3f}, top-1 {100 * trained['top1']:.1f} %")
            waiting = f"{100 * trained['waiting']:.0f} % of it waiting for data"
            parts.append(f"{trained['clips_per_second']:.0f} clips/s, {waiting}")
        best = " (best so far)" if event["best"] and valid else ""
        self.write_line(f"{event['stage']} {event['epoch'] + 1}/{event['epochs']}: {'; '.join(parts)}{best}")
        if "gates" in valid:
            self.write_line(_gates_line(valid["gates"]))

    def _paused(self, event: Event) -> None:
        position = f"epoch {event['epoch'] + 1}, after {event['position']} clips"
        self.write_line(f"{event['stage']}: saved in {position}; --resume goes on from there")

    def _resumed(self, event: Event) -> None:
        self.write_line(
            f"{event['stage']}: goes on in epoch {event['epoch'] + 1}, after {event['position']} clips"
        )

    def _stopped(self, event: Event) -> None:
        done = f"{event['epoch'] + 1} of {event['epochs']} epochs"
        self.write_line(f"{event['stage']}: ends after {done}: none of the last was better")

    def _skipped(self, event: Event) -> None:
        self.write_line(f"{event['stage']}: finished before, best epoch {event['best_epoch'] + 1}")

    def _finished(self, event: Event) -> None:
        self.write_line(f"{event['stage']}: best epoch {event['best_epoch'] + 1}")

    def _features(self, event: Event) -> None:
        if self._show_bar and self._bar is None:
            from tqdm import tqdm

            self._bar = tqdm(total=event["clips"], desc="features", unit="clip", leave=False)
        if self._bar is not None:
            self._bar.n = event["done"]
            self._bar.refresh()
        if event["done"] == event["clips"]:
            self.write_line(f"features of {event['clips']} clips are computed and kept")

    def _fitted(self, event: Event) -> None:
        strength = f", penalty {event['penalty']:g}" if "penalty" in event else ""
        share = f", share {event['share']:g} of its own weights" if "share" in event else ""
        self.write_line(f"{event['stage']}: fitted on kept features{strength}{share}")


def trial_title(event: Event) -> str:
    """Return the split, the tested part and the seed of an event's trial; with --all none is tested."""
    whole = event["split"] == event["part"] == "all"
    tested = "no test" if whole else f"tested on {event['part']}"
    return f"split {event['split']}, {tested}, seed {event['seed']}"


def _gates_line(gates: dict[str, float]) -> str:
    return (
        f"  gates: flow {gates['mean_flow']:.2f} + rgb {gates['mean_rgb']:.2f} = {gates['mean_sum']:.2f}, "
        f"median ratio {gates['ratio']:.2f}; zero: flow {100 * gates['zero_flow']:.1f} %, rgb "
        f"{100 * gates['zero_rgb']:.1f} %, both {100 * gates['zero_both']:.1f} %"
    )


def _method_lines(setup: ExtractSetup) -> Iterator[str]:
    """Yield a line for each flow field's method, and the engine of TV-L1 with its deviations."""
    for field in setup.options.fields:
        name = f"{field.name}: " if len(setup.options.fields) > 1 else ""
        engine = f", backend {setup.backend.reason}" if setup.backend and field.method == "tvl1" else ""
        yield f"{name}{field.summary}{engine}"
    for each in setup.methods:
        if each.method.one_process:
            yield f"  {each.method.name} runs in one process, with {setup.config.jobs} threads beside it"
    if setup.backend is not None:
        for deviation in setup.backend.deviations:
            yield f"  {setup.backend.name} deviates: {deviation}"
