"""Check that a store's flow is as networks were trained on, and the extraction that makes such flow."""

from __future__ import annotations

import dataclasses
import json
import shlex
from collections.abc import Iterator
from typing import Any

from flowkit import TVL1Params
from flowkit.errors import FlowkitError, InputError
from flowkit.extraction.config import BACKWARD, ExtractConfig
from flowkit.resize_rule import ResizeRule
from flowkit.store.codecs import flow_codec
from flowkit.store.read.store import Store
from flowkit.tvl1.params import DEFAULT_PRESET, PRESETS, resolve_params
from flowkit.untrusted_json import parse_json, typed
from gating.data.partition import flow_record
from gating.errors import CheckpointError
from gating.run_folder import RECORD, FlowRecord, TrialRecord
from gating.training.checkpoint import differences

IMPORTED = "imported"
"""Mode of the resize rule of an imported store (`flowkit.rawframes`)."""


def check_store_fits(record: TrialRecord, store: Store) -> list[str]:
    """Check that a store's flow was made as the flow that a trial learned from.

    A codec that keeps more or less of the same flow is no obstacle, unless it clips where the
    networks would see more.

    Returns
    -------
    list of str
        The harmless differences, a line each.

    Raises
    ------
    InputError
        The store keeps no frames for the rgb stream, or its flow was made otherwise; the message names each
        difference and the options of `flowkit extract` that make such flow.
    """
    if store.options.frame_codec == "none" and "rgb" in record.config.modalities:
        raise InputError(
            f"{store.path} keeps no frames (--frames none), and the rgb stream needs them; extract again"
        )
    there, here = record.data["flow"], flow_record(store.options)
    found = differences(_made(there, record), _made(here, record))
    if found:
        raise InputError(
            f"{store.path} does not fit {record.folder}: {'; '.join(found)} (there: as trained; here: this "
            f"store). {_remedy(record)}"
        )
    notes = [
        f"{name} is {there.get(name)!r} where it was trained and {here[name]!r} in {store.path}"
        for name in ("flow_codec", "frame_codec", "jpeg_quality")
        if there.get(name) != here[name]
    ]
    trained, stored = (_versions(flow, record) for flow in (there, here))
    return notes + (
        [f"versions are {trained} where it was trained and {stored} in {store.path}"]
        if trained != stored
        else []
    )


def _versions(flow: FlowRecord, record: TrialRecord) -> object:
    """Return the versions of the packages that made the trial's field, none of TV-L1's."""
    own = _settings(flow["tvl1_params"], "tvl1_params", record).get(record.config.field)
    return own.get("versions", {}) if isinstance(own, dict) else {}


def _made(flow: FlowRecord, record: TrialRecord) -> dict[str, object]:
    """Return the settings that decide the values that a network sees, but for the rounding of codecs."""
    field = record.config.field
    clipped = flow_codec(flow["flow_codec"], bound_px=float(flow["bound"])).bound_px
    params, presets, resize, sampling = (
        _settings(flow[name], name, record) for name in ("tvl1_params", "tvl1_preset", "resize", "sampling")
    )
    own = params.get(field)
    if isinstance(own, dict) and "method" in own:
        # A version of a package is named, and is no reason to refuse.
        own = {name: value for name, value in own.items() if name != "versions"}
    return {
        # The name of a preset matters only where its parameters are unknown: of imported flow.
        **({f"{field}.preset": presets.get(field)} if not own else {}),
        field: own,
        "step": flow["step"],
        "resize": resize,
        "sampling": sampling,
        "flow_clipped_to_px": min(clipped, record.config.augment.bound_px),
    }


def _settings(text: str, name: str, record: TrialRecord) -> dict[str, Any]:
    """Return the JSON object that a record of the flow keeps as text."""
    source = f"{name} of {record.folder / RECORD}"
    settings: dict[str, Any] = typed(source, parse_json(text, source=source), dict[str, Any])
    return settings


def _remedy(record: TrialRecord) -> str:
    try:
        options = " ".join(shlex.quote(word) for word in extract_options(record))
    except CheckpointError as error:
        return f"{error}; take a store that was imported alike, or {_STATE}"
    return f"Extract with: flowkit extract {options} VIDEOS STORE"


_STATE = "state how it was made by a store of such flow, `flowkit predict --flow-like STORE`"


def is_imported(flow: FlowRecord, record: TrialRecord) -> bool:
    """Return whether flow was imported, of which nothing says how it was made."""
    return _settings(flow["resize"], "resize", record).get("mode") == IMPORTED


def with_stated_flow(record: TrialRecord, like: Store) -> TrialRecord:
    """Return the record of a trial on imported flow with the settings of a store that `flowkit extract` made.

    That both were made alike is the user's statement. What the trial's own record knows is compared.

    Parameters
    ----------
    record
        Its flow was imported.
    like
        The settings of its frames and flow are taken.

    Raises
    ------
    InputError
        The trial's record has settings of its own; or the store was imported, too, or lacks the field,
        pairs other frames, or clips flow elsewhere.
    """
    there, here = record.data["flow"], flow_record(like.options)
    if not is_imported(there, record):
        raise InputError(
            f"{record.folder} was trained on flow of known settings, and {like.path} would state others; "
            "leave it out (--flow-like)"
        )
    if is_imported(here, record):
        raise InputError(
            f"{like.path} was imported: nothing in it says how its flow was made; name a store that "
            "`flowkit extract` made"
        )
    field, (known, stated) = record.config.field, (_made(one, record) for one in (there, here))
    wrong = [] if stated[field] is not None else [f"it has no flow field {field!r}"]
    wrong += [
        f"{name} is {known[name]} where the networks were trained and {stated[name]} in it"
        for name in ("step", "flow_clipped_to_px")
        if known[name] != stated[name]
    ]
    if wrong:
        raise InputError(f"{like.path} cannot be like the flow of {record.folder}: {'; '.join(wrong)}")
    return dataclasses.replace(record, data={**record.data, "flow": here})


def extract_config(record: TrialRecord) -> ExtractConfig:
    """Return the extraction that makes flow as that which a trial learned from.

    Raises
    ------
    CheckpointError
        The flow was imported, or by settings that this version does not know.
    """
    flow = record.data["flow"]
    try:
        params = _settings(flow["tvl1_params"], "tvl1_params", record)
        presets = _settings(flow["tvl1_preset"], "tvl1_preset", record)
        sampling = _settings(flow["sampling"], "sampling", record)
        is_tvl1 = "method" not in params["flow"]
        return ExtractConfig(
            method="tvl1" if is_tvl1 else _method(params["flow"], presets["flow"]),
            params=TVL1Params.from_json(json.dumps(params["flow"])) if is_tvl1 else None,
            more_fields=tuple(
                (name, _method(params[name], presets[name]))
                for name in json.loads(flow["fields"])
                if name not in ("flow", BACKWARD)
            ),
            resize=ResizeRule.from_json(flow["resize"]),
            step=flow["step"],
            fps=sampling["fps"],
            deinterlace=sampling.get("deinterlace", False),
            backward=BACKWARD in params,
            flow_codec=flow["flow_codec"],
            bound_px=flow["bound"],
            jpeg_quality=flow["jpeg_quality"],
        )
    except (KeyError, TypeError, ValueError, FlowkitError) as error:
        raise CheckpointError(
            f"{record.folder} was trained on flow that `flowkit extract` cannot make ({error})"
        ) from error


def _method(params: dict[str, object], preset: str) -> str:
    """Return the text of `ExtractConfig.method` that makes a field of these settings."""
    method = str(params.get("method", "tvl1"))
    if preset == "custom":
        raise CheckpointError(f"a field of method {method!r} has parameters of no preset")
    return f"{method}/{preset}" if preset else method


def extract_options(record: TrialRecord) -> list[str]:
    """Return the options of `flowkit extract` that `extract_config` stands for.

    Raises
    ------
    CheckpointError
        As `extract_config`.
    """
    config = extract_config(record)
    words = [*_method_options(config), *_resize_options(config.resize)]
    words += ["--step", f"{config.step}"] if config.step != 1 else []
    words += ["--fps", f"{config.fps:g}"] if config.fps is not None else []
    words += ["--deinterlace"] if config.deinterlace else []
    words += ["--backward"] if config.backward else []
    assert config.flow_codec is not None, "a run's record names its codec"
    words += ["--flow-codec", config.flow_codec]
    return words + (["--bound", f"{config.bound_px:g}"] if flow_codec(config.flow_codec).bounded else [])


def _method_options(config: ExtractConfig) -> Iterator[str]:
    for name, method in config.more_fields:
        yield from ("--field", f"{name}={method}")
    if config.method == "tvl1":
        yield from _tvl1_options(config)
    else:
        yield from ("--method", config.method)


def _tvl1_options(config: ExtractConfig) -> Iterator[str]:
    """Yield the preset, or of other parameters the default preset and all that differ from it."""
    default = resolve_params(DEFAULT_PRESET)
    params = config.params or default
    # Not by the recorded name: an earlier version's preset has the name of other parameters now.
    preset = next((name for name, values in PRESETS.items() if values == params), None)
    if preset is not None:
        yield from ("--preset", preset)
        return
    yield from ("--preset", DEFAULT_PRESET)
    for name, value in dataclasses.asdict(params).items():
        flag = name.strip("_").replace("_", "-")
        if isinstance(value, bool) and value != getattr(default, name):
            yield f"--{flag}" if value else f"--no-{flag}"
        elif value != getattr(default, name):
            yield from (f"--{flag}", str(value))


def _resize_options(rule: ResizeRule) -> list[str]:
    words = {
        "native": ["--native"],
        "size": ["--size", f"{rule.width}x{rule.height}"],
        "short_side": ["--short-side", f"{rule.short_side}"],
    }[rule.mode]
    words += ["--interpolation", rule.interpolation] if rule.interpolation != "auto" else []
    words += ["--pixels", rule.pixels] if rule.pixels is not None and rule.mode != "size" else []
    return words + (["--scaler", rule.scaler] if rule.scaler is not None else [])
