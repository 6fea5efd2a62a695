"""Standard streams that cannot fail: the work goes on, and what was lost is said at the end."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import re
import select
import sys
from typing import TYPE_CHECKING, TextIO

import click

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer


# Controls of a terminal (C0 but tab and newline, DEL, C1) and of the direction of text.
_CONTROLS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")


def printable(text: str) -> str:
    """Return text for a terminal, with control characters, which a name may hold, written out."""
    return _CONTROLS.sub(lambda hit: repr(hit[0])[1:-1], text)


def echo(text: str, *, err: bool = False) -> None:
    """Print a line, as `printable` gives it, on standard output or standard error."""
    click.echo(printable(text), err=err)


class _Output(io.RawIOBase):
    """A descriptor to write to; after the first failure, which it remembers, it takes everything."""

    def __init__(self, descriptor: int) -> None:
        super().__init__()
        self._descriptor = descriptor
        self.error: OSError | None = None

    def writable(self) -> bool:
        """Return True."""
        return True

    def fileno(self) -> int:
        """Return the descriptor."""
        return self._descriptor

    def isatty(self) -> bool:
        """Return whether it is a terminal."""
        return os.isatty(self._descriptor)

    def write(self, data: ReadableBuffer) -> int:
        """Write all of `data`, or remember the failure."""
        view = memoryview(data)
        done = 0
        while self.error is None and done < len(view):
            try:
                done += os.write(self._descriptor, view[done:])
            except BlockingIOError:  # another program has made the pipe or terminal non-blocking
                select.select([], [self._descriptor], [])
            except OSError as error:
                self.error = error
        return len(view)


class Streams:
    """The standard streams of this process, from here on without failures.

    A descriptor that is closed becomes the null device: the next file to be opened would get its number,
    and whatever a library prints would end up in it.
    """

    def __init__(self) -> None:
        for descriptor in range(3):
            _open_if_closed(descriptor)
        if sys.stdin is None:
            sys.stdin = open(0, closefd=False)
        self._outputs: dict[int, _Output] = {}
        # Only the real streams: a test may have put its own in their place.
        if sys.stdout is None or sys.stdout is sys.__stdout__:
            sys.stdout = self._stream(1, sys.stdout)
        if sys.stderr is None or sys.stderr is sys.__stderr__:
            sys.stderr = self._stream(2, sys.stderr)

    def _stream(self, descriptor: int, old: TextIO | None) -> TextIO:
        output = self._outputs[descriptor] = _Output(descriptor)
        # A name that the encoding lacks must not end the work either.
        errors = "backslashreplace" if old is None or old.errors in (None, "strict") else old.errors
        if old is not None:
            with contextlib.suppress(OSError):
                old.flush()
        return io.TextIOWrapper(
            io.BufferedWriter(output),
            encoding=None if old is None else old.encoding,
            errors=errors,
            line_buffering=descriptor == 2 or output.isatty(),
        )

    def finish(self, status: int) -> int:
        """Flush both, say what was lost of standard output, and return the exit status.

        A reader that has left (`| head`) wants no more, and is no fault; anything else makes status 0 a 1.
        """
        sys.stdout.flush()
        output = self._outputs.get(1)
        if output is not None and output.error is not None:
            has_left = output.error.errno == errno.EPIPE
            cause = "its reader has left" if has_left else output.error.strerror
            print(f"flowkit: standard output: {cause}; not all of it was written", file=sys.stderr)
            status = status or (0 if has_left else 1)
        sys.stderr.flush()
        return status


def _open_if_closed(descriptor: int) -> None:
    try:
        os.fstat(descriptor)
    except OSError:
        # The lowest free number, which is this one: those below are open.
        opened = os.open(os.devnull, os.O_RDWR)
        os.set_inheritable(opened, True)
