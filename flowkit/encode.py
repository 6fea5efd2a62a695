"""The codes that engines give → the bytes that a store keeps."""

from __future__ import annotations

from collections.abc import Iterator

from flowkit.store.codec import EncodedFlow, encode_codes
from flowkit.store.schema import StoreOptions
from flowkit.tvl1.codes import Code, FlowCodes

_CODES: dict[str, Code] = {"i8": "i8", "i16": "i16", "jpeg": "u8"}


def wanted_code(options: StoreOptions) -> tuple[Code, float | None]:
    """Return the code that a store's flow codec packs, and its bound in px where it has one."""
    code = _CODES[options.flow_codec]
    return code, options.bound_px if code == "u8" else None


def encode_batch(made: FlowCodes, codec: str) -> Iterator[EncodedFlow]:
    """Yield each field of a batch, packed for a store of this flow codec.

    `made` holds the code that `wanted_code` names for it.
    """
    for codes, largest_px, clipped in zip(made.codes, made.largest_px, made.clipped, strict=True):
        yield encode_codes(codes, codec=codec, max_px=float(largest_px), clipped=int(clipped))
