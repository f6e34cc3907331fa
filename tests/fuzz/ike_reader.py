"""What must hold of the reader of ISAKMP messages: bytes in, payloads or MalformedMessage out, and the same bytes again
from the payloads."""

from __future__ import annotations

from ipsec_core.ike import offers, proposals, wire
from ipsec_core.ike.failures import MalformedMessage


def read(data: bytes) -> None:
    """The first byte chooses: a whole message as it is (0), one with version and length put right (2), or a chain that
    begins with the type in the second byte (1), as it comes out of the cipher.
    """
    how, data = data[:1] or b"\0", data[1:]
    try:
        if how[0] & 1:
            kind, body = data[0] if data else 0, data[1:]
            payloads, end = wire.parse_payloads(kind, body)
            assert wire.first_type(payloads) == kind
        else:
            if how[0] & 2 and len(data) >= wire.HEADER_LENGTH:
                data = data[:17] + bytes([wire.VERSION]) + data[18:24] + len(data).to_bytes(4) + data[28:]
            header = wire.parse_header(data)
            body = data[wire.HEADER_LENGTH :]
            payloads = wire.parse_clear(header, data)
            end = len(wire.encode_payloads(payloads))
            assert header.encode(len(body)) == data[: wire.HEADER_LENGTH]
    except MalformedMessage:
        return
    assert wire.encode_payloads(payloads) == body[:end]
    assert len(payloads) <= wire.MAX_PAYLOADS
    for payload in payloads:
        try:
            look_into(payload)
        except MalformedMessage:
            continue


def look_into(payload: wire.Payload) -> None:
    """What is done with a payload before anybody has proved anything, and what of an SA payload after that."""
    if isinstance(payload, wire.SecurityAssociation):
        transforms = [transform for proposal in payload.proposals for transform in proposal.transforms]
        phase_1 = tuple(offer for offer in map(offers.parse_main_mode, transforms) if offer is not None)
        phase_2 = tuple(proposals.quick_mode_offers(payload))
        main = offers.choose_main_mode(payload, phase_1)
        assert main is None or offers.single_transform(main[0])
        quick = proposals.choose_quick_mode(payload, phase_2)
        assert quick is None or proposals.is_answer(wire.SecurityAssociation(quick.proposals))
        assert quick is not None or not phase_2
        offers.main_mode_mismatch(payload, phase_1)
        proposals.quick_mode_mismatch(payload, phase_2)
    elif isinstance(payload, wire.Identification):
        network = offers.parse_identity(payload)
        assert offers.parse_identity(offers.encode_identity(network)) == network
