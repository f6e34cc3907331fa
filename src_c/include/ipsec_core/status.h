/*
 * The one list of packet verdicts. Every packet of a burst ends with one of these, and every verdict has a
 * counter in the driver. The C enum, the Python enum, the counter names and the docs come from it (a test
 * holds them equal).
 */
#ifndef IPSEC_CORE_STATUS_H
#define IPSEC_CORE_STATUS_H

/*
 * X(name, verdict, text). Verdict: PASS goes on (to the wire or up to the host), HELD is kept by the driver,
 * DROP ends here.
 *
 */
#define IPC_STATUS_LIST(X)                                                                                   \
    X(UNPROCESSED, DROP, "not processed yet")                                                                \
    X(PROTECTED, PASS, "ESP or AH applied (outbound) or verified and removed (inbound)")                     \
    X(SOFT, PASS, "clear text under a soft security association")                                            \
    X(EXEMPT, PASS, "exempt by default: IKE, Kerberos, RSVP, broadcast or multicast")                        \
    X(PERMITTED, PASS, "a permit filter matched")                                                            \
    X(NO_FILTER, PASS, "no filter matched")                                                                  \
    X(PASSED_THROUGH, PASS, "clear packet accepted by inbound pass-through")                                 \
    X(NOT_IP, PASS, "neither IPv4 nor IPv6: the IPsec driver does not see it")                               \
    X(HELD, HELD, "waits for a security association")                                                        \
    X(REASSEMBLING, HELD, "fragment of an IPsec packet, kept until the packet is whole")                     \
    X(BLOCKED, DROP, "a block filter matched")                                                               \
    X(NOT_HELD, DROP, "waits for a security association, but the queue is full")                             \
    X(NEGOTIATION_FAILED, DROP, "held packet dropped: the negotiation failed")                               \
    X(SHOULD_BE_SECURED, DROP, "clear packet that should have been secured (event 4284)")                    \
    X(MALFORMED, DROP, "invalid packet syntax (event 4286)")                                                 \
    X(FRAGMENT, DROP, "IP fragment where a whole datagram is needed (RFC 2401 B.2)")                         \
    X(BAD_SPI, DROP, "no security association for this SPI (event 4283)")                                    \
    X(REPLAYED, DROP, "sequence number seen before or left of the replay window")                            \
    X(NOT_AUTHENTICATED, DROP, "integrity check value is wrong (event 4285)")                                \
    X(NOT_DECRYPTED, DROP, "padding, next header or the packet inside is wrong after decryption")            \
    X(WRONG_SELECTOR, DROP, "the packet inside does not fit the selectors of its SA (RFC 2401 5.2.1)")       \
    X(SEQUENCE_EXHAUSTED, DROP, "the sequence number of the SA would wrap")                                  \
    X(EXPIRED, DROP, "the SA's hard lifetime is over")                                                       \
    X(NOT_ENCRYPTED, DROP, "the crypto back end failed")                                                     \
    X(EXCEEDS_MTU, DROP, "larger than the path MTU once protected, and not to be fragmented (RFC 2401 6.1)") \
    X(KEEPALIVE, DROP, "NAT keep-alive (RFC 3948 2.3)")                                                      \
    X(DUMMY, DROP, "dummy packet (RFC 4303 2.6)")                                                            \
    X(TOO_BIG, DROP, "no room in the buffer for the protected packet")

enum ipc_verdict { IPC_VERDICT_PASS, IPC_VERDICT_HELD, IPC_VERDICT_DROP };

enum ipc_status {
#define X(name, verdict, text) IPC_##name,
    IPC_STATUS_LIST(X)
#undef X
        IPC_STATUS_COUNT
};

#ifdef __cplusplus
extern "C" {
#endif

/* Name ("BAD_SPI"), text and verdict of a status; NULL / DROP for a value that is none. */
const char *ipc_status_name(int status);
const char *ipc_status_text(int status);
enum ipc_verdict ipc_status_verdict(int status);

#ifdef __cplusplus
}
#endif
#endif
