"""Judge what the commands found in a damaged store, against the values of the sound one."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence

from benchmarks.record import JsonObject
from benchmarks.store_values import Values, changed, changed_in_videos, kind_of, lost, of_videos
from tests.make.store_bases import Base
from tests.make.store_mutations import Mutant

OWN_FAULTS = ("crash", "hang", "traceback", "memory")
"""Outcomes of a command that are faults whatever the store's state; of plain h5py, only in a sound store."""
READERS = ("reader", "reader-h5py", "reader-file")
PLAIN = "plain-h5py"
COPIES = ("merge", "subset", "relabel", "drop-frames", "extract")
_NAMED = 6


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sound:
    """The values of a sound store, and how its commands end."""

    values: Values
    plain: Values
    readers: tuple[str, ...]
    """Those of `READERS` that read it: a master is not read from a file object."""


def sound_of(results: Sequence[JsonObject]) -> Sound:
    """Return the values of a sound store by the results of all commands on it.

    Raises
    ------
    ValueError
        A command fails on it, or verify does not call it sound: nothing could be judged by it.
    """
    named = {result["name"]: result for result in results}
    readers = tuple(name for name in READERS if named[name]["outcome"] == "ended")
    bad = {
        name: result
        for name, result in named.items()
        if result["outcome"] != "ended" and name != "reader-file" and name != "extract-nothing"
    }
    copies = [named[name] for name in COPIES if not named[name].get("copy_sound")]
    if bad or copies or not named["verify"].get("sound") or not named["after-repair"].get("sound"):
        raise ValueError(f"the undamaged store does not pass: {bad} {copies}"[:2000])
    return Sound(values=named["reader"]["values"], plain=named[PLAIN]["values"], readers=readers)


def judge(
    made: Mutant, base: Base, sound: Sound, results: Sequence[JsonObject], *, intact: bool = True
) -> JsonObject:
    """Return the verdict on one mutation.

    Returns
    -------
    dict
        `verdict` of verify (`sound`, `unsound`, `refused`, or what became of it), `faults`, `changed` (kinds
        of values that a reader gave changed, without an error), `remade` (lists that a repair made anew), and
        what the commands took.
    """
    named = {result["name"]: result for result in results}
    verdict = verdict_of(named["verify"])
    found = [
        *_command_faults(named, verdict),
        *(_silent(named, sound) if verdict == "sound" else ()),
        *_copy_faults(named),
        *_repair_faults(named, base, sound),
    ]
    if made.targeted and verdict == "sound":
        found.append(("verify", "missed", "the flip is not found"))
    if not intact:
        found.append(("", "wrote", "a command that reads changed the store's files"))
    outcomes = {name: result["outcome"] for name, result in named.items()}
    slowest = max(results, key=lambda result: result["seconds"])
    largest = max(results, key=lambda result: result.get("memory_bytes", 0))
    described = {name: getattr(made, name) for name in ("seed", "number", "kind", "base", "file", "detail")}
    return {
        **described,
        "verdict": verdict,
        "verify_seconds": named["verify"]["seconds"],
        "outcomes": outcomes,
        "faults": [
            {**described, "command": name, "fault": fault, "text": text} for name, fault, text in found
        ],
        "changed": _changed_kinds(named, sound),
        "remade": _remade(named, sound),
        "slowest": [slowest["seconds"], slowest["name"]],
        "largest": [largest.get("memory_bytes", 0), largest["name"]],
    }


def verdict_of(verify: JsonObject) -> str:
    """Return `sound`, `unsound`, `refused`, or the fault by which verify ended."""
    if verify["outcome"] != "ended":
        return str(verify["outcome"])
    return "sound" if verify["sound"] else "unsound"


Fault = tuple[str, str, str]
"""Command, kind of fault, text."""


def _command_faults(named: Mapping[str, JsonObject], verdict: str) -> Iterator[Fault]:
    for name, result in named.items():
        if result["outcome"] in OWN_FAULTS and (name != PLAIN or verdict == "sound"):
            yield name, result["outcome"], result.get("text", "")


def _silent(named: Mapping[str, JsonObject], sound: Sound) -> Iterator[Fault]:
    """Yield each way of reading by which a store that verify calls sound has other values."""
    expected = {PLAIN: sound.plain, **dict.fromkeys(sound.readers, sound.values)}
    for name, values in expected.items():
        if named[name]["outcome"] == "left out" or named[name]["outcome"] in OWN_FAULTS:
            continue
        found = named[name].get("values", {})
        differ, gone = changed(values, found), lost(values, found)
        if differ or gone:
            yield name, "silent", f"changed {differ[:_NAMED]}, not read {gone[:_NAMED]}"


def _copy_faults(named: Mapping[str, JsonObject]) -> Iterator[Fault]:
    """Yield each command that made a store which verifies, and has a changed value."""
    for name in COPIES:
        differ = named[name].get("changed_in_copy")
        if differ and named[name]["copy_sound"]:
            yield name, "laundered", f"the new store verifies, and has other {differ[:_NAMED]}"


def _repair_faults(named: Mapping[str, JsonObject], base: Base, sound: Sound) -> Iterator[Fault]:
    repair, after = named["repair"], named["after-repair"]
    if repair["outcome"] != "ended" or after["outcome"] in (*OWN_FAULTS, "left out"):
        return
    values = after.get("values", {})
    if repair["repaired"] and not after.get("sound"):
        yield "repair", "unsound after repair", after.get("text", "verify says not sound")
    if after.get("sound"):
        differ = changed_in_videos(sound.values, values)
        differ += [name for name in ("options",) if values.get(name) != sound.values[name]]
        if differ:
            yield "repair", "kept", f"the repaired store verifies, and has other {differ[:_NAMED]}"
    expected = of_videos(sound.values)
    for file in repair["vanished"]:
        heads = tuple(f"video/{video_id}:" for video_id in base.videos.get(file, ()))
        own = {name: value for name, value in expected.items() if heads and name.startswith(heads)}
        gone = lost(own, values)
        if gone:
            yield "repair", "vanished", f"{file} is nowhere, nor are {gone[:_NAMED]}"


def _changed_kinds(named: Mapping[str, JsonObject], sound: Sound) -> dict[str, list[str]]:
    """Return, for each reader that gave changed values without an error, their kinds."""
    found = {name: changed(sound.values, named[name].get("values", {})) for name in READERS}
    return {name: sorted({kind_of(one) for one in names}) for name, names in found.items() if names}


def _remade(named: Mapping[str, JsonObject], sound: Sound) -> list[str]:
    """Return the lists that a store lost by its repair: class names, their order, failures."""
    after = named["after-repair"]
    if not (named["repair"].get("repaired") and after.get("sound")):
        return []
    values = after["values"]
    return [name for name in ("labels", "failures") if values.get(name) != sound.values[name]]
