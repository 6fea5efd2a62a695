"""Errors of reading by which the system refuses a file: they say nothing of its contents."""

from __future__ import annotations

import errno
import re

# What the system says of a file that it does not let read now, and what to do. Other numbers, EINVAL for a
# position that no file has among them, are those of damaged contents.
_OF_A_DISK = "look at its disk or mount (dmesg), then run the same command again"
_IN_USE = (
    "another process has it open for writing: let that end, or close the file there; `h5clear -s` takes away "
    "the mark of a writer that was killed"
)
_REMEDIES = {
    **dict.fromkeys((errno.EACCES, errno.EPERM), "give the permission to read it"),
    **dict.fromkeys((errno.EMFILE, errno.ENFILE), "close other files, or raise the limit (ulimit -n)"),
    **dict.fromkeys((errno.EAGAIN, errno.EBUSY, errno.ETXTBSY), _IN_USE),
    **dict.fromkeys((errno.ENOENT, errno.ENOTDIR), "put it back, or mount its folder"),
    **dict.fromkeys((errno.EIO, errno.ENXIO, errno.ENODEV, errno.ESTALE, errno.EREMOTEIO), _OF_A_DISK),
    **dict.fromkeys((errno.ETIMEDOUT, errno.ENOTCONN, errno.EHOSTDOWN, errno.EHOSTUNREACH), _OF_A_DISK),
    **dict.fromkeys((errno.ECONNRESET, errno.ECONNABORTED, errno.ENETDOWN, errno.ESHUTDOWN), _OF_A_DISK),
    errno.ECOMM: "look at the address, the network and your rights there, then run the same command again",
    errno.ENOMEM: "free some memory",
    errno.ELOOP: "its links lead back to themselves: mend them",
}
# Of HDF5, which has no number for it.
_OPEN_ELSEWHERE = re.compile(r"already open for (write|read)|SWMR")
_NUMBER = re.compile(r"\berrno = (\d+)")


def remedy(error: BaseException) -> str:
    """Return what helps where the system refused to read a file; "" for an error of its contents."""
    if isinstance(error, MemoryError):
        return _REMEDIES[errno.ENOMEM]
    code = number(error)
    if isinstance(error, OSError) and not code and _OPEN_ELSEWHERE.search(str(error)):
        return _IN_USE
    return _REMEDIES.get(code, "")


def number(error: BaseException) -> int:
    """Return an error's errno, which HDF5 has in its text alone; 0 without one."""
    code = getattr(error, "errno", None)
    if isinstance(code, int):
        return code
    found = _NUMBER.search(str(error))
    return int(found[1]) if found else 0
