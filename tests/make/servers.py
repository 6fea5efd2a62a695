"""Servers on the loopback for tests of addresses: files over HTTP with ranges, and an S3 of moto's."""

from __future__ import annotations

import http.server
import importlib
import os
import re
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest


class FileServer(http.server.ThreadingHTTPServer):
    """Serves bytes by their paths, whole or by range; counts the bytes sent, and lists the requests."""

    daemon_threads = True

    def __init__(self, files: Mapping[str, bytes]) -> None:
        super().__init__(("127.0.0.1", 0), _Ranges)
        self.files = dict(files)
        self.modified: str | None = "Wed, 21 Oct 2015 07:28:00 GMT"
        self.tag: str | None = None
        self.ranges = True
        self.status: int | None = None
        self.sent = 0
        self.asked: list[str] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class _Ranges(http.server.BaseHTTPRequestHandler):
    """RFC 9110, 14.2: `Range: bytes=first-last`, both counted in."""

    protocol_version = "HTTP/1.1"
    server: FileServer

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self._answer(body=True)

    def _answer(self, *, body: bool) -> None:
        path = unquote(urlsplit(self.path).path).lstrip("/")
        self.server.asked.append(path)
        data = self.server.files.get(path)
        if self.server.status is not None or data is None:
            self._head(self.server.status or 404, 0)
            return
        asked = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
        if asked is None or not self.server.ranges:
            self._head(200, len(data))
        else:
            first, last = int(asked[1]), min(int(asked[2]), len(data) - 1)
            whole, data = len(data), data[first : last + 1]
            self._head(206, len(data), f"bytes {first}-{last}/{whole}")
        if body:
            self.server.sent += len(data)
            self.wfile.write(data)

    def _head(self, status: int, nbytes: int, content_range: str | None = None) -> None:
        self.send_response(status)
        self.send_header("Accept-Ranges", "bytes" if self.server.ranges else "none")
        self.send_header("Content-Length", str(nbytes))
        for name, value in (("Last-Modified", self.server.modified), ("ETag", self.server.tag)):
            if value is not None:
                self.send_header(name, value)
        if content_range is not None:
            self.send_header("Content-Range", content_range)
        self.end_headers()

    def log_message(self, format: str, *values: Any) -> None:
        pass


@contextmanager
def serving(files: Mapping[str, bytes]) -> Iterator[FileServer]:
    """Serve files over HTTP while a `with` block runs; the test is skipped without aiohttp."""
    pytest.importorskip("fsspec")
    pytest.importorskip("aiohttp")
    server = FileServer(files)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@contextmanager
def s3_bucket(monkeypatch: pytest.MonkeyPatch, name: str) -> Iterator[Any]:
    """Serve a bucket while a `with` block runs; yield the file system of s3fs that reads and writes it.

    The test is skipped, with a word, where s3fs or moto's server are not installed.
    """
    for package in ("s3fs", "flask", "flask_cors"):
        pytest.importorskip(package)
    server = pytest.importorskip("moto.server").ThreadedMotoServer(
        ip_address="127.0.0.1", port=0, verbose=False
    )
    server.start()
    try:
        host, port = server.get_host_and_port()
        # As a user gives them: botocore reads them.
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
        for variable in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            monkeypatch.setenv(variable, "testing")
        monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        s3fs = importlib.import_module("s3fs")
        s3fs.S3FileSystem.clear_instance_cache()
        system = s3fs.S3FileSystem()
        system.mkdir(name)
        yield system
        system.rm(name, recursive=True)  # moto's buckets outlive its servers
        s3fs.S3FileSystem.clear_instance_cache()
    finally:
        server.stop()


def bytes_below(folder: os.PathLike[str]) -> dict[str, bytes]:
    """Return the contents of all files below a folder, by their paths there."""
    found = {}
    for below, _, names in os.walk(folder):
        for name in names:
            path = os.path.join(below, name)
            with open(path, "rb") as file:
                found[os.path.relpath(path, folder)] = file.read()
    return found
