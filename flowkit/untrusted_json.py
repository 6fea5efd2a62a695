"""JSON that anyone may have written: bounded in size and depth, read into the types that code expects.

Every fault is one InputError, which is a ValueError too: what is wrong, where, and what was expected.
"""

from __future__ import annotations

import dataclasses
import json
import math
import stat
import types
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints, is_typeddict

from flowkit.errors import InputError
from flowkit.validate import shown

MOST_BYTES = 64 << 20
"""Of a JSON file; 200,000 clips of a run take a fifth of it."""

_MOST_INTEGER = 1 << 63
_NAMES: dict[object, str] = {
    str: "a text",
    bool: "true or false",
    int: "an integer of 64 bits",
    float: "a finite number",
    type(None): "null",
}

Record = TypeVar("Record")


def parse_json(text: str, *, source: object) -> Any:
    """Return the value of a JSON text.

    Parameters
    ----------
    text
        The JSON.
    source
        Its name, for messages.

    Raises
    ------
    InputError
        It is no JSON, nested deeper than Python's recursion goes, or has an integer of thousands of digits.
    """
    try:
        return json.loads(text)
    except RecursionError:
        raise InputError(f"{source} is JSON nested too deep to be read; expected a few levels") from None
    except ValueError as error:  # of the syntax, and of integers beyond Python's limit of digits
        raise InputError(f"{source} is no JSON that can be read: {error}") from error


def read_json(path: Path) -> Any:
    """Return the value of a JSON file.

    Raises
    ------
    InputError
        As `parse_json`; or it is no regular file (a pipe may never end), larger than MOST_BYTES, or not
        UTF-8.
    OSError
        It cannot be read.
    """
    about = path.stat()
    if not stat.S_ISREG(about.st_mode):
        raise InputError(f"{path} is no regular file; expected a file of JSON")
    if about.st_size > MOST_BYTES:
        raise InputError(f"{path} has {about.st_size} bytes; expected JSON of at most {MOST_BYTES}")
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not UTF-8: {error}") from error
    return parse_json(text, source=path)


def typed(name: str, value: object, kind: Any) -> Any:
    """Return a value of JSON as the type of an annotation; lists become tuples where those are expected.

    Parameters
    ----------
    name
        Of the value, for messages.
    value
        As `parse_json` gives it.
    kind
        Any, object, str, int, float (finite; an integer passes), bool, None, a Literal, a union, `list[X]`,
        `tuple[X, ...]`, `tuple[X, Y]`, a mapping of names to X, a TypedDict or a dataclass.

    Raises
    ------
    InputError
        It is of another type, or an object lacks a name or has one more; the message has the dotted name.
    InvalidParameterError
        A dataclass refuses its values.
    """
    origin, inner = get_origin(kind), get_args(kind)
    if kind in (Any, object):
        return value
    if dataclasses.is_dataclass(kind) or is_typeddict(kind):
        return _record(name, value, kind)
    if origin in (Union, types.UnionType):
        return _of_union(name, value, inner)
    if origin is Literal:
        # An equal value of another type, as 1.0 for 1, or a list, which cannot be looked up, is none.
        fits = any(type(value) is type(one) and value == one for one in inner)
        return value if fits else _refuse(name, value, f"one of {', '.join(map(str, inner))}")
    if origin is list and isinstance(value, list):
        return [typed(f"{name}[{k}]", one, inner[0]) for k, one in enumerate(value)]
    if origin is tuple and isinstance(value, list | tuple):
        return _tuple(name, value, inner)
    if origin in (dict, Mapping) and isinstance(value, dict):
        return {key: typed(f"{name}.{shown(key)}", one, inner[1]) for key, one in value.items()}
    if kind in _NAMES and _is_plain(value, kind):
        return value
    return _refuse(name, value, _NAMES.get(kind) or ("an object" if origin in (dict, Mapping) else "a list"))


def _record(name: str, value: object, kind: Any) -> Any:
    """Return an object as a dataclass, whose defaults hold for absent names, or as a TypedDict."""
    hints = get_type_hints(kind)
    needed = set(hints)
    if dataclasses.is_dataclass(kind):
        absent = dataclasses.MISSING
        fields = dataclasses.fields(kind)
        needed = {one.name for one in fields if one.default is absent and one.default_factory is absent}
    expected = f"an object with names of {kind.__name__}, at least {sorted(needed)}"
    if not isinstance(value, dict):
        return _refuse(name, value, expected)
    missing, strays = sorted(needed - set(value)), sorted(set(value) - set(hints), key=str)
    if missing or strays:
        raise InputError(
            f"{name} must be {expected}, got one without {missing} and with the unknown {shown(strays)}"
        )
    return kind(**{key: typed(f"{name}.{key}", one, hints[key]) for key, one in value.items()})


def _of_union(name: str, value: object, kinds: tuple[Any, ...]) -> Any:
    for kind in kinds:
        try:
            return typed(name, value, kind)
        except InputError:
            continue
    return _refuse(name, value, " or ".join(_NAMES.get(kind, "a list") for kind in kinds))


def _tuple(name: str, value: list[Any] | tuple[Any, ...], kinds: tuple[Any, ...]) -> tuple[Any, ...]:
    each = kinds[:1] * len(value) if len(kinds) == 2 and kinds[1] is ... else kinds
    if len(each) != len(value):
        _refuse(name, value, f"a list of {len(each)}")
    return tuple(typed(f"{name}[{k}]", *pair) for k, pair in enumerate(zip(value, each, strict=True)))


def _is_plain(value: object, kind: object) -> bool:
    if kind is float and isinstance(value, float):
        return math.isfinite(value)
    if kind in (int, float):  # JSON does not distinguish 1 from 1.0
        return type(value) is int and -_MOST_INTEGER <= value < _MOST_INTEGER
    return type(value) is kind


def _refuse(name: str, value: object, expected: str) -> Any:
    raise InputError(f"{name} must be {expected}, got {shown(value)}")
