"""Methods of optical flow: TV-L1, OpenCV's others, and functions of one's own.

A method is a class in a file of this folder and its line in `METHODS`; the extraction, the store's fields and
the command line ask the method. A text names one: `dis`, `dis/medium` (a method and one of its presets), or
`package.module:function`.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, NamedTuple

from flowkit.errors import InvalidParameterError
from flowkit.validate import check_choice

if TYPE_CHECKING:
    from flowkit.methods.method import FlowMethod, NamedMethod


class MethodEntry(NamedTuple):
    """A method's line in the registry."""

    home: str
    """`module:class` of its `NamedMethod`."""
    presets: tuple[str, ...]
    """The presets by name, the default first."""
    help: str
    """Short description, for the command line."""


METHODS: dict[str, MethodEntry] = {
    "tvl1": MethodEntry(
        "flowkit.methods.tvl1:TVL1Method",
        ("fast", "accurate", "opencv-cuda", "tsn", "opencv-cpu", "ipol"),
        "TV-L1, by the engine of --backend",
    ),
    "dis": MethodEntry(
        "flowkit.methods.opencv_dis:DISMethod", ("medium", "fast", "ultrafast"), "OpenCV's DISOpticalFlow"
    ),
    "farneback": MethodEntry(
        "flowkit.methods.opencv_farneback:FarnebackMethod",
        ("samples", "defaults"),
        "OpenCV's calcOpticalFlowFarneback",
    ),
}
"""Every method that has a name, by it; functions of one's own have theirs from where they are."""


def flow_method(text: str, *, batch_size: int | None = None) -> FlowMethod:
    """Return the method that a text names, with its parameters.

    Parameters
    ----------
    text : str
        A name of `METHODS`, `NAME/PRESET`, or `package.module:function`; the module is imported then, from
        the installed packages or else the working folder.
    batch_size : int, optional
        Pairs of one call of a function, >= 1; default: its own attribute, else 8.

    Raises
    ------
    InvalidParameterError
        There is no such method or preset, or a function's attribute is outside its range.
    BackendUnavailableError
        The function cannot be imported.
    """
    check_method(text)
    if is_function(text):
        from flowkit.methods.function import read_function

        return read_function(text, batch_size=batch_size)
    name, _, preset = text.partition("/")
    entry = METHODS[name]
    module, _, word = entry.home.partition(":")
    method: type[NamedMethod] = getattr(importlib.import_module(module), word)
    return method.of_preset(preset or entry.presets[0])


def is_function(text: str) -> bool:
    """Return whether a text names a function of one's own."""
    return ":" in text


def check_method(text: str) -> None:
    """Check that a text can name a method; nothing is imported.

    Raises
    ------
    InvalidParameterError
        There is no such method or preset, or it is no `package.module:function`.
    """
    if is_function(text):
        module, _, function = text.partition(":")
        if not all(word.isidentifier() for word in (*module.split("."), *function.split("."))):
            raise InvalidParameterError(
                f"method {text!r} is no function: expected package.module:function, such as mine.flow:raft"
            )
        return
    name, slash, preset = text.partition("/")
    if name not in METHODS:
        raise InvalidParameterError(
            f"Invalid method ({text!r}). Supported are {', '.join(METHODS)}, each alone or with a preset "
            "(dis/fast), and functions (package.module:function)"
        )
    if slash:
        check_choice(f"preset of method {name!r}", preset, METHODS[name].presets)
