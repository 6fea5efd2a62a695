"""The base of flow codecs: a float32 field to stored bytes, back to codes and px, and to network inputs."""

from __future__ import annotations

import abc
import dataclasses
import math
from collections.abc import Sequence
from typing import Any, ClassVar, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from flowkit.errors import StoreCorruptError
from flowkit.quantize import U8_LEVELS, Quantized, Quantizer, quantize_u8
from flowkit.store.codecs.deflate import decode_chunk, encode_chunk
from flowkit.store.codecs.storage import ChunkStorage, EncodedFlow, Storage, chunk_crcs
from flowkit.typing import Codes, Flow
from flowkit.validate import check_array

FlowForm: TypeAlias = Literal["codes", "px", "tsn"]
"""Form of flow for a network: as stored, in px, or as the pixels of TSN's images."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class FlowCodec(abc.ABC):
    """A way to store flow; codecs are equal where the same bytes mean the same flow.

    A codec is its `quantizer`, its `storage`, and `pack` and `unpack` between the codes of the one
    and the byte strings of the other.

    Parameters
    ----------
    name
        Its name in the registry.
    bound_px
        Half its range, px; infinite where the store's options set none.
    """

    storage: ClassVar[Storage]
    stores_planes: ClassVar[bool] = False
    """True if a field's chunks are grey JPEGs of u and v over [-bound, bound]: the files of TSN and
    denseflow, which an export can copy and an import keep."""

    name: str
    bound_px: float

    @property
    @abc.abstractmethod
    def quantizer(self) -> Quantizer:
        """The rule of the codes, for the host and for an engine's device."""

    @abc.abstractmethod
    def pack(self, codes: Codes) -> tuple[bytes, ...]:
        """Return the byte strings of one field's codes, (2, H, W)."""

    @abc.abstractmethod
    def unpack(self, chunks: Sequence[bytes | memoryview], size: tuple[int, int]) -> Codes:
        """Return the codes, (2, H, W), of one field of (height, width).

        Raises
        ------
        StoreCorruptError
            The bytes are no field of this size; nothing of the size is allocated then.
        """

    @property
    def bounded(self) -> bool:
        """True if the store's `bound_px` is the range of its flow."""
        return math.isfinite(self.bound_px)

    @property
    def dtype(self) -> np.dtype[np.number]:
        """Dtype of the codes."""
        return self.quantizer.dtype

    @property
    def offset_px(self) -> float:
        """Offset, px: flow = codes * scale + offset_px."""
        return self.quantizer.offset_px

    def encode(self, flow: Flow) -> EncodedFlow:
        """Quantise and pack one flow field.

        Parameters
        ----------
        flow
            float32 (2, H, W), u then v, px per frame step; finite.

        Raises
        ------
        InvalidParameterError
            The field has another shape or dtype, or is not finite.
        """
        check_array("flow", flow, (2, "H", "W"), dtype=np.float32)
        return self.encode_codes(self.quantizer.quantize(flow))

    def encode_codes(self, field: Quantized) -> EncodedFlow:
        """Pack one field that `quantizer` has quantised already."""
        return self.packed(
            self.pack(field.codes), scale=field.scale, largest_px=field.largest_px, clipped=field.clipped
        )

    def packed(
        self, chunks: tuple[bytes, ...], *, scale: float, largest_px: float, clipped: int | None
    ) -> EncodedFlow:
        """Return a field with these byte strings, made here or elsewhere; the rest is as in `Quantized`.

        `clipped` is None where another tool clipped, and its number is not known.
        """
        return EncodedFlow(
            codec=self.name,
            chunks=chunks,
            crcs=chunk_crcs(chunks),
            scale=scale,
            max_px=largest_px,
            clipped=clipped,
        )

    def checked_scales(self, stored: NDArray[np.float32] | None, count: int) -> NDArray[np.float32]:
        """Return the scale of each of `count` fields, from those that are stored if any are.

        Raises
        ------
        StoreCorruptError
            A stored scale is impossible for the codec, or none is stored where each field has its own.
        """
        if stored is None:
            fixed = self.quantizer.fixed_scale
            if fixed is None:
                raise StoreCorruptError("the flow has no scales, and its codec has one for each field")
            return np.full(count, fixed, np.float32)
        if not self.quantizer.are_scales(stored):
            raise StoreCorruptError("a flow field has a scale that its codec cannot have")
        return stored

    def check_codes(self, codes: Codes) -> None:
        """Raise StoreCorruptError for the code that marks a missing chunk."""
        fill = self.storage.fill
        if fill is not None and np.any(codes == fill):
            raise StoreCorruptError(f"has the code {fill:g}, which no codec writes")

    def to_px(self, codes: Codes, scale: float | NDArray[np.float32], out: Flow | None = None) -> Flow:
        """Return the flow of codes, float32 px; `scale` is one number or broadcasts."""
        return self.quantizer.dequantize(codes, scale, out=out)

    def to_planes(self, codes: Codes, scale: float, *, bound_px: float) -> tuple[NDArray[np.uint8], int]:
        """Requantise one field to uint8 over [-bound, bound], as TSN and denseflow do.

        Parameters
        ----------
        codes
            (2, H, W).
        scale
            px a code.
        bound_px
            Half the range, px, > 0; zero flow becomes 128.

        Returns
        -------
        planes : uint8 array (2, H, W)
        clipped : int
            Components outside [-bound, bound].
        """
        return quantize_u8(self.to_px(codes, scale), bound_px=bound_px)

    def form_dtype(self, form: FlowForm) -> np.dtype[np.number]:
        """Return the dtype of flow in a form."""
        if form == "codes":
            return self.dtype
        return np.dtype(np.float32 if form == "px" else np.uint8)

    def form_offset_px(self, form: FlowForm, *, bound_px: float) -> float:
        """Return the offset of a form, px: flow * scale + offset; `bound_px` is half the range of `tsn`."""
        if form == "codes":
            return self.offset_px
        return -bound_px if form == "tsn" else 0.0

    def put(self, form: FlowForm, codes: Codes, scale: float, *, bound_px: float, out: NDArray[Any]) -> float:
        """Write one field's codes in a form into `out`; return its scale, px a unit.

        Parameters
        ----------
        codes
            (2, H, W).
        scale
            px a code.
        bound_px
            Half the range of form `tsn`, px.
        out
            (2, H, W) of `form_dtype`.
        """
        if form == "codes":
            out[...] = codes
            return scale
        if form == "px":
            self.to_px(codes, scale, out=out)
            return 1.0
        out[...] = self.to_planes(codes, scale, bound_px=bound_px)[0]
        return 2 * bound_px / U8_LEVELS


class ChunkCodec(FlowCodec):
    """A codec whose codes are one HDF5 dataset, a deflated chunk a field, so that h5py reads them."""

    storage: ClassVar[ChunkStorage]

    def pack(self, codes: Codes) -> tuple[bytes, ...]:
        """Return the chunk of one field."""
        return (encode_chunk(codes, shuffled=self.storage.shuffled),)

    def unpack(self, chunks: Sequence[bytes | memoryview], size: tuple[int, int]) -> Codes:
        """Return the codes of one chunk."""
        storage = self.storage
        return decode_chunk(chunks[0], dtype=storage.dtype, shape=size, shuffled=storage.shuffled)
