"""JPEG to and from arrays: OpenCV encodes, simplejpeg decodes (OpenCV where it is absent).

Both are libjpeg-turbo and decode to the same pixels. simplejpeg's encoder takes the fast DCT
below quality 96, whatever its options (5 % more error on real frames, 40 % on flow planes, for 11 %
of the time). OpenCV's bytes are those that cv2.imwrite, and so denseflow and TSN, would write.
"""

from __future__ import annotations

import stat
import struct
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from flowkit.errors import JpegError
from flowkit.typing import UInt8
from flowkit.validate import check_array, check_range

try:
    import simplejpeg
except ImportError:
    simplejpeg = None

DEFAULT_QUALITY = 95

MOST_PIXELS = 1 << 27
"""Of an image or flow field that is decoded, and of one that is drawn: 400 MB in three channels."""

MOST_FILE_BYTES = 1 << 28

# Where PNG and BMP have width and height; a BMP's height may be negative.
_SIDES = {b"\x89PNG\r\n\x1a\n": struct.Struct(">16xII"), b"BM": struct.Struct("<18xii")}


def library() -> str:
    """Return the library that decodes JPEG, with its version."""
    if simplejpeg is None:
        return f"opencv {cv2.__version__}"
    return f"simplejpeg {simplejpeg.__version__}"


def read_file(path: Path) -> bytes:
    """Return the bytes of an image file.

    Raises
    ------
    JpegError
        It is no regular file (a pipe or a device may never end), or larger than MOST_FILE_BYTES.
    OSError
        It cannot be read.
    """
    about = path.stat()
    if not stat.S_ISREG(about.st_mode):
        raise JpegError(f"{path} is no regular file, so no image")
    if about.st_size > MOST_FILE_BYTES:
        raise JpegError(f"{path} has {about.st_size} bytes, an image at most {MOST_FILE_BYTES}")
    return path.read_bytes()


def encode(rgb: UInt8, quality: int = DEFAULT_QUALITY) -> bytes:
    """Encode a colour image as a 4:2:0 JPEG, with the standard's Huffman codes.

    Codes made for each image would give the same pixels in 6 % fewer bytes (2 to 10 on six real clips) and
    .05 ms less of decoding, for .9 ms more of encoding (455x256, quality 95: 1.5, not .6): a frame would have
    to be read twenty times.

    Parameters
    ----------
    rgb
        uint8 (H, W, 3), values 0 to 255, red first.
    quality
        1 (worst) to 100 (best), as libjpeg counts it.

    Raises
    ------
    InvalidParameterError
        Another shape or dtype, or a quality out of range.
    """
    check_array("an image", rgb, ("H", "W", 3), dtype=np.uint8, allow_empty=False)
    check_range("quality", quality, 1, 100)
    sampling = [cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_420]
    return _opencv_encode(np.asarray(cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR), np.uint8), quality, sampling)


def size(data: bytes | memoryview) -> tuple[int, int]:
    """Return the (height, width) that a JPEG decodes to, by its header as the decoder reads it.

    Raises
    ------
    JpegError
        There is no such header, or it claims more than MOST_PIXELS.

    Notes
    -----
    Without simplejpeg, after ITU-T T.81, B.1.1 and B.2.2: segments with a length of their own, before whose
    markers fill bytes may stand, up to the frame header: SOF0 to SOF15 without DHT, JPG and DAC.
    """
    if simplejpeg is None:
        height, width = _size_by_markers(data)
    else:
        try:
            height, width = simplejpeg.decode_jpeg_header(data)[:2]
        except ValueError as error:
            raise _damaged(data, str(error)) from error
    if height * width > MOST_PIXELS:
        raise _too_large(height, width)
    return height, width


def _size_by_markers(data: bytes | memoryview) -> tuple[int, int]:
    at = 2
    while is_jpeg(data) and at + 9 <= len(data) and data[at] == 0xFF:
        marker = data[at + 1]
        if marker == 0xFF:
            at += 1
        elif 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            return int.from_bytes(data[at + 5 : at + 7]), int.from_bytes(data[at + 7 : at + 9])
        else:
            at += 2 + int.from_bytes(data[at + 2 : at + 4])
    raise _damaged(data, "it has no frame header")


def decode(data: bytes | memoryview) -> UInt8:
    """Decode a JPEG to uint8 (H, W, 3), red first; a grey one gives three equal channels.

    Raises
    ------
    JpegError
        When the bytes are no JPEG, or are damaged or cut short.
    """
    if simplejpeg is not None:
        return _turbo_decode(data, "RGB")
    return np.asarray(cv2.cvtColor(_opencv_decode(data, cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB), np.uint8)


def encode_grey(plane: UInt8, quality: int = DEFAULT_QUALITY) -> bytes:
    """Encode one plane, uint8 (H, W), as a grey JPEG: quantised flow, mostly.

    Raises
    ------
    InvalidParameterError
        Another shape or dtype, or a quality out of range.
    """
    check_array("a plane", plane, ("H", "W"), dtype=np.uint8, allow_empty=False)
    check_range("quality", quality, 1, 100)
    return _opencv_encode(plane, quality, [])


def encode_png(image: NDArray[np.uint8 | np.uint16]) -> bytes:
    """Encode an image, uint8 or uint16 (H, W) or (H, W, 3) in OpenCV's order, blue first, as PNG.

    Raises
    ------
    JpegError
        OpenCV cannot encode it.
    """
    done, encoded = cv2.imencode(".png", image)
    if not done:
        raise JpegError(f"OpenCV could not encode an image of shape {image.shape} as PNG")
    return encoded.tobytes()


def decode_grey(data: bytes | memoryview) -> UInt8:
    """Decode a JPEG to one plane, uint8 (H, W); of a colour one, its luma.

    Raises
    ------
    JpegError
        When the bytes are no JPEG, or are damaged or cut short.
    """
    if simplejpeg is not None:
        return _turbo_decode(data, "GRAY")[..., 0]
    return _opencv_decode(data, cv2.IMREAD_GRAYSCALE)


def is_jpeg(data: bytes | memoryview) -> bool:
    """Return whether bytes start as a JPEG does."""
    return bytes(data[:2]) == b"\xff\xd8"


def decode_other(data: bytes, *, grey: bool) -> UInt8:
    """Decode an image that is no JPEG (PNG, BMP, TIFF, WebP): uint8 (H, W, 3), red first, or (H, W) if grey.

    Raises
    ------
    JpegError
        The bytes are no image that OpenCV reads; or `grey`, and it has colours or more than 8 bits.
    """
    image = decode_by_opencv(data, cv2.IMREAD_UNCHANGED if grey else cv2.IMREAD_COLOR)
    if not grey:
        return np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), np.uint8)
    plane = image if image.ndim == 2 else image[..., 0]
    if image.dtype != np.uint8 or (image.ndim == 3 and not np.all(image[..., :3] == plane[..., None])):
        channels = 1 if image.ndim == 2 else image.shape[2]
        raise JpegError(f"{channels} channels of {image.dtype}, expected one grey channel of 8 bits")
    return np.ascontiguousarray(plane)


def decode_by_opencv(data: bytes, flags: int) -> NDArray[np.integer | np.floating]:
    """Decode an image of any kind as `cv2.imdecode` does, by its flags.

    Raises
    ------
    JpegError
        The bytes are no image that OpenCV reads, or claim more than MOST_PIXELS (PNG and BMP; others as many
        as OpenCV allows).
    """
    for signature, sides in _SIDES.items():
        if data.startswith(signature) and len(data) >= sides.size:
            *_, width, height = sides.unpack_from(data)
            if abs(width * height) > MOST_PIXELS:
                raise JpegError(
                    f"an image claims {width}x{height} px; more than {MOST_PIXELS} are not decoded"
                )
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), flags) if data else None
    except cv2.error as error:
        raise JpegError(f"{len(data)} bytes do not decode: {error.err or error}") from error
    if image is None:
        raise JpegError(f"{len(data)} bytes are no sound image that OpenCV reads")
    return image


def _turbo_decode(data: bytes | memoryview, colorspace: str) -> UInt8:
    try:
        # The fast transforms are a few grey levels off, and not faster on current processors.
        decoded: UInt8 = simplejpeg.decode_jpeg(data, colorspace, fastdct=False, fastupsample=False)
    except ValueError as error:
        raise _damaged(data, str(error)) from error
    return decoded


def _opencv_encode(image: UInt8, quality: int, settings: list[int]) -> bytes:
    done, encoded = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality, *settings])
    if not done:
        raise JpegError(f"OpenCV could not encode an image of shape {image.shape} as JPEG")
    return encoded.tobytes()


def _opencv_decode(data: bytes | memoryview, flag: int) -> UInt8:
    # OpenCV fills the missing end of a cut image in silence, so the end marker is required.
    if not is_jpeg(data) or bytes(data[-2:]) != b"\xff\xd9":
        raise _damaged(data, "start or end marker missing")
    image = cv2.imdecode(np.frombuffer(data, np.uint8), flag | cv2.IMREAD_IGNORE_ORIENTATION)
    if image is None:
        raise _damaged(data, "OpenCV cannot decode it")
    return np.asarray(image, np.uint8)


def _too_large(height: int, width: int) -> JpegError:
    return JpegError(f"an image claims {width}x{height} px; more than {MOST_PIXELS} are not decoded")


def _damaged(data: bytes | memoryview, cause: str) -> JpegError:
    return JpegError(f"{len(data)} bytes are not a sound JPEG: {cause}")
