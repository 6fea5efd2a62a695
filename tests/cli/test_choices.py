"""The command line's lists of names are those of the registries that the library chooses from."""

from __future__ import annotations

import importlib
import re
from collections.abc import Collection
from typing import get_args

import click
import pytest

import flowkit_cli
from flowkit.methods import METHODS
from flowkit.rawframes.encoding import Unknown
from flowkit.rawframes.layouts import IMPORT_LAYOUTS, LAYOUTS
from flowkit.store.codecs import FLOW_CODECS
from flowkit.tvl1.backend import BackendName
from flowkit.tvl1.params import PRESETS
from flowkit.typing import Decoder, FrameCodec
from gating.backbone_features.options import Per, Streams
from gating.config import MODALITIES
from gating.train_config import PRESETS as TRAIN_PRESETS

REGISTRIES: dict[tuple[str, str], Collection[str]] = {
    ("extract", "--preset"): PRESETS,
    ("extract", "--flow-codec"): FLOW_CODECS,
    ("extract", "--frames"): get_args(FrameCodec),
    ("extract", "--backend"): get_args(BackendName),
    ("extract", "--decoder"): get_args(Decoder),
    ("flow", "--preset"): PRESETS,
    ("flow", "--backend"): get_args(BackendName),
    ("recode", "--flow-codec"): FLOW_CODECS,
    ("export", "--layout"): LAYOUTS,
    ("import", "--layout"): IMPORT_LAYOUTS,
    ("import", "--flow-codec"): FLOW_CODECS,
    ("import", "--unknown"): get_args(Unknown),
    ("train", "--preset"): ("auto", *TRAIN_PRESETS),
    ("features", "--per"): get_args(Per),
    ("features", "--streams"): get_args(Streams),
    ("train", "--streams"): ("both", *MODALITIES),
}


def choices(command: str, option: str) -> tuple[str, ...]:
    module = f"{command}_" if command == "import" else command
    for parameter in importlib.import_module(f"flowkit_cli.{module}").command.params:
        if option in parameter.opts:
            assert isinstance(parameter.type, click.Choice)
            return tuple(str(choice) for choice in parameter.type.choices)
    raise AssertionError(f"flowkit {command} has no {option}")


@pytest.mark.parametrize(("command", "option"), REGISTRIES)
def test_choices_are_the_registrys(command: str, option: str) -> None:
    assert command in flowkit_cli.COMMANDS
    assert sorted(choices(command, option)) == sorted(REGISTRIES[command, option])


def test_the_help_of_extract_has_every_method_and_preset_but_tvl1s() -> None:
    parameters = importlib.import_module("flowkit_cli.extract").command.params
    (option,) = [each for each in parameters if each.name == "method"]
    words = set(re.findall(r"[\w-]+", option.help))
    assert set(METHODS) <= words
    assert {preset for name, entry in METHODS.items() if name != "tvl1" for preset in entry.presets} <= words
