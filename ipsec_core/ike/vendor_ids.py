"""Vendor ids: what each end of a Main Mode says that it can do beyond RFC 2409 (RFC 2408 section 3.16)."""

from __future__ import annotations

from collections.abc import Iterable

from ipsec_core.ike import wire
from ipsec_core.ike.iana import MICROSOFT_VENDOR_ID
from ipsec_core.ike.options import IkeOptions, NatTraversal
from ipsec_core.ike.values import value

# MD5("FRAGMENTATION"), [MS-IKEE] 1.7; some peers put four bytes of capabilities behind it.
FRAGMENTATION = bytes.fromhex("4048b7d56ebce88525e7de7f00d6c2d3")
# MD5 of the document's name. That of draft 02 is in use with a newline at its end and without; the first is announced.
NAT_TRAVERSAL = {
    NatTraversal.RFC_3947: (bytes.fromhex("4a131c81070358455c5728f20e95452f"),),
    NatTraversal.DRAFT_02: (
        bytes.fromhex("90cb80913ebb696e086381b5ec427b1f"),
        bytes.fromhex("cd60464335df21f87cfdb2fc68b6a448"),
    ),
}


@value
class Capabilities:
    """What the peer's vendor ids and our options have in common.

    `microsoft_version` is None for a peer that is not of Microsoft; 2 is Windows 2000, 3 XP, 4 2003, 5 Vista ([MS-IKEE]
    1.7). `dialect` is that of NAT traversal, `dialect_id` the peer's id for it.
    """

    microsoft_version: int | None = None
    fragmentation: bool = False
    dialect: NatTraversal | None = None
    dialect_id: bytes = b""


def announce(options: IkeOptions) -> tuple[wire.VendorId, ...]:
    """The initiator's: all that it can do, in its order."""
    ids = [NAT_TRAVERSAL[dialect][0] for dialect in options.nat_traversal]
    if options.fragmentation:
        ids.append(FRAGMENTATION)
    return _microsoft(options), *map(wire.VendorId, ids)


def answer(options: IkeOptions, common: Capabilities) -> tuple[wire.VendorId, ...]:
    """The responder's: of what the peer announced the one dialect of NAT traversal that counts, and fragmentation."""
    ids = [common.dialect_id] if common.dialect else []
    if common.fragmentation:
        ids.append(FRAGMENTATION)
    return _microsoft(options), *map(wire.VendorId, ids)


def common(options: IkeOptions, payloads: Iterable[wire.Payload]) -> Capabilities:
    """What the vendor ids among the peer's payloads and our options have in common."""
    ids = [payload.data for payload in wire.every(payloads, wire.VendorId)]
    versions = [int.from_bytes(data[16:20]) for data in ids if data.startswith(MICROSOFT_VENDOR_ID)]
    dialects = [(dialect, id) for dialect in options.nat_traversal for id in NAT_TRAVERSAL[dialect] if id in ids]
    return Capabilities(
        versions[0] if versions else None,
        options.fragmentation and any(data.startswith(FRAGMENTATION) for data in ids),
        *(dialects[0] if dialects else (None, b"")),
    )


def _microsoft(options: IkeOptions) -> wire.VendorId:
    return wire.VendorId(MICROSOFT_VENDOR_ID + options.vendor_version.to_bytes(4))
