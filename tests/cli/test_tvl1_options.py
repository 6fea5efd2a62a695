"""TV-L1's options on the command line: one for each parameter, from help to flow."""

from __future__ import annotations

import dataclasses
import importlib
import json
from pathlib import Path

import click
import numpy as np
import pytest
from click.testing import CliRunner, Result

from flowkit.errors import InvalidParameterError
from flowkit.flow_files.flo import read_flo
from flowkit.frames import to_grey
from flowkit.tvl1.flow import tvl1_flow
from flowkit.tvl1.params import PRESETS, TVL1Params
from flowkit.view.canvas import read_rgb, write_image
from flowkit_cli import flow
from tests.make import clips

FLAGS = {
    field.name: "--" + field.name.strip("_").replace("_", "-") for field in dataclasses.fields(TVL1Params)
}


def run_flow(*words: object) -> Result:
    return CliRunner().invoke(flow.command, [str(word) for word in words], catch_exceptions=False)


@pytest.fixture
def images(tmp_path: Path) -> tuple[Path, Path]:
    paths = tmp_path / "0.png", tmp_path / "1.png"
    for path, image in zip(paths, clips.moving_texture(2, height=40, width=56), strict=True):
        write_image(path, image)
    return paths


@pytest.mark.parametrize("command", ["flow", "extract"])
def test_the_help_has_every_parameter_and_its_choices(command: str) -> None:
    module = importlib.import_module(f"flowkit_cli.{command}")
    shown = CliRunner().invoke(module.command, ["--help"], terminal_width=200).output
    lines = {words[0].split("/")[0]: line for line in shown.splitlines() if (words := line.split())}
    assert {*FLAGS.values()} <= {*lines}
    assert "[semi-implicit|projected]" in lines["--dual"]
    assert "[zero|coarser]" in lines["--dual-start"]
    assert "[3|5]" in lines["--gradient-taps"]
    assert "[0|5|7]" in lines["--weighted-median"]
    assert "[warp|level]" in lines["--weighted-median-after"]


def test_flow_with_the_extended_model_is_the_librarys(images: tuple[Path, Path], tmp_path: Path) -> None:
    options = {
        "check_first": 0,
        "warp_snap": 0.1,
        "gradient_taps": 5,
        "dual": "projected",
        "dual_start": "coarser",
        "edge_alpha": 5.0,
        "edge_beta": 0.7,
        "weighted_median": 5,
        "weighted_median_after": "level",
        "weighted_median_spread": 0.1,
        "weighted_median_grey": 9.0,
        "weighted_median_px": 2.0,
        "block_epsilon": 0.01,
    }
    words = [word for name, value in options.items() for word in (FLAGS[name], value)]
    done = run_flow(*images, "-o", tmp_path / "f.flo", "--json", *words)
    assert json.loads(done.stdout)["deviations"] == []
    params = dataclasses.replace(PRESETS["fast"], **options)  # type: ignore[arg-type]
    grey = [to_grey(read_rgb(path)) for path in images]
    assert np.array_equal(read_flo(tmp_path / "f.flo"), tvl1_flow(*grey, params=params))


def test_opencvs_flow_lists_what_it_leaves_out(images: tuple[Path, Path]) -> None:
    done = run_flow(*images, "--backend", "opencv", "--weighted-median", 5, "--dual", "projected", "--json")
    deviations = json.loads(done.stdout)["deviations"]
    assert "dual: semi-implicit, not projected" in deviations
    assert "weighted_median: none, not of side 5 px" in deviations


def test_weights_without_the_projected_dual_are_refused(images: tuple[Path, Path]) -> None:
    with pytest.raises(InvalidParameterError, match="edge_alpha must be 0 with dual='semi-implicit', got 5"):
        run_flow(*images, "--dual", "semi-implicit", "--edge-alpha", 5)


@pytest.mark.parametrize(
    ("flag", "value"),
    [("--dual", "both"), ("--weighted-median", "6"), ("--gradient-taps", "4"), ("--dual-start", "one")],
)
def test_a_choice_that_there_is_not_is_a_usage_error(
    flag: str, value: str, images: tuple[Path, Path]
) -> None:
    done = run_flow(*images, flag, value)
    assert done.exit_code == click.UsageError.exit_code
    assert f"Invalid value for '{flag}'" in done.output
