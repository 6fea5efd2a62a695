"""The errors of flowkit, as one tree.

::

    FlowkitError
    ├── InvalidParameterError (ValueError)       an option or argument outside its range
    ├── InputError (ValueError)                  the named inputs cannot be planned
    ├── BackendError (RuntimeError)              a TV-L1 backend cannot meet the request
    │   ├── BackendUnavailableError              it, or a decoder, is not installed or cannot start here
    │   ├── GpuError                             a GPU failed, or does not come to an end
    │   └── GpuMemoryError                       memory for a GPU's work ran out; it does smaller work
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
        ├── StoreOptionsError (ValueError)       an existing store was made with other options
        ├── StoreBusyError (OSError)             another process is writing this store
        ├── NoSpaceError (OSError)               `no_space`: the disk or a quota is full
        ├── ClipNotFoundError (KeyError)         no such video id
        └── ClipRangeError (IndexError)          frames or fields outside the clip

Each error also subclasses the builtin that fits, so that code without flowkit's names can
catch it. Messages have the name of the value, what was got, what was expected and the remedy.
"""

from __future__ import annotations


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
    """A TV-L1 backend cannot meet the request."""


class BackendUnavailableError(BackendError):
    """A TV-L1 backend or a decoder is not installed or cannot start on this machine."""


class GpuError(BackendError):
    """A GPU failed or does not come to an end; the message names it, the status and the kernel."""


class GpuMemoryError(BackendError):
    """Memory of a GPU, or pinned memory for its copies, ran out; smaller work may fit."""


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


class StoreError(FlowkitError):
    """A store cannot be read, written or found."""


class StoreNotFoundError(StoreError, FileNotFoundError):
    """No store at this path."""


class StoreFormatError(StoreError, ValueError):
    """Not a flowkit store, a newer format, or contents that no flowkit wrote."""


class StoreCorruptError(StoreError, OSError):
    """A checksum or a count in the store does not hold."""


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
