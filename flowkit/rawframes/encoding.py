"""The frames and flow of one imported clip as its store keeps them: JPEGs byte for byte, the rest encoded."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Literal, TypeAlias

import numpy as np

from flowkit import jpeg
from flowkit.errors import InputError, JpegError, StoreCorruptError
from flowkit.flow_files.arrays import open_flow, open_frames, read_frame
from flowkit.flow_files.formats import FORMATS, format_of
from flowkit.quantize import U8_LEVELS, dequantize_u8
from flowkit.rawframes.frame_files import ArrayItem, FolderError, FrameFile
from flowkit.rawframes.inspection import FieldSource, FrameSource
from flowkit.store.codecs import clipped_warning
from flowkit.store.codecs.storage import EncodedFlow
from flowkit.store.schema import StoreOptions
from flowkit.typing import Flow, UInt8

Unknown: TypeAlias = Literal["refuse", "zero"]
"""A clip with pixels whose flow is unknown: it fails, or they become 0."""

_FLOW_QUALITY = 100
"""JPEG quality of flow images that are no JPEG: codes stay within a few of 255."""


class ClipEncoder:
    """Encodes the frames and flow of one clip, and counts what that changed.

    Parameters
    ----------
    options : StoreOptions
        Of the store.
    first : FieldSource
        The clip's first field, which has its size.
    unknown : {"refuse", "zero"}
        What becomes of unknown pixels: no codec has a code for them.

    Raises
    ------
    FolderError
        The first field cannot be read.
    OSError
        Its file cannot be read.
    """

    def __init__(self, options: StoreOptions, first: FieldSource, *, unknown: Unknown = "refuse") -> None:
        self.size = _size_of(first)
        """(height, width), px."""
        self.largest_px = 0.0
        """Largest absolute component of the flow, px."""
        self._options, self._unknown = options, unknown
        self._clipped = self._values = self._unknown_pixels = self._largest_change = 0
        self._of_numbers = len(first) == 1
        self._frames_encoded: Counter[str] = Counter()
        self._planes_encoded: Counter[str] = Counter()

    @property
    def clipped_fraction(self) -> float:
        """Fraction of the components that were clipped; of images, with the codes of clipped ones."""
        return self._clipped / max(1, self._values)

    @property
    def unknown_note(self) -> str:
        """A sentence on unknown pixels, "" where there were none."""
        if not self._unknown_pixels:
            return ""
        pixels = self._values // 2
        return (
            f"flow was unknown in {self._unknown_pixels} of {pixels} pixels "
            f"({self._unknown_pixels / pixels:.2%}) and is stored as 0 there"
        )

    def notes(self) -> Iterator[str]:
        """Yield a sentence for each way in which the store differs from the files."""
        if self._frames_encoded:
            quality = self._options.jpeg_quality
            yield f"{_counted(self._frames_encoded)} frames are stored as JPEG of quality {quality}"
        if self._planes_encoded:
            yield (
                f"{_counted(self._planes_encoded)} flow images are stored as JPEG of quality "
                f"{_FLOW_QUALITY}, which changes codes by {self._largest_change} of {U8_LEVELS} at most"
            )
        if self.unknown_note:
            yield self.unknown_note
        # Images hold what another tool clipped: their bytes are kept.
        codec, fraction = self._options.flow_codec, self.clipped_fraction
        warning = clipped_warning(codec, fraction, largest_px=self.largest_px)
        if warning and self._of_numbers:
            yield warning

    def frame(self, file: FrameSource) -> bytes:
        """Return the bytes of a frame that decodes and has the clip's size; encoded if it is no JPEG.

        Raises
        ------
        FolderError
            It does not decode, or has another size.
        OSError
            It cannot be read.
        """
        if isinstance(file, ArrayItem):
            with _named(file):
                pixels = read_frame(open_frames(file.path), file.index)
            suffix = file.path.suffix
        else:
            data = file.read_bytes()
            with _named(file):
                if jpeg.is_jpeg(data):
                    self._check_size(file, jpeg.size(data))
                    self._check_size(file, jpeg.decode(data).shape[:2])
                    return data
                pixels = jpeg.decode_other(data, grey=False)
            suffix = Path(file.name).suffix
        self._check_size(file, pixels.shape[:2])
        self._frames_encoded[suffix] += 1
        return jpeg.encode(pixels, self._options.jpeg_quality)

    def field(self, files: FieldSource) -> EncodedFlow:
        """Return a flow field as it is stored.

        Raises
        ------
        FolderError
            It does not decode, has another size, or unknown pixels that are refused.
        OSError
            It cannot be read.
        """
        if len(files) == 2:
            return self._images(*files)
        (file,) = files
        flow = _read_flow(file)
        self._check_size(file, flow.shape[1:])
        self._fill_unknown(file, flow)
        encoded = self._options.codec.encode(flow)
        self.largest_px = max(self.largest_px, encoded.max_px)
        self._clipped += encoded.clipped or 0
        self._values += flow.size
        return encoded

    def _fill_unknown(self, file: FrameSource, flow: Flow) -> None:
        unknown = np.isnan(flow[0])
        count = int(np.count_nonzero(unknown))
        if not count:
            return
        if self._unknown == "refuse":
            raise FolderError(
                "unknown_pixels",
                f"{file}: the flow of {count} of {unknown.size} pixels is unknown "
                f"({count / unknown.size:.2%}), which no codec of a store can say; --unknown zero stores 0 "
                "there, and the clip's record has the fraction",
            )
        self._unknown_pixels += count
        flow[:, unknown] = 0

    def _images(self, x: FrameFile, y: FrameFile) -> EncodedFlow:
        """Return the two images of a flow field, byte for byte if they are JPEGs."""
        chunks = []
        for file in (x, y):
            data, codes = self._plane(file)
            ends = dequantize_u8(np.array([codes.min(), codes.max()]), bound_px=self._options.bound_px)
            self.largest_px = max(self.largest_px, float(np.abs(ends).max()))
            self._clipped += int(np.count_nonzero((codes == 0) | (codes == U8_LEVELS)))
            self._values += codes.size
            chunks.append(data)
        first, second = chunks
        codec = self._options.codec
        scale = codec.quantizer.fixed_scale
        assert scale is not None, "a codec of flow images has one range"
        return codec.packed((first, second), scale=scale, largest_px=self.largest_px, clipped=None)

    def _plane(self, file: FrameFile) -> tuple[bytes, UInt8]:
        """Return the JPEG of one component of a flow field and its codes; encoded if it is none."""
        data = file.read_bytes()
        with _named(file):
            if jpeg.is_jpeg(data):
                self._check_size(file, jpeg.size(data))
                codes = jpeg.decode_grey(data)
                self._check_size(file, codes.shape)
                return data, codes
            codes = jpeg.decode_other(data, grey=True)
        self._check_size(file, codes.shape[:2])
        data = jpeg.encode_grey(codes, _FLOW_QUALITY)
        stored = jpeg.decode_grey(data)
        self._planes_encoded[Path(file.name).suffix] += 1
        change = np.abs(stored.astype(np.int16) - codes.astype(np.int16))
        self._largest_change = max(self._largest_change, int(change.max()))
        return data, stored

    def _check_size(self, file: FrameSource, found: tuple[int, ...]) -> None:
        if found != self.size:
            raise FolderError(
                "size_mismatch",
                f"{file} is {found[1]}x{found[0]}, the first flow field {self.size[1]}x{self.size[0]}; "
                "frames and flow of a clip must have one size",
            )


def _size_of(files: FieldSource) -> tuple[int, int]:
    """Return the (height, width) of a field."""
    if len(files) == 1:
        height, width = _read_flow(files[0]).shape[1:]
        return height, width
    file = files[0]
    data = file.read_bytes()
    with _named(file):
        if jpeg.is_jpeg(data):
            return jpeg.size(data)
        height, width = jpeg.decode_other(data, grey=True).shape[:2]
    return height, width


def _read_flow(file: FrameSource) -> Flow:
    """Return a field of numbers, float32 (2, H, W), px; NaN in u and v where it is unknown."""
    with _named(file):
        if isinstance(file, ArrayItem):
            return open_flow(file.path).field(file.index)
        form = format_of(file.name)
        if form is None:
            raise InputError(f"expected one of {', '.join(FORMATS)}")
        return form.parse(file.read_bytes(), str(file))


def _counted(suffixes: Counter[str]) -> str:
    return ", ".join(f"{count} {suffix}" for suffix, count in suffixes.most_common())


@contextlib.contextmanager
def _named(file: FrameSource) -> Iterator[None]:
    """Raise FolderError with the file's name where it does not decode."""
    try:
        yield
    except InputError as error:
        raise FolderError("decode_error", f"{file} is no flow or frame that is read: {error}") from error
    except (JpegError, StoreCorruptError) as error:
        kind = "JPEG" if file.name.lower().endswith((".jpg", ".jpeg")) else "image"
        raise FolderError("decode_error", f"{file} is no sound {kind}: {error}") from error
