"""Codecs `q8`, `i8` and `i16`: integers with a scale, deflated."""

from __future__ import annotations

import functools
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from flowkit.quantize import FieldScale, FixedStep, QuantileScale, Quantizer, quantize_u8
from flowkit.store.codecs.codec import ChunkCodec
from flowkit.store.codecs.storage import ChunkStorage
from flowkit.typing import Codes

# The least integer of a type is never a code.
QUANTILE_SCALE = QuantileScale(
    dtype=np.dtype("i1"), unit_px=1 / 8, limit=127, quantile_code=125, per_mille=999
)
FIELD_SCALE = FieldScale(dtype=np.dtype("i1"), unit_px=1 / 8, limit=127)
FIXED_STEP = FixedStep(dtype=np.dtype("<i2"), step_px=1 / 64, limit=32767)


class ScaledCodec(ChunkCodec):
    """Integer codes, few enough for look-up tables."""

    rule: ClassVar[Quantizer]

    @property
    def quantizer(self) -> Quantizer:
        """The rule of the codes."""
        return self.rule

    def to_planes(self, codes: Codes, scale: float, *, bound_px: float) -> tuple[NDArray[np.uint8], int]:
        """Requantise one field to uint8 over [-bound, bound], each code once, not once a pixel."""
        table, limit = _plane_table(codes.dtype.str, float(scale), float(bound_px))
        clipped = 0
        if limit is not None:
            clipped = int(np.count_nonzero(codes > limit)) + int(np.count_nonzero(codes < -limit))
        if codes.dtype.itemsize == 1:
            # Four times as fast as indexing an array.
            planes = np.frombuffer(codes.tobytes().translate(table.tobytes()), np.uint8)
            return planes.reshape(codes.shape), clipped
        return np.take(table, codes.view(np.uint16)), clipped


class QuantileScaleCodec(ScaledCodec):
    """`q8`: int8 with one scale a field, 1/8 px or a 125th of the field's 99.9 % point; the rest saturates.

    All others of a field, 99.9 % at least, have an error of 1/16 px at most, or a 250th of that point.
    """

    rule = QUANTILE_SCALE
    storage = ChunkStorage(dtype=QUANTILE_SCALE.dtype, shuffled=False, fill=-128)


class FieldScaleCodec(ScaledCodec):
    """`i8`: int8 with one scale a field, 1/8 px or coarser; nothing is clipped."""

    rule = FIELD_SCALE
    storage = ChunkStorage(dtype=FIELD_SCALE.dtype, shuffled=False, fill=-128)


class FixedStepCodec(ScaledCodec):
    """`i16`: int16 in units of 1/64 px, saturating at 512 px."""

    rule = FIXED_STEP
    storage = ChunkStorage(dtype=FIXED_STEP.dtype, shuffled=True, fill=-32768)


@functools.lru_cache(maxsize=64)
def _plane_table(dtype: str, scale: float, bound_px: float) -> tuple[NDArray[np.uint8], int | None]:
    """Return the uint8 code of each stored code seen as unsigned, and the largest that is not clipped.

    None for the latter where nothing can be clipped.
    """
    kind = np.dtype(dtype)
    every = np.arange(256**kind.itemsize, dtype=f"u{kind.itemsize}").view(kind)
    flow = every * np.float32(scale)
    planes, clipped = quantize_u8(flow, bound_px=bound_px)
    return planes, int(every[np.abs(flow) <= bound_px].max()) if clipped else None
