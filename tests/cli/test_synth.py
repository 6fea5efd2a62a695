from __future__ import annotations

import csv
from dataclasses import asdict
from pathlib import Path

import click
from click.testing import CliRunner

from flowkit.synth import SynthConfig
from flowkit.synth.plan import CLASSES_FROM, CUES, RELIABILITIES, SUFFIXES
from flowkit_cli.synth import command


def test_set_is_made_with_the_options_given(tmp_path: Path) -> None:
    options = "--clips 3 --classes 2 --frames 3 --reliability conflict --cue own --seed 5 --codec mjpeg"
    done = CliRunner().invoke(command, [str(tmp_path), *options.split(), "--fractions", "0", "1", "0"])
    assert done.exit_code == 0, done.output
    assert "6 clips of 2 labels" in done.output
    with (tmp_path / "index.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["mode"], row["cue"]) for row in rows] == [("rgb_unreliable", "mark")] * 6
    assert all((tmp_path / row["path"]).stat().st_size > 0 for row in rows)


def test_options_offer_what_the_library_knows_and_share_its_defaults() -> None:
    options = {option.name: option for option in command.params if isinstance(option, click.Option)}
    for name, known in {
        "classes_from": CLASSES_FROM,
        "reliability": RELIABILITIES,
        "cue": CUES,
        "codec": tuple(SUFFIXES),
    }.items():
        kind = options[name].type
        assert isinstance(kind, click.Choice)
        assert tuple(kind.choices) == known
    given = command.make_context("synth", ["somewhere"]).params
    assert {name: given[name] for name in set(given) - {"dest", "jobs"}} == asdict(SynthConfig())
    assert all(option.help for option in options.values())
