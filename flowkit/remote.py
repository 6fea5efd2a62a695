"""Files at addresses: what fsspec reads, as `s3://bucket/out.h5` or `https://host/out.h5`.

fsspec, and the package of each protocol, are optional: they are imported when an address is opened. Options
of a protocol (an endpoint, credentials) come from where fsspec and its packages look for them: the
environment and their own configuration files.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import fnmatch
import io
import os
import re
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Literal, TypeAlias

from flowkit.errors import FlowkitError, InputError

BLOCK_BYTES = 1 << 16
"""Bytes of a request where a file is read here and there: chunks of frames and flow are of that size."""
SEQUENTIAL_BYTES = 4 << 20
"""Bytes fetched ahead where a file is read from front to back."""

_LOCAL = ("file://", "local://")
# Packages that fsspec needs for a protocol; others have names that its own error gives.
_PACKAGES = {
    "s3": "s3fs",
    "s3a": "s3fs",
    "gs": "gcsfs",
    "gcs": "gcsfs",
    "http": "aiohttp",
    "https": "aiohttp",
}
_SECRET_FIELD = re.compile(r"(?i)([?&][^=&]*(?:sig|token|credential|key|secret|password)[^=&]*=)[^&]*")
_PASSWORD = re.compile(r"(://[^/@:]*):[^/]*@")
_ABSENT = (404, 410)
_REQUESTS = 16

AccessPattern: TypeAlias = Literal["random", "sequential"]


@dataclasses.dataclass(frozen=True, slots=True, order=True, repr=False)
class RemotePath:
    """An address of fsspec, with the part of `pathlib.Path` that reading a store needs.

    Parameters
    ----------
    url
        The address. Text of it in messages and records (`str`) has `***` for passwords and signatures.
    """

    url: str

    def __repr__(self) -> str:
        return f"RemotePath({str(self)!r})"

    def __str__(self) -> str:
        return _PASSWORD.sub(r"\1:***@", _SECRET_FIELD.sub(r"\1***", self.url))

    @property
    def name(self) -> str:
        """The last part of the path, without a query."""
        return self._divided()[1].rstrip("/").rpartition("/")[2]

    @property
    def stem(self) -> str:
        """The name without its last suffix."""
        return Path(self.name).stem

    @property
    def suffix(self) -> str:
        """The name's last suffix, with the dot."""
        return Path(self.name).suffix

    def absolute(self) -> RemotePath:
        """Return the address itself."""
        return self

    def with_name(self, name: str) -> RemotePath:
        """Return the address of another file in the same folder."""
        before, path, after = self._divided()
        folder, slash, _ = path.rstrip("/").rpartition("/")
        return RemotePath(f"{before}{folder}{slash}{name}{after}")

    def __truediv__(self, name: str) -> RemotePath:
        before, path, after = self._divided()
        return RemotePath(f"{before}{path.rstrip('/')}/{name}{after}")

    def _divided(self) -> tuple[str, str, str]:
        """Divide the address around the path: of a chain (`zip://a::s3://b`) that of its first link."""
        links = self.url.split("::")
        at = next(k for k, link in enumerate(links) if "://" in link)
        scheme, path = links[at].split("://", 1)
        query = ""
        if scheme in ("http", "https"):
            path, mark, query = path.partition("?")
            query = mark + query
        before = "".join(f"{link}::" for link in links[:at])
        return f"{before}{scheme}://", path, "".join([query, *(f"::{link}" for link in links[at + 1 :])])

    def open(self, mode: Literal["rb"] = "rb", *, access: AccessPattern = "sequential") -> io.RawIOBase:
        """Open the file for reading; it can seek.

        Parameters
        ----------
        access
            `random`: in blocks of 64 KiB that are kept; `sequential`: 4 MiB ahead.

        Raises
        ------
        InputError
            A package is missing; the message names it.
        FileNotFoundError
            There is no such file.
        OSError
            It cannot be read, or its server serves no ranges.
        """
        chosen = {"cache_type": "blockcache", "block_size": BLOCK_BYTES}
        if access == "sequential":
            chosen = {"cache_type": "readahead", "block_size": SEQUENTIAL_BYTES}
        with translated(self):
            system, path = _resolved(self.url)
            file = system.open(path, mode, **chosen)
        return _RemoteFile(self, file)

    def info(self) -> dict[str, Any]:
        """Return what fsspec says of the file or folder: `type`, `size` and more.

        Raises
        ------
        InputError, FileNotFoundError, OSError
            As `open`.
        """
        with translated(self):
            system, path = _resolved(self.url)
            found: dict[str, Any] = system.info(path)
            return found

    def is_file(self) -> bool:
        """Return whether there is such a file.

        Raises
        ------
        InputError, OSError
            Nobody can say.
        """
        try:
            return bool(self.info()["type"] == "file")
        except FileNotFoundError:
            return False

    def read_bytes(self) -> bytes:
        """Return the contents."""
        with self.open() as file:
            return file.read()

    def glob(self, pattern: str) -> Iterator[RemotePath]:
        """Yield the files in this folder whose names fit; none where a server lists no folders."""
        try:
            with translated(self):
                system, path = _resolved(self.url)
                found = [str(name).rstrip("/").rpartition("/")[2] for name in system.ls(path, detail=False)]
        except FileNotFoundError:
            return
        yield from (self / name for name in sorted(fnmatch.filter(found, pattern)))

    def find(self) -> list[tuple[str, dict[str, Any]]]:
        """Return each file below a folder: its path below it, and what fsspec says of it; sorted.

        Raises
        ------
        InputError, FileNotFoundError, OSError
            As `open`.
        """
        with translated(self):
            system, path = _resolved(self.url)
            found: dict[str, dict[str, Any]] = system.find(path, detail=True)
        root = path.rstrip("/") + "/"
        return sorted((name.removeprefix(root), about) for name, about in found.items())


Location: TypeAlias = Path | RemotePath
"""A file of this machine's, or one at an address."""


def is_address(name: object) -> bool:
    """Return whether a name is an address of fsspec: text with `://` in it."""
    return isinstance(name, str) and "://" in name


def locate(name: str | os.PathLike[str] | RemotePath) -> Location:
    """Return a name as an address if it is one, else as a path; `file://` is a path of this machine."""
    if isinstance(name, RemotePath):
        return name
    if isinstance(name, str) and is_address(name):
        local = next((scheme for scheme in _LOCAL if name.startswith(scheme)), None)
        return RemotePath(name) if local is None else Path(name.removeprefix(local))
    return Path(name)


def absent_files(files: Sequence[Location]) -> list[bool]:
    """Return for each file whether it is absent; of addresses several are asked for at once."""
    if all(isinstance(file, Path) for file in files):
        return [not file.is_file() for file in files]
    with ThreadPoolExecutor(_REQUESTS) as pool:
        return [not there for there in pool.map(lambda file: file.is_file(), files)]


@contextlib.contextmanager
def translated(where: RemotePath) -> Iterator[None]:
    """Raise errors of fsspec and its packages as OSError, or InputError for a package that is missing."""
    try:
        yield
    except FlowkitError:
        raise
    except ImportError as error:
        raise InputError(_missing(where, error)) from error
    except FileNotFoundError as error:
        cause = error.__cause__
        if cause is not None and getattr(cause, "status", None) not in _ABSENT:
            raise _unreachable(cause) from error  # fsspec's for any answer of a web server
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(where)) from error
    except PermissionError as error:
        raise PermissionError(errno.EACCES, f"{where}: {_hidden(str(error))}") from error
    except Exception as error:  # those of a protocol's package have no common class
        if isinstance(error, ValueError) and "Protocol not known" in str(error):
            raise InputError(f"{where}: {error}") from error
        raise _unreachable(error) from error


def _unreachable(error: BaseException) -> OSError:
    said = str(error).splitlines()
    status = getattr(error, "status", None)
    answer = f" (status {status})" if isinstance(status, int) else ""
    return OSError(errno.ECOMM, f"{type(error).__name__}{answer}: {_hidden(said[0]) if said else ''}")


def _hidden(text: str) -> str:
    """Return a message without the secrets of an address in it."""
    return _PASSWORD.sub(r"\1:***@", _SECRET_FIELD.sub(r"\1***", text))


def _missing(where: RemotePath, error: ImportError) -> str:
    scheme = where.url.split("::")[-1].partition("://")[0]
    packages = ["fsspec", *filter(None, [_PACKAGES.get(scheme)])]
    return f"reading {where} needs a package that is not here ({error}): pip install {' '.join(packages)}"


def _resolved(url: str) -> tuple[Any, str]:
    """Return the file system of fsspec for an address, and the path in it."""
    from fsspec.core import url_to_fs

    system, path = url_to_fs(url)
    return system, path


class _RemoteFile(io.RawIOBase):
    """A file object of fsspec whose errors are those of `translated`: HDF5 and tarfile pass them on.

    Raises
    ------
    OSError
        The file cannot seek: its server serves no ranges.
    """

    def __init__(self, where: RemotePath, file: Any) -> None:
        self._where, self._file = where, file
        try:
            self.nbytes: int = file.seek(0, os.SEEK_END)
            file.seek(0)
        except (ValueError, NotImplementedError, OSError) as error:
            file.close()
            raise OSError(
                errno.ESPIPE, f"{where}: its server serves no parts of files; download it and give its path"
            ) from error

    def __repr__(self) -> str:
        # h5py takes it for the file's name, which messages have.
        return self.name

    @property
    def name(self) -> str:
        """The address, for messages."""
        return str(self._where)

    def readable(self) -> bool:
        """Return True."""
        return True

    def seekable(self) -> bool:
        """Return True."""
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Move, and return the position."""
        position: int = self._file.seek(offset, whence)
        return position

    def tell(self) -> int:
        """Return the position."""
        position: int = self._file.tell()
        return position

    def readinto(self, buffer: Any) -> int:
        """Fill a buffer; return the number of bytes, 0 at the end."""
        view = memoryview(buffer).cast("B")
        with translated(self._where):
            data = self._file.read(len(view))
        view[: len(data)] = data
        return len(data)

    def read(self, size: int = -1) -> bytes:
        """Return bytes; fewer than asked for only at the end."""
        with translated(self._where):
            data: bytes = self._file.read(size)
        return data

    def close(self) -> None:
        """Close the file."""
        if not self.closed:
            self._file.close()
        super().close()
