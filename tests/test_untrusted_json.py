"""JSON from anywhere: every fault is one short InputError, and values have the types that are asked for."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, TypedDict

import pytest

from flowkit.errors import InputError, InvalidParameterError
from flowkit.untrusted_json import MOST_BYTES, parse_json, read_json, typed
from flowkit.validate import check_at_least


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Part:
    sides: tuple[int, ...]
    scale: float = 1.0
    mode: Literal["a", "b"] = "a"

    def __post_init__(self) -> None:
        check_at_least("scale", self.scale, 0)


class Whole(TypedDict):
    part: Part
    names: dict[str, float]
    pair: tuple[float, float]
    note: str | None


WHOLE: dict[str, Any] = {
    "part": {"sides": [1, 2]},
    "names": {"x": 1},
    "pair": [0.5, 1],
    "note": None,
}


@pytest.mark.parametrize(
    "text",
    [
        "[" * 100_000 + "]" * 100_000,
        '{"a":' * 100_000 + "1" + "}" * 100_000,
        '{"a": ' + "9" * 10_000 + "}",
        "",
        "{",
        '"\\ud800',
    ],
    ids=["deep lists", "deep objects", "10,000 digits", "empty", "cut", "half a surrogate"],
)
def test_what_cannot_be_read_is_one_line_with_its_source(text: str) -> None:
    with pytest.raises(InputError, match=r"^some\.json is (no JSON|JSON nested too deep)") as caught:
        parse_json(text, source="some.json")
    assert len(str(caught.value)) < 300
    assert "\n" not in str(caught.value)


def test_files_that_are_none_are_refused_before_they_are_read(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(InputError, match=r"x\.json is not UTF-8"):
        read_json(path)
    os.truncate(path, MOST_BYTES + 1)
    with pytest.raises(
        InputError, match=f"has {MOST_BYTES + 1} bytes; expected JSON of at most {MOST_BYTES}"
    ):
        read_json(path)
    path.unlink()
    os.mkfifo(path)  # nothing writes to it: to open it would wait for ever
    for odd in (path, tmp_path):
        with pytest.raises(InputError, match="is no regular file"):
            read_json(odd)


def test_values_come_as_the_types_of_the_annotations() -> None:
    found = typed("it", WHOLE, Whole)
    assert found == {
        "part": Part(sides=(1, 2)),
        "names": {"x": 1},
        "pair": (0.5, 1),
        "note": None,
    }
    assert typed("it", {"x": {"y": [1]}}, Mapping[str, object]) == {"x": {"y": [1]}}
    assert typed("it", ["a"], list[str]) == ["a"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"part": None}, "it.part must be an object with names of Part, at least .'sides'., got None"),
        ({"part": {"sides": [1], "more": 1}}, r"and with the unknown \['more'\]"),
        ({"part": {"sides": ["1"]}}, r"it\.part\.sides\[0\] must be an integer of 64 bits, got '1'"),
        ({"part": {"sides": [1.0]}}, "must be an integer of 64 bits, got 1.0"),
        ({"part": {"sides": [True]}}, "must be an integer of 64 bits, got True"),
        ({"part": {"sides": [1 << 63]}}, "must be an integer of 64 bits"),
        ({"part": {"sides": 3}}, "sides must be a list, got 3"),
        ({"part": {"sides": [], "scale": float("nan")}}, "scale must be a finite number, got nan"),
        ({"part": {"sides": [], "scale": float("inf")}}, "scale must be a finite number, got inf"),
        ({"part": {"sides": [], "scale": 10**400}}, "scale must be a finite number, got <int of 1329 bits>"),
        ({"part": {"sides": [], "mode": ["a"]}}, "mode must be one of a, b, got .'a'."),
        ({"names": {"x": "1"}}, r"it\.names\.'x' must be a finite number"),
        ({"names": []}, r"it\.names must be an object, got \[\]"),
        ({"pair": [1, 2, 3]}, "pair must be a list of 2, got"),
        ({"note": 1}, "note must be a text or null, got 1"),
        ({"note": ["y" * 1_000_000]}, "note must be a text or null"),
        ({"names": {"z" * 1_000_000: None}}, "must be a finite number, got None"),
    ],
)
def test_other_types_are_refused_with_place_and_expectation(change: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        typed("it", WHOLE | change, Whole)
    assert len(str(caught.value)) < 1000


def test_what_lacks_a_name_and_what_a_dataclass_refuses_say_so() -> None:
    with pytest.raises(InputError, match=r"got one without \['note', 'pair'\]"):
        typed("it", {"part": WHOLE["part"], "names": {}}, Whole)
    with pytest.raises(InvalidParameterError, match="scale must be >= 0, got -1"):
        typed("it", {"sides": [], "scale": -1}, Part)
