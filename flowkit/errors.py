"""The errors of flowkit, as one tree.

::

    FlowkitError
    ├── InvalidParameterError (ValueError)       an option or argument outside its range
    ├── InputError (ValueError)                  the named inputs cannot be planned
    ├── BackendError (RuntimeError)              a backend or method of flow cannot meet the request
    │   ├── BackendUnavailableError              it, or a decoder, is not installed or cannot start here
    │   ├── GpuError                             a GPU failed at a call
    │   │   └── GpuLostError                     and this process cannot use it any more
    │   └── GpuMemoryError                       memory for a GPU's work ran out; it does smaller work
    ├── ClusterError (OSError)                   no scheduler answers, or no worker can do the work
    ├── SystemLimitError (OSError)               `system_limit`: no room for a process, thread or semaphore
    ├── JpegError (ValueError)                   bytes that are no JPEG, or damaged
    ├── VideoError                               one video failed; has a ledger reason
    │   ├── UnopenableError (OSError)            `unopenable`
    │   ├── NoVideoStreamError (ValueError)      `no_video_stream`
    │   ├── TooShortError (ValueError)           `too_short`
    │   └── DecodeError (OSError)                `decode_error`
    └── StoreError
        ├── StoreNotFoundError (FileNotFoundError)
        ├── StoreFormatError (ValueError)        foreign, newer, malformed or hostile file
        ├── StoreCorruptError (OSError)          a checksum or a count does not hold
        ├── StoreUnreadableError (OSError)       the system does not let its file be read now
        ├── StoreOptionsError (ValueError)       an existing store was made with other options
        ├── StoreBusyError (OSError)             another process is writing this store
        ├── NoSpaceError (OSError)               `no_space`: the disk or a quota is full
        ├── ClipNotFoundError (KeyError)         no such video id
        └── ClipRangeError (IndexError)          frames or fields outside the clip

Each error also subclasses the builtin that fits, so that code without flowkit's names can
catch it. Messages have the name of the value, what was got, what was expected and the remedy.
"""

from __future__ import annotations

import errno
import os
import re

NO_THREAD = "can't start new thread"
"""Start of the message of a RuntimeError where a thread cannot be started; it has no class of its own."""

_NO_SEMAPHORE = (errno.ENOSPC, errno.EROFS, errno.EACCES, errno.ENOENT, errno.ENOSYS)


class FlowkitError(Exception):
    """Base of every error that flowkit raises on purpose."""

    def __str__(self) -> str:
        # KeyError.__str__ shows the repr of its argument; a message must stay a message.
        return str(self.args[0]) if len(self.args) == 1 else super().__str__()


class InvalidParameterError(FlowkitError, ValueError):
    """An option or argument is outside its range."""


class InputError(FlowkitError, ValueError):
    """The named inputs cannot be planned: nothing found, two inputs with one id, a bad list."""


class BackendError(FlowkitError, RuntimeError):
    """A TV-L1 backend, or another method of flow, cannot meet the request."""


class BackendUnavailableError(BackendError):
    """A TV-L1 backend, another method or a decoder is not installed or cannot start on this machine."""


class GpuError(BackendError):
    """A GPU failed; the message names it, the status and the kernel."""


class GpuLostError(GpuError):
    """A GPU failed or does not come to an end, and this process cannot use it any more; another may."""


class GpuMemoryError(BackendError):
    """Memory of a GPU, or pinned memory for its copies, ran out; smaller work may fit."""


_NO_ROOM_FOR_CODE = re.compile(r".*(failed to map segment|cannot allocate memory).*", re.IGNORECASE)


class SystemLimitError(FlowkitError, OSError):
    """The system has no room for another process, thread, semaphore or open file, or for a library's code."""

    reason = "system_limit"

    @classmethod
    def of(cls, error: BaseException) -> SystemLimitError | None:
        """Return an error as one of a limit (processes, threads, open files, memory); None if it is none."""
        if isinstance(error, ImportError) and (found := _NO_ROOM_FOR_CODE.search(str(error))):
            return cls(
                f"the system allows too little memory to load a library ({found[0].strip()}): raise the "
                "limit (ulimit -v, or that of the container or the job) to 1 GB at least, then run the same "
                "command again"
            )
        what = "process or thread" if str(error).startswith(NO_THREAD) else ""
        # Of a fork, that is: a locked file has another text, or its name, which is none of the arguments.
        fork = (errno.EAGAIN, os.strerror(errno.EAGAIN))
        if isinstance(error, OSError) and error.args == fork and error.filename is None:
            what = "process or thread"
        elif isinstance(error, OSError) and error.errno in (errno.EMFILE, errno.ENFILE):
            what = "open file"
        if not what:
            return None
        flag = "-n" if what == "open file" else "-u"
        return cls(
            f"the system allows no further {what} ({error}): run with fewer --jobs, or raise the limit "
            f"(ulimit {flag}, or that of the container or the job), then run the same command again"
        )

    @classmethod
    def of_start(cls, error: BaseException) -> SystemLimitError | None:
        """Return an error of starting a worker process as one of a limit; None if it is none."""
        # POSIX semaphores are files there.
        if not isinstance(error, OSError) or error.errno not in _NO_SEMAPHORE:
            return cls.of(error)
        return cls(
            f"a worker process needs semaphores, for which /dev/shm has no room ({error.strerror}): free "
            "some of it (df /dev/shm), make it writable, or give the container more of it (--shm-size), then "
            "run the same command again"
        )


class JpegError(FlowkitError, ValueError):
    """Bytes that are no JPEG, or a damaged one."""


class VideoError(FlowkitError):
    """One video failed; `reason` is its word in the failure ledger."""

    reason = "error"


class UnopenableError(VideoError, OSError):
    """The file cannot be opened as a video."""

    reason = "unopenable"


class NoVideoStreamError(VideoError, ValueError):
    """The container opens but holds no video stream."""

    reason = "no_video_stream"


class TooShortError(VideoError, ValueError):
    """Fewer frames were decoded than one pair needs."""

    reason = "too_short"


class DecodeError(VideoError, OSError):
    """The stream exists but no frame of it decodes."""

    reason = "decode_error"


class ClusterError(FlowkitError, OSError):
    """The scheduler of a cluster does not answer, or none of its workers can do the work."""


class StoreError(FlowkitError):
    """A store cannot be read, written or found."""


class StoreNotFoundError(StoreError, FileNotFoundError):
    """No store at this path."""


class StoreFormatError(StoreError, ValueError):
    """Not a flowkit store, a newer format, or contents that no flowkit wrote."""


class StoreCorruptError(StoreError, OSError):
    """A checksum or a count in the store does not hold."""


class StoreUnreadableError(StoreError, OSError):
    """A store's file cannot be read now: permission, memory, a disk, another process. It may be sound."""


class StoreOptionsError(StoreError, ValueError):
    """An existing store was made with other options."""


class StoreBusyError(StoreError, OSError):
    """Another process is writing this store."""


class NoSpaceError(StoreError, OSError):
    """The disk or a quota is full."""

    reason = "no_space"


class ClipNotFoundError(StoreError, KeyError):
    """The store has no video of this id."""


class ClipRangeError(StoreError, IndexError):
    """The frames or flow fields are outside the clip."""
