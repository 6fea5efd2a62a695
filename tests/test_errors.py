"""The tree of errors, and what the system's limits become."""

from __future__ import annotations

import builtins
import errno
import os
import re

import pytest

from flowkit import errors
from flowkit.errors import ClipNotFoundError, FlowkitError, SystemLimitError
from gating import errors as gating_errors


@pytest.mark.parametrize("module", [errors, gating_errors], ids=["flowkit", "gating"])
def test_each_error_is_drawn_in_the_tree_and_is_the_builtin_that_it_names(module: object) -> None:
    lines = re.findall(r"[├└]── (\w+)(?: \((\w+)\))?", str(module.__doc__))
    drawn = dict(lines)
    known = {**vars(errors), **vars(gating_errors)}
    own = {
        name
        for name, kind in vars(module).items()
        if isinstance(kind, type) and issubclass(kind, FlowkitError) and kind.__module__ == module.__name__  # type: ignore[attr-defined]
    }
    assert own - {"FlowkitError"} == set(drawn)
    for name, builtin in drawn.items():
        assert issubclass(known[name], FlowkitError)
        if builtin:
            assert issubclass(known[name], vars(builtins).get(builtin) or known[builtin])


def test_a_message_stays_a_message_where_the_builtin_would_show_its_repr() -> None:
    assert str(ClipNotFoundError("there is no video 'a'")) == "there is no video 'a'"
    assert str(FlowkitError("a", "b")) == "('a', 'b')"


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (RuntimeError("can't start new thread"), r"no further process or thread .*ulimit -u"),
        (OSError(errno.EAGAIN, os.strerror(errno.EAGAIN)), r"no further process or thread .*ulimit -u"),
        (OSError(errno.EMFILE, "Too many open files"), r"no further open file .*ulimit -n"),
        (OSError(errno.ENFILE, "Too many open files in system"), r"no further open file .*ulimit -n"),
        (
            ImportError("see below\nlibx.so.5: failed to map segment from shared object\n"),
            r"too little memory to load a library \(libx.so.5: failed to map .* object\).*ulimit -v",
        ),
    ],
)
def test_a_limit_of_the_system_has_its_remedy(error: BaseException, words: str) -> None:
    limit = SystemLimitError.of(error)
    assert limit is not None
    assert re.search(words, str(limit))
    assert limit.reason == "system_limit"


@pytest.mark.parametrize(
    "error",
    [
        # A locked file, and one that has no such number.
        BlockingIOError(errno.EAGAIN, "the file is locked"),
        OSError(errno.EAGAIN, os.strerror(errno.EAGAIN), "a file"),
        OSError(errno.EACCES, "Permission denied"),
        RuntimeError("can start new threads"),
        ImportError("No module named 'x'"),
    ],
)
def test_other_errors_are_no_limit(error: BaseException) -> None:
    assert SystemLimitError.of(error) is None


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EACCES, errno.ENOENT, errno.ENOSYS])
def test_semaphores_that_a_worker_cannot_have_are_a_limit_of_its_start_alone(number: int) -> None:
    error = OSError(number, os.strerror(number))
    limit = SystemLimitError.of_start(error)
    assert limit is not None
    assert "/dev/shm" in str(limit)
    assert SystemLimitError.of(error) is None
    assert SystemLimitError.of_start(ValueError("no")) is None
