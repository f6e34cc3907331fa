# cython: freethreading_compatible=False
"""Burst and Driver: the Cython face of src_c/include/ipsec_core/{burst,driver}.h."""

from cpython.buffer cimport PyBUF_FORMAT, PyBUF_ND, PyBUF_STRIDES, PyBUF_WRITABLE
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.math cimport INFINITY, nextafter
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcpy, memset

import hashlib
import os
import warnings
from enum import IntEnum
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

import numpy as np

from ipsec_core.driver cimport _c
from ipsec_core.driver.types import Action, Algorithm, SaInfo, Upcall, UpcallKind
from ipsec_core.errors import DriverError, SecurityWarning

C_VERSION = _c.IPC_VERSION.decode()
BURST_MAX = _c.IPC_BURST_MAX
NO_SA = _c.IPC_NO_SA

Status = IntEnum("Status", {_c.ipc_status_name(i).decode(): i for i in range(_c.IPC_STATUS_COUNT)})
Status.__doc__ = "Verdict of a packet; the names and their order come from src_c/include/ipsec_core/status.h."

STATUS_TEXT = {Status(i): _c.ipc_status_text(i).decode() for i in range(_c.IPC_STATUS_COUNT)}
PASSES = frozenset(s for s in Status if _c.ipc_status_verdict(s) == _c.IPC_VERDICT_PASS)
COUNTER_RULES = {_c.ipc_counter_name(i).decode(): _c.ipc_counter_rule(i).decode() for i in range(_c.ipc_counter_count())}
COUNTERS = tuple((_c.ipc_counter_name(i).decode(), _c.ipc_counter_text(i).decode())
                 for i in range(_c.ipc_counter_count()))

cdef frozenset ACTIONS = frozenset(Action)
cdef dict ENCRYPTION = {}
cdef dict INTEGRITY = {}
cdef list ENCRYPTION_NAMES = []
cdef list INTEGRITY_NAMES = []


cdef void read_algorithms():
    cdef int i = 0
    while _c.ipc_encryption_info_of(i) != NULL:
        ENCRYPTION_NAMES.append(_c.ipc_encryption_info_of(i).text.decode())
        i += 1
    i = 0
    while _c.ipc_integrity_info_of(i) != NULL:
        INTEGRITY_NAMES.append(_c.ipc_integrity_info_of(i).text.decode())
        i += 1
    ENCRYPTION.update({name: number for number, name in enumerate(ENCRYPTION_NAMES)})
    INTEGRITY.update({name: number for number, name in enumerate(INTEGRITY_NAMES)})

read_algorithms()


cdef int check(int code, str what) except -1:
    """The one place where a negative code of a control call becomes an exception."""
    if code < 0:
        text = _c.ipc_strerror(code).decode()
        raise DriverError(f"{what}: {text}")
    return code


cdef object ranged(str field, object value, object least, object most):
    if not least <= value <= most:
        raise DriverError(f"{field}: {value} is out of range; accepted: {least} to {most}")
    return value


cdef _c.ipc_address address(str field, object value) except *:
    """An address of either family; None: none."""
    cdef _c.ipc_address out
    if value is None:
        out.high = out.low = 0
        return out
    try:
        parsed = ip_address(value)
    except ValueError:
        raise DriverError(f"{field}: {value!r} is not an IP address; accepted: an IPv4 or IPv6 address") from None
    number = int(parsed)
    if parsed.version == 4:
        return _c.ipc_address_of_ipv4(number)
    if parsed.ipv4_mapped is not None or number == 0:
        raise DriverError(f"{field}: {value!r} is no address of a host; accepted: an IPv4 or IPv6 address")
    out.high = number >> 64
    out.low = number & 0xffffffffffffffff
    return out


cdef object address_object(_c.ipc_address a):
    """The Python object of an address, None for none."""
    if _c.ipc_address_is_none(a):
        return None
    if _c.ipc_address_is_ipv4(a):
        return IPv4Address(<uint32_t>a.low)
    return IPv6Address(<object>a.high << 64 | a.low)


cdef int read_network(str field, object network, _c.ipc_address *base, _c.ipc_address *mask) except -1:
    """Network and mask; None: any address of either family. Returns the family, 0 for None."""
    if network is None:
        base.high = base.low = mask.high = mask.low = 0
        return 0
    number, bits = int(network.network_address), int(network.netmask)
    if network.version == 4:
        base[0] = _c.ipc_address_of_ipv4(number)
        mask.high = 0xffffffffffffffff
        mask.low = 0xffffffff00000000 | bits
        return 4
    base.high, base.low = number >> 64, number & 0xffffffffffffffff
    mask.high, mask.low = bits >> 64, bits & 0xffffffffffffffff
    return 6


cdef int read_networks(object source, object destination, _c.ipc_address *base, _c.ipc_address *mask,
                       _c.ipc_address *base2, _c.ipc_address *mask2) except -1:
    """The family of both, which must be one."""
    cdef int family = read_network("source", source, base, mask)
    if read_network("destination", destination, base2, mask2) != family:
        raise DriverError(f"destination: {destination} does not go with source {source}; accepted: networks of one family, or None twice")
    return family


cdef object network_object(int family, _c.ipc_address base, _c.ipc_address mask):
    if family == 0:
        return None
    if family == 4:
        return IPv4Network((<uint32_t>base.low, bin(<uint32_t>mask.low).count("1")))
    return IPv6Network((<object>base.high << 64 | base.low, bin(mask.high).count("1") + bin(mask.low).count("1")))


cdef uint64_t nanoseconds(double seconds) except? 0:
    if not 0 <= seconds < 1.8e10:
        raise DriverError(f"now: {seconds} is not a time; accepted: seconds from 0 on")
    return <uint64_t>(seconds * 1e9 + 0.5)


def crypto_backends():
    """The crypto back ends of this build: a dict of name -> version, best known first."""
    cdef unsigned i = 0
    found = {}
    while _c.ipc_crypto_backend(i) != NULL:
        found[_c.ipc_crypto_backend(i).name.decode()] = _c.ipc_crypto_backend(i).version().decode()
        i += 1
    return found


def algorithms():
    """All algorithms that the driver knows, as a tuple of Algorithm; `backends` are those of this build and CPU, fastest first."""
    cdef const _c.ipc_encryption_info *e
    cdef const _c.ipc_integrity_info *a
    records = []
    for name, i in ENCRYPTION.items():
        e = _c.ipc_encryption_info_of(i)
        integrity = INTEGRITY["none"] if e.icv_length else INTEGRITY["HMAC-SHA1-96"]
        records.append(Algorithm(name, "encryption", e.key_length, e.salt_length, e.iv_length, e.block_length, e.icv_length,
                                 bool(e.windows_2000), _ranked(i, integrity)))
    for name, i in INTEGRITY.items():
        a = _c.ipc_integrity_info_of(i)
        records.append(Algorithm(name, "integrity", a.key_length, a.salt_length, a.iv_length, 1, a.icv_length, bool(a.windows_2000),
                                 _ranked(ENCRYPTION["NULL"], i)))
    return tuple(records)


cdef tuple _ranked(int encryption, int integrity):
    cdef unsigned i = 0
    cdef _c.ipc_crypto_suite suite = _c.ipc_crypto_suite(encryption, integrity, 0, 0)
    ranks = []
    while _c.ipc_crypto_backend(i) != NULL:
        rank = _c.ipc_crypto_backend(i).rank(&suite)
        if rank > 0:
            ranks.append((-rank, _c.ipc_crypto_backend(i).name.decode()))
        i += 1
    return tuple(name for _, name in sorted(ranks))


def key_bytes(sa):
    """Bytes that the expanded keys of a SecurityAssociation take in the back end that would serve it."""
    cdef _c.ipc_sa_config c
    memset(&c, 0, sizeof(c))
    keys = _read_sa(&c, sa)
    cdef _c.ipc_crypto_suite suite = _c.ipc_crypto_suite(c.encryption, c.integrity, c.esn, c.service == _c.IPC_SERVICE_AH)
    cdef const _c.ipc_crypto_backend_t *backend = _c.ipc_crypto_choose(&suite, NULL)
    if keys is None or backend == NULL:
        return 0
    return backend.key_size(&suite)


def overhead(sa, length, header=None):
    """Bytes that a SecurityAssociation adds to an IP packet of `length` bytes (RFC 2406 2, RFC 4303 2), exact.

    `header` is the length of the packet's IP header with the extension headers that stay outside; by default 20 with IPv4 and
    40 with IPv6 ends. With SAs around this one, ask `Driver.overhead`.
    """
    cdef _c.ipc_sa_config c
    memset(&c, 0, sizeof(c))
    _read_sa(&c, sa)
    if header is None:
        header = 20 if _c.ipc_address_is_ipv4(c.destination) else 40
    length = ranged("length", length, 0, _c.IPC_PACKET_MAX)
    return _c.ipc_overhead(&c, length, ranged("header", header, 0, length))


cdef int _lookup(dict table, object name, str what) except -1:
    number = table.get(name)
    if number is None:
        raise DriverError(f"{what}: {name!r} is unknown; accepted: {', '.join(table)}")
    return number


cdef int _mode(object mode) except -1:
    if mode == "transport":
        return _c.IPC_TRANSPORT
    if mode == "tunnel":
        return _c.IPC_TUNNEL
    raise DriverError(f"mode: {mode!r} is unknown; accepted: transport, tunnel")


cdef int _direction(object direction) except -1:
    if direction == "out":
        return _c.IPC_OUTBOUND
    if direction == "in":
        return _c.IPC_INBOUND
    raise DriverError(f"direction: {direction!r} is unknown; accepted: out, in")


cdef class _View:
    """One array of a burst through the buffer protocol; keeps the burst alive."""

    cdef Burst owner
    cdef void *data
    cdef Py_ssize_t itemsize
    cdef char *format
    cdef Py_ssize_t shape[1]
    cdef Py_ssize_t strides[1]

    def __getbuffer__(self, Py_buffer *view, int flags):
        if flags & PyBUF_WRITABLE:
            raise BufferError("the arrays of a burst are read-only")
        view.buf = self.data
        view.obj = self
        view.len = self.shape[0] * self.itemsize
        view.readonly = 1  # the C loops rely on offsets and lengths
        view.itemsize = self.itemsize
        view.format = self.format if flags & PyBUF_FORMAT else NULL
        view.ndim = 1
        view.shape = self.shape if flags & PyBUF_ND else NULL
        view.strides = self.strides if flags & PyBUF_STRIDES == PyBUF_STRIDES else NULL
        view.suboffsets = NULL
        view.internal = NULL

    def __releasebuffer__(self, Py_buffer *view):
        pass


cdef object _view(Burst owner, void *data, Py_ssize_t count, Py_ssize_t itemsize, char *format):
    cdef _View view = _View.__new__(_View)
    view.owner = owner
    view.data = data
    view.itemsize = itemsize
    view.format = format
    view.shape[0] = count
    view.strides[0] = itemsize
    return np.asarray(view)


cdef int _append(Burst burst, const uint8_t *packet, Py_ssize_t length) except -1:
    if _c.ipc_burst_add(burst.c, packet, <uint32_t>min(length, 0x7fffffff), 0) < 0:
        if burst.c.count == burst.c.capacity:
            raise DriverError(f"Burst.load: more than {burst.c.capacity} packets")
        raise DriverError(f"Burst.load: packet {burst.c.count} is longer than {burst.c.max_packet} bytes")
    return 0


cdef int _load_each(Burst burst, object packets) except -1:
    cdef const uint8_t[::1] row
    for packet in packets:
        if type(packet) is bytes:
            _append(burst, <const uint8_t *>PyBytes_AS_STRING(packet), PyBytes_GET_SIZE(packet))
        else:
            row = packet
            _append(burst, &row[0] if row.shape[0] else NULL, row.shape[0])
    return 0


cdef int _load_rows(Burst burst, const uint8_t[:, ::1] rows, list lengths) except -1:
    cdef Py_ssize_t i
    if len(lengths) != rows.shape[0]:
        raise DriverError(f"Burst.load: {len(lengths)} lengths for {rows.shape[0]} rows")
    for i, length in enumerate(lengths):
        if not 0 <= length <= rows.shape[1]:
            raise DriverError(f"Burst.load: length {length} of packet {i} is out of range; accepted: 0 to {rows.shape[1]}")
        _append(burst, &rows[i, 0] if length else NULL, length)
    return 0


cdef class Burst:
    """Packets side by side in one arena, with their verdicts.

    `capacity` packets (1..256) of up to `max_packet` bytes (20..65535) before protection. The arrays `status`, `length`, `sa` (index or NO_SA),
    `filter`, `time` (ns) are read-only NumPy views of the first `len(burst)` elements: they show what the driver wrote, without a copy.
    """

    def __cinit__(self, capacity=64, max_packet=2048):
        if not (1 <= capacity <= _c.IPC_BURST_MAX and 20 <= max_packet <= _c.IPC_PACKET_MAX):
            raise DriverError(f"Burst: capacity {capacity}, max_packet {max_packet} out of range; "
                              f"accepted: capacity 1..{_c.IPC_BURST_MAX}, max_packet 20..{_c.IPC_PACKET_MAX}")
        check(_c.ipc_burst_create(capacity, max_packet, &self.c), "Burst")

    def __dealloc__(self):
        _c.ipc_burst_destroy(self.c)

    cdef int enter(self) except -1:
        if self.busy:
            raise DriverError("Burst: in use by a driver in another thread")
        self.busy = True
        return 0

    cdef void leave(self) noexcept:
        self.busy = False

    def __len__(self):
        return self.c.count

    @property
    def capacity(self):
        return self.c.capacity

    @property
    def max_packet(self):
        return self.c.max_packet

    @property
    def status(self):
        return _view(self, self.c.status, self.c.count, 1, b"B")

    @property
    def length(self):
        return _view(self, self.c.length, self.c.count, 4, b"I")

    @property
    def sa(self):
        return _view(self, self.c.sa, self.c.count, 4, b"I")

    @property
    def filter(self):
        return _view(self, self.c.filter, self.c.count, 4, b"I")

    @property
    def time(self):
        return _view(self, self.c.time, self.c.count, 8, b"Q")

    def load(self, packets, lengths=None):
        """Replaces the content by `packets`: an iterable of bytes-like IPv4 packets, or a 2-D uint8 array (one row a packet) with `lengths`.

        Raises DriverError when there are more than `capacity` packets or one is longer than `max_packet`. A load that fails leaves the burst empty.
        """
        cdef bint whole = False
        self.enter()
        _c.ipc_burst_reset(self.c)
        try:
            if lengths is None:
                _load_each(self, packets)
            else:
                _load_rows(self, packets, list(lengths))
            whole = True
        finally:
            if not whole:
                _c.ipc_burst_reset(self.c)
            self.leave()
        return self

    def packets(self):
        """The packets that may go on (verdict PASS), in order, as a list of bytes."""
        cdef uint32_t i
        out = []
        for i in range(self.c.count):
            if _c.ipc_status_verdict(self.c.status[i]) == _c.IPC_VERDICT_PASS:
                out.append(PyBytes_FromStringAndSize(<char *>self.c.arena + self.c.offset[i], self.c.length[i]))
        return out

    def packet(self, Py_ssize_t i):
        """Packet `i` as it stands, whatever its verdict."""
        if not 0 <= i < self.c.count:
            raise IndexError(f"burst has {self.c.count} packets")
        return PyBytes_FromStringAndSize(<char *>self.c.arena + self.c.offset[i], self.c.length[i])

    def fragment(self, Burst into not None, mtu, *, start=0, identification=0):
        """Fills `into` with the packets from index `start` on that pass or are not processed yet, those over `mtu` bytes as fragments.

        Returns (next, identification) for the next call, which goes on where `into` was full: at least one packet further, at
        `len(burst)` when all are done. `identification` is that of the next IPv6 fragments (RFC 8200 4.5); keep it.

        After IPsec (RFC 2401 6.1, RFC 4301 7): `driver.outbound(b)`, then `b.fragment(out, mtu)`, and `out` goes to the network.
        Before IPsec, in tunnel mode: `b.fragment(out, driver.clear_mtu(handle))`, then `driver.outbound(out)`; later fragments have
        no ports, so that the filter and the SA may name none (RFC 4301 7). A packet that may not be fragmented (IPv4 with DF) is
        in `into` with the verdict EXCEEDS_MTU, and outbound comes to the same verdict when the SA knows its `path_mtu`; one that
        is broken or has no room MALFORMED or TOO_BIG. `mtu`: 68 to 65535, IPv6 is only fragmented from 1280 on.
        """
        cdef uint32_t most = ranged("mtu", mtu, 68, _c.IPC_PACKET_MAX)
        cdef uint32_t next_one = ranged("start", start, 0, self.c.count)
        cdef uint32_t number = ranged("identification", identification, 0, 0xffffffff)
        if into is self:
            raise DriverError("into: the burst itself; accepted: another one")
        self.enter()
        try:
            into.enter()
            _c.ipc_burst_reset(into.c)
            with nogil:
                _c.ipc_burst_fragment(self.c, &next_one, into.c, most, &number)
            into.leave()
        finally:
            self.leave()
        return next_one, number


cdef object upcall_record(const _c.ipc_upcall *u):
    return Upcall(UpcallKind(u.kind), u.time / 1e9, u.sa, u.filter, address_object(u.peer), address_object(u.source),
                  address_object(u.destination), u.protocol, u.source_port, u.destination_port)


cdef _c.ipc_sa _handle(object handle):
    """0, which is no SA's, for what is not a 64-bit number."""
    return handle if 0 <= handle <= 0xffffffffffffffff else 0


cdef int _read_filter(_c.ipc_filter *f, object record) except -1:
    f.family = read_networks(record.source, record.destination, &f.source, &f.source_mask, &f.destination, &f.destination_mask)
    f.tunnel = address("tunnel", record.tunnel)
    f.reference = ranged("reference", record.reference, 0, 0xffffffff)
    f.source_port = ranged("source_port", record.source_port, 0, 0xffff)
    f.destination_port = ranged("destination_port", record.destination_port, 0, 0xffff)
    f.protocol = ranged("protocol", record.protocol, 0, 0xff)
    f.direction = _direction(record.direction)
    if record.action not in ACTIONS:
        raise DriverError(f"action: {record.action!r} is unknown; accepted: {', '.join(a.name for a in Action)}")
    f.action = record.action
    return 0


cdef int _read_filters(_c.ipc_filter *array, list filters) except -1:
    numbers = {}
    for i, record in enumerate(filters):
        try:
            _read_filter(&array[i], record)
            first = numbers.setdefault((record.direction, record.reference), i)
            if first != i:
                raise DriverError(f"reference: {record.reference} is taken by filter {first}; accepted: a number of its own")
        except DriverError as error:
            raise DriverError(f"filter {i}, {error}") from None
    return 0


cdef int _change_filters(Driver driver, list added, uint32_t at, bint keep, object removed) except -1:
    """All filters anew: `added` at place `at` among those that there are, without the `removed`, or alone."""
    cdef _c.ipc_filter f
    cdef uint64_t packets
    cdef uint32_t old = _c.ipc_driver_filter_count(driver.c) if keep else 0
    cdef uint32_t i, count = 0
    cdef _c.ipc_filter *array = <_c.ipc_filter *>calloc(len(added) + old or 1, sizeof(_c.ipc_filter))
    if array == NULL:
        raise MemoryError
    try:
        for i in range(old + 1):
            if i == at:
                _read_filters(&array[count], added)
                count += <uint32_t>len(added)
            if i < old:
                _c.ipc_driver_filter(driver.c, i, &f, &packets)
                if f.reference not in removed:
                    array[count] = f
                    count += 1
        driver.enter()
        try:
            check(_c.ipc_driver_set_filters(driver.c, array, count), "set_filters")
        finally:
            driver.leave()
    finally:
        free(array)
    return 0


SERVICES = {"esp": _c.IPC_SERVICE_ESP, "ah": _c.IPC_SERVICE_AH, "none": _c.IPC_SERVICE_SOFT}
DF = {"copy": _c.IPC_DF_COPY, "set": _c.IPC_DF_SET, "clear": _c.IPC_DF_CLEAR}

cdef dict SERVICE_NAMES = {number: name for name, number in SERVICES.items()}


cdef _c.ipc_time _moment(str field, object created, object seconds) except? 0:
    """Moment of a lifetime that began at `created`, 0 for none."""
    return nanoseconds(created + ranged(field, seconds, 0, 1e9)) if seconds else 0


cdef int _read_ends(_c.ipc_sa_config *c, object sa) except -1:
    """Ends and selectors."""
    c.source = address("source", sa.source)
    c.destination = address("destination", sa.destination)
    inside = (sa.inner_source, sa.inner_destination)
    if inside == (None, None) and sa.mode == "transport" and sa.source is not None and sa.destination is not None:
        hosts = [ip_address(end) for end in (sa.source, sa.destination)]
        inside = tuple((IPv4Network if host.version == 4 else IPv6Network)(host) for host in hosts)
    c.family = read_networks(inside[0], inside[1], &c.inner_source, &c.inner_source_mask, &c.inner_destination,
                             &c.inner_destination_mask)
    c.original_source = address("original_source", sa.original_source)
    c.original_destination = address("original_destination", sa.original_destination)
    if sa.encapsulation is not None:
        c.encapsulation_source = ranged("encapsulation", sa.encapsulation[0], 1, 0xffff)
        c.encapsulation_destination = ranged("encapsulation", sa.encapsulation[1], 1, 0xffff)
    return 0


cdef int _read_lifetimes(_c.ipc_sa_config *c, object sa) except -1:
    c.soft_bytes = ranged("soft_bytes", sa.soft_bytes, 0, 0xffffffffffffffff)
    c.hard_bytes = ranged("hard_bytes", sa.hard_bytes, 0, 0xffffffffffffffff)
    if sa.hard_bytes and sa.soft_bytes > sa.hard_bytes:
        raise DriverError(f"soft_bytes: {sa.soft_bytes} is out of range; accepted: 0 to hard_bytes, {sa.hard_bytes}")
    if sa.hard_seconds and sa.soft_seconds > sa.hard_seconds:
        raise DriverError(f"soft_seconds: {sa.soft_seconds} is out of range; accepted: 0 to hard_seconds, {sa.hard_seconds}")
    c.created = nanoseconds(sa.created)
    c.soft_time = _moment("soft_seconds", sa.created, sa.soft_seconds)
    c.hard_time = _moment("hard_seconds", sa.created, sa.hard_seconds)
    c.idle = _moment("idle_seconds", 0.0, sa.idle_seconds)
    return 0


cdef int _check_integrity(_c.ipc_sa_config *c, object sa, bint use) except -1:
    """That the algorithms go together, with a word about those that should not be used."""
    cdef _c.ipc_crypto_suite suite = _c.ipc_crypto_suite(c.encryption, c.integrity, c.esn, c.service == _c.IPC_SERVICE_AH)
    bare = sa.integrity == "none" and _c.ipc_encryption_info_of(c.encryption).icv_length == 0
    if not _c.ipc_crypto_suite_valid(&suite) or (bare and not sa.allow_unauthenticated):
        fitting = []
        for name, number in INTEGRITY.items():
            suite.integrity = number
            if _c.ipc_crypto_suite_valid(&suite) and (name != "none" or not bare):
                fitting.append(name)
        esn = " and esn" if sa.esn else ""
        raise DriverError(f"integrity: {sa.integrity!r} does not go with {sa.protocol} {sa.encryption}{esn}; accepted: "
                          + (", ".join(fitting) or "no integrity with this encryption")
                          + (" (or none with allow_unauthenticated)" if bare and sa.protocol == "esp" and not esn else ""))
    if bare and use and not sa.outer:
        warnings.warn(f"SA 0x{sa.spi:08x}: ESP {sa.encryption} without integrity; anybody can forge its packets", SecurityWarning,
                      stacklevel=3)
    return 0


cdef object _read_sa(_c.ipc_sa_config *c, object sa, bint use=False):
    """Fills the configuration, to be used or only asked about; returns what keeps the key bytes alive, None for a soft SA."""
    if sa.protocol not in SERVICES:
        raise DriverError(f"protocol: {sa.protocol!r} is unknown; accepted: {', '.join(SERVICES)}")
    c.service = SERVICES[sa.protocol]
    c.direction = _direction(sa.direction)
    c.mode = _mode(sa.mode)
    if sa.df not in DF:
        raise DriverError(f"df: {sa.df!r} is unknown; accepted: {', '.join(DF)}")
    c.df = DF[sa.df]
    _read_ends(c, sa)
    c.source_port = ranged("source_port", sa.source_port, 0, 0xffff)
    c.destination_port = ranged("destination_port", sa.destination_port, 0, 0xffff)
    c.protocol = ranged("inner_protocol", sa.inner_protocol, 0, 0xff)
    c.filter = ranged("filter", sa.filter, 0, 0xffffffff)
    _read_lifetimes(c, sa)
    if c.service == _c.IPC_SERVICE_SOFT:
        return None
    if not 256 <= sa.spi <= 0xffffffff:
        raise DriverError(f"spi: {sa.spi} is out of range; accepted: 256 to 4294967295 (RFC 2406 2.1)")
    c.spi = sa.spi
    for name in ("source", "destination"):
        if getattr(sa, name) is None:
            raise DriverError(f"{name}: missing; accepted: an IPv4 or IPv6 address")
    c.esn = bool(sa.esn)
    c.allow_unauthenticated = bool(sa.allow_unauthenticated)
    c.encryption = _lookup(ENCRYPTION, sa.encryption, "encryption")
    c.integrity = _lookup(INTEGRITY, sa.integrity, "integrity")
    _check_integrity(c, sa, use)
    keys = (bytes(sa.encryption_key), bytes(sa.integrity_key))
    wanted = (_c.ipc_encryption_info_of(c.encryption).key_length, _c.ipc_integrity_info_of(c.integrity).key_length)
    for what, name, key, length in zip(("encryption_key", "integrity_key"), (sa.encryption, sa.integrity), keys, wanted):
        if len(key) != length:
            raise DriverError(f"{what}: {len(key)} bytes; accepted: {length} bytes for {name}")
    if sa.replay_window and (not 32 <= sa.replay_window <= 4096 or sa.replay_window % 32):
        raise DriverError(f"replay_window: {sa.replay_window} is out of range; accepted: 0, or 32 to 4096 in steps of 32")
    if sa.esn and sa.direction == "in" and not sa.replay_window:
        raise DriverError("replay_window: 0 does not go with esn; accepted: 32 to 4096 in steps of 32 (RFC 4303 3.3.3)")
    c.replay_window = sa.replay_window if sa.direction == "in" else 0
    if sa.path_mtu and not 68 <= sa.path_mtu <= _c.IPC_PACKET_MAX:
        raise DriverError(f"path_mtu: {sa.path_mtu} is out of range; accepted: 0, or 68 to {_c.IPC_PACKET_MAX} (bytes)")
    c.path_mtu = sa.path_mtu
    c.outer = _handle(sa.outer)
    c.sequence = ranged("sequence", sa.sequence, 0, 0xffffffffffffffff if sa.esn else 0xffffffff)
    c.encryption_key = <const uint8_t *>PyBytes_AS_STRING(keys[0])
    c.integrity_key = <const uint8_t *>PyBytes_AS_STRING(keys[1])
    c.encryption_key_length = len(keys[0])
    c.integrity_key_length = len(keys[1])
    return keys


cdef class Driver:
    """The IPsec driver of one computer (RFC 2401; KB 257225).

    `sa_hash_size` and `cache_size` are the registry's SAHashSize and CacheSize in KB (64..1024). `seed` (int or bytes) makes table hashes and IVs
    reproducible; without it they come from the operating system. `backend` names the crypto back end, None takes the fastest for each
    SA. `hold_packets` may wait for one negotiation. `cache=False` asks the filters for every packet, `matcher=False` walks them one by
    one. `spi_slots` and `cache_slots` override the table sizes. `no_default_exempt` is the registry's NoDefaultExempt (0..3, KB 253169).
    `nat_traversal`: UDP port 4500 carries IKE and ESP (RFC 3948). `fragments` IPsec datagrams are put together at once (default 16).
    A driver belongs to one thread at a time; bursts run without the GIL.
    """

    def __cinit__(self, sa_hash_size=64, cache_size=64, *, seed=None, backend=None, hold_packets=0, hold_bytes=0,
                  cache=True, matcher=True, spi_slots=0, cache_slots=0, no_default_exempt=0, nat_traversal=False, fragments=0):
        cdef _c.ipc_driver_config config
        memset(&config, 0, sizeof(config))
        for name, value in (("SAHashSize", sa_hash_size), ("CacheSize", cache_size)):
            if not 64 <= value <= 1024:
                raise DriverError(f"{name}: {value} is out of range; accepted: 64 to 1024 (KB)")
        config.sa_hash_kb = sa_hash_size
        config.cache_kb = cache_size
        if spi_slots and not 2 <= spi_slots <= 1 << 30:
            raise DriverError(f"spi_slots: {spi_slots} is out of range; accepted: 0, or 2 to {1 << 30}")
        config.hold_packets = ranged("hold_packets", hold_packets, 0, 0xffffffff)
        config.hold_bytes = ranged("hold_bytes", hold_bytes, 0, 1 << 26)
        config.cache_off = not cache
        config.matcher_off = not matcher
        config.no_default_exempt = ranged("NoDefaultExempt", no_default_exempt, 0, 3)
        config.nat_traversal = bool(nat_traversal)
        config.fragments = ranged("fragments", fragments, 0, 256)
        config.spi_slots = spi_slots
        config.cache_slots = ranged("cache_slots", cache_slots, 0, 1 << 26)
        if seed is None:
            material = os.urandom(16)
        else:
            material = hashlib.sha256(seed if isinstance(seed, bytes) else str(seed).encode()).digest()
        memcpy(config.seed, PyBytes_AS_STRING(material), 16)
        if backend is not None:
            if backend not in crypto_backends():
                raise DriverError(f"backend: {backend!r} is not in this build; accepted: {', '.join(crypto_backends())}")
            self.backend_name = backend.encode()
            config.backend = PyBytes_AS_STRING(self.backend_name)
        check(_c.ipc_driver_create(&config, &self.c), "Driver")

    def __dealloc__(self):
        _c.ipc_driver_destroy(self.c)

    cdef int enter(self) except -1:
        if self.busy:
            raise DriverError("Driver: in use by another thread; one driver belongs to one thread at a time")
        self.busy = True
        return 0

    cdef void leave(self) noexcept:
        self.busy = False

    def set_filters(self, filters):
        """Replaces all filters; they are walked in the order given. SAs stay and serve the filter with their reference."""
        _change_filters(self, list(filters), 0, False, frozenset())

    def insert_filters(self, at, filters):
        """Puts filters between those that are there: the first of them comes to place `at` of the walk, from 0 on."""
        _change_filters(self, list(filters), ranged("at", at, 0, _c.ipc_driver_filter_count(self.c)), True, frozenset())

    def remove_filters(self, references):
        """Takes out the filters with these references; one that is not there is no error."""
        _change_filters(self, [], 0, True, frozenset(references))

    def filter_packets(self):
        """Packets that each filter has decided, as a list of (reference, packets) in the order of the walk."""
        cdef _c.ipc_filter f
        cdef uint64_t packets
        cdef uint32_t i
        out = []
        for i in range(_c.ipc_driver_filter_count(self.c)):
            _c.ipc_driver_filter(self.c, i, &f, &packets)
            out.append((f.reference, packets))
        return out

    def add_sa(self, sa):
        """Adds a SecurityAssociation and returns its handle. Raises DriverError with the field and what is accepted."""
        cdef _c.ipc_sa_config c
        cdef _c.ipc_sa handle
        memset(&c, 0, sizeof(c))
        keys = _read_sa(&c, sa, True)
        self.enter()
        try:
            check(_c.ipc_sa_add(self.c, &c, &handle), f"SA 0x{sa.spi:08x}")
        finally:
            self.leave()
        del keys
        return handle

    def retire_sa(self, handle, double hard_time):
        """The SA lives until `hard_time` (seconds) at the latest and asks for no successor: the overlap after a rekey."""
        cdef uint64_t moment = nanoseconds(hard_time)
        self.enter()
        try:
            check(_c.ipc_sa_retire(self.c, _handle(handle), moment), f"SA handle {handle:#x}")
        finally:
            self.leave()

    def set_path_mtu(self, handle, path_mtu):
        """Path MTU of an outbound SA in bytes, 0: not known (RFC 2401 6.1.2)."""
        path_mtu = ranged("path_mtu", path_mtu, 0, _c.IPC_PACKET_MAX)
        self.enter()
        try:
            check(_c.ipc_sa_set_path_mtu(self.c, _handle(handle), path_mtu), f"SA handle {handle:#x}, path MTU {path_mtu}")
        finally:
            self.leave()

    def overhead(self, handle, length, header=20):
        """Bytes that an SA and those around it add to an IP packet of `length` bytes, of which `header` stay outside; exact."""
        length = ranged("length", length, 0, _c.IPC_PACKET_MAX)
        return _c.ipc_sa_overhead(self.c, _handle(handle), length, ranged("header", header, 0, length))

    def clear_mtu(self, handle, header=20):
        """The longest IP packet (bytes) that an outbound SA and those around it turn into packets that fit their path MTUs; exact.

        `header` as in `overhead`. Shorter packets fit, too. 0: nothing fits. Without a path MTU the limit is 65535 bytes.
        """
        header = ranged("header", header, 0, _c.IPC_PACKET_MAX)
        if self.sa_info(handle).direction != "out":
            raise DriverError(f"SA handle {handle:#x}: inbound; accepted: an outbound SA")
        return _c.ipc_sa_clear_mtu(self.c, _handle(handle), header)

    def tick(self, double now):
        """Looks after lifetimes in seconds and idle timers; returns when to call again (seconds), None: nothing is due."""
        cdef uint64_t moment = nanoseconds(now)
        self.enter()
        cdef uint64_t next_one = _c.ipc_driver_tick(self.c, moment)
        self.leave()
        if next_one == 0xffffffffffffffff:
            return None
        cdef double then = next_one / 1e9
        while <uint64_t>(then * 1e9 + 0.5) < next_one:  # rounded down: who comes at this time would come too early
            then = nextafter(then, INFINITY)
        return then

    def delete_sa(self, handle):
        """Deletes an SA; its keys are wiped. A handle of an SA that is gone raises DriverError."""
        self.enter()
        try:
            check(_c.ipc_sa_delete(self.c, _handle(handle)), f"SA handle {handle:#x}")
        finally:
            self.leave()

    def sa_info(self, handle):
        """SaInfo of a handle."""
        cdef _c.ipc_sa_info s
        check(_c.ipc_sa_info_of(self.c, _handle(handle), &s), f"SA handle {handle:#x}")
        return SaInfo(s.handle, <uint32_t>s.handle, "out" if s.config.direction == _c.IPC_OUTBOUND else "in",
                      "tunnel" if s.config.mode == _c.IPC_TUNNEL else "transport", SERVICE_NAMES[s.config.service], s.config.spi,
                      address_object(s.config.source), address_object(s.config.destination),
                      network_object(s.config.family, s.config.inner_source, s.config.inner_source_mask),
                      network_object(s.config.family, s.config.inner_destination, s.config.inner_destination_mask), s.config.protocol,
                      s.config.source_port, s.config.destination_port, ENCRYPTION_NAMES[s.config.encryption],
                      INTEGRITY_NAMES[s.config.integrity], s.backend.decode(), s.config.filter, s.packets, s.bytes,
                      s.sequence, s.dropped, s.lost, s.last / 1e9, bool(s.expired), bool(s.offloaded), s.config.path_mtu)

    def sas(self):
        """SaInfo of all SAs, in the order of their indices."""
        cdef uint32_t n = _c.ipc_sa_list(self.c, NULL, 0)
        cdef _c.ipc_sa *handles = <_c.ipc_sa *>calloc(n or 1, sizeof(_c.ipc_sa))
        if handles == NULL:
            raise MemoryError
        try:
            _c.ipc_sa_list(self.c, handles, n)
            return [self.sa_info(handles[i]) for i in range(n)]
        finally:
            free(handles)

    def attach_nic(self, nic, enable_offload=True):
        """Attaches a Nic: SAs added from now on are offered to it. `enable_offload` False is the registry's EnableOffload = 0.

        Raises DriverError when one of them is attached already. Driver and Nic belong to the same thread.
        """
        from ipsec_core.driver._nic import _attach

        _attach(self, nic, bool(enable_offload))

    def detach_nic(self):
        """Lets the NIC go, if there is one; the SAs on it go on in software."""
        self.enter()
        _c.ipc_driver_detach_nic(self.c)
        self.leave()

    def enable_offload(self, enable):
        """The registry's EnableOffload while a NIC is attached; False: all SAs go on in software, True: new ones may be offloaded."""
        self.enter()
        try:
            if not _c.ipc_driver_has_nic(self.c):
                raise DriverError("enable_offload: no NIC is attached; accepted: after attach_nic")
            _c.ipc_driver_enable_offload(self.c, bool(enable))
        finally:
            self.leave()

    def spi_lookup(self, uint32_t spi, destination, uint8_t protocol=50):
        """Index of the inbound SA, or NO_SA."""
        return _c.ipc_spi_lookup(self.c, spi, address("destination", destination), protocol)

    def allocate_spi(self, destination):
        """An SPI that no inbound SA to `destination` uses."""
        return _c.ipc_spi_allocate(self.c, address("destination", destination))

    def _run(self, Burst burst, double now, bint out):
        cdef uint32_t i, passed
        cdef uint64_t ns = nanoseconds(now)
        burst.enter()
        try:
            self.enter()
            with nogil:
                for i in range(burst.c.count):
                    burst.c.time[i] = ns
                passed = _c.ipc_outbound(self.c, burst.c) if out else _c.ipc_inbound(self.c, burst.c)
            self.leave()
        finally:
            burst.leave()
        return passed

    def outbound(self, Burst burst, double now=0.0):
        """Runs IP packets from the host through the driver, in place; returns how many may be sent. `now` in seconds."""
        return self._run(burst, now, True)

    def inbound(self, Burst burst, double now=0.0):
        """Runs IP packets from the network through the driver, in place; returns how many go up. `now` in seconds."""
        return self._run(burst, now, False)

    def upcalls(self):
        """Takes all waiting upcalls, oldest first, as a list of Upcall."""
        cdef _c.ipc_upcall u
        out = []
        self.enter()
        try:
            while _c.ipc_upcall_next(self.c, &u):
                out.append(upcall_record(&u))
        finally:
            self.leave()
        return out

    def acquire_failed(self, uint32_t filter, source, destination):
        """The negotiation for a flow failed: drops its waiting packets and returns how many."""
        cdef _c.ipc_address here = address("source", source)
        cdef _c.ipc_address there = address("destination", destination)
        self.enter()
        cdef uint32_t dropped = _c.ipc_acquire_failed(self.c, filter, here, there)
        self.leave()
        return dropped

    def release(self, Burst burst, double now=0.0):
        """Fills the burst with waiting packets whose SA has come; returns how many. Run them through `outbound` before newer packets."""
        cdef uint64_t ns = nanoseconds(now)
        burst.enter()
        try:
            self.enter()
            _c.ipc_burst_reset(burst.c)
            _c.ipc_release(self.c, burst.c, ns)
            self.leave()
        finally:
            burst.leave()
        return burst.c.count

    def counters(self):
        """The counters by name: the nine IPsec statistics of IP Security Monitor, then the driver's own."""
        cdef _c.ipc_counters c
        _c.ipc_driver_counters(self.c, &c)
        cdef uint64_t *values = <uint64_t *>&c
        return {name: values[i] for i, (name, _) in enumerate(COUNTERS)}

    def status_counters(self, direction):
        """Packets per verdict in a direction ("out" or "in"), as a dict of status name -> packets."""
        cdef _c.ipc_counters c
        _c.ipc_driver_counters(self.c, &c)
        cdef uint64_t *values = &c.status_outbound[0] if _direction(direction) == _c.IPC_OUTBOUND else &c.status_inbound[0]
        return {Status(i).name: values[i] for i in range(_c.IPC_STATUS_COUNT)}

    def reset_counters(self):
        """All counters to zero but the active associations, as a restart of the Policy Agent does (KB 257225)."""
        self.enter()
        _c.ipc_driver_reset_counters(self.c)
        self.leave()

    def tables(self):
        """Sizes and load of the tables: spi_slots, spi_used, spi_overflow (SAs beyond the configured size), cache_slots (per direction)."""
        cdef _c.ipc_table_info t
        _c.ipc_driver_tables(self.c, &t)
        return {"spi_slots": t.spi_slots, "spi_used": t.spi_used, "spi_overflow": t.spi_overflow, "cache_slots": t.cache_slots}
