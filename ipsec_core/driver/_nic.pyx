# cython: freethreading_compatible=False
"""Nic: the Cython face of src_c/include/ipsec_core/nic.h."""

from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t

from enum import IntFlag

import numpy as np

from ipsec_core.driver cimport _c
from ipsec_core.driver._core cimport Burst, Driver, check, ranged

from ipsec_core.errors import DriverError


cdef str _plain(const char *name):
    """The name of an X-macro as people write it: ESP_TRIPLE_DES -> esp-triple-des."""
    return name.decode().lower().replace("_", "-")


NIC_CAPABILITIES = {_plain(_c.ipc_nic_capability_name(i)): _c.ipc_nic_capability_text(i).decode()
                    for i in range(_c.IPC_NIC_CAPABILITY_COUNT)}
NIC_FAULTS = {_plain(_c.ipc_nic_fault_name(i)): _c.ipc_nic_fault_text(i).decode() for i in range(_c.IPC_NIC_FAULT_COUNT)}
NIC_STATISTICS = {_c.ipc_nic_statistic_name(i).decode(): _c.ipc_nic_statistic_text(i).decode()
                  for i in range(sizeof(_c.ipc_nic_statistics) // sizeof(uint64_t))}

NicTask = IntFlag("NicTask", {_c.ipc_nic_task_name(i).decode(): 1 << i for i in range(_c.IPC_NIC_TASK_COUNT)})
NicTask.__doc__ = "What the host asks the NIC to do to a packet on its way out; from src_c/include/ipsec_core/nic.h."
NicCheck = IntFlag("NicCheck", {_c.ipc_nic_check_name(i).decode(): 1 << i for i in range(_c.IPC_NIC_CHECK_COUNT)})
NicCheck.__doc__ = "How the checksums of a received packet were; neither of a pair: not checked."

cdef tuple CAPABILITY_NAMES = tuple(NIC_CAPABILITIES)
cdef tuple FAULT_NAMES = tuple(NIC_FAULTS)
cdef unsigned TASKS = (1 << _c.IPC_NIC_TASK_COUNT) - 1


cdef uint32_t _bits(object names) except? 0:
    cdef uint32_t bits = 0
    for name in [names] if isinstance(names, str) else names:
        if name not in NIC_CAPABILITIES:
            raise DriverError(f"capabilities: {name!r} is unknown; accepted: {', '.join(CAPABILITY_NAMES)}")
        bits |= 1 << CAPABILITY_NAMES.index(name)
    return bits


cdef list _each(str field, object value, uint32_t count, object most):
    """One number a packet, of one for all or of a sequence."""
    # NicTask is a number that can be iterated over, too.
    values = [int(value)] * count if isinstance(value, int) else [int(v) for v in value]
    if len(values) != count:
        raise DriverError(f"{field}: {len(values)} values for {count} packets; accepted: one for all or one a packet")
    for v in values:
        ranged(field, v, 0, most)
    return values


cdef class Nic:
    """A network adapter that takes checksums, large sends, AH and ESP off the host (NDIS 5 task offload; KB 257225).

    `capabilities`: names of NIC_CAPABILITIES, None for all. It holds `sa_capacity` SAs (a pair is two), sends packets of up to `mtu`
    bytes (68..65535) and cuts large sends of up to `large_send_max` bytes of TCP data into no fewer than `large_send_min_segments`.
    `Driver.attach_nic` attaches it. A Nic belongs to the thread of its driver.

    `fault` is one of NIC_FAULTS: what each does to which counters says the table in `nic.h`. It befalls every `fault_every`-th packet
    of a direction; `fault_status` (1..7, 0: the one that fits the SA) is what "failed-status" reports. Settable between bursts.
    """

    def __cinit__(self, capabilities=None, *, sa_capacity=128, mtu=1500, large_send_max=65495, large_send_min_segments=2):
        cdef _c.ipc_nic_config config
        config.capabilities = _bits(NIC_CAPABILITIES if capabilities is None else capabilities)
        config.sa_capacity = ranged("sa_capacity", sa_capacity, 0, 0xffffffff)
        config.mtu = ranged("mtu", mtu, 68, _c.IPC_PACKET_MAX)
        config.large_send_max = ranged("large_send_max", large_send_max, 0, _c.IPC_PACKET_MAX)
        config.large_send_min_segments = ranged("large_send_min_segments", large_send_min_segments, 0, _c.IPC_PACKET_MAX)
        check(_c.ipc_nic_create(&config, &self.c), "Nic")
        self.every = 1

    def __dealloc__(self):
        _c.ipc_nic_destroy(self.c)

    cdef int enter(self) except -1:
        if self.busy:
            raise DriverError("Nic: in use by another thread; a Nic belongs to the thread of its driver")
        if not _c.ipc_nic_attached(self.c):
            self.driver = None
        if self.driver is not None:
            self.driver.enter()
        self.busy = True
        return 0

    cdef void leave(self) noexcept:
        self.busy = False
        if self.driver is not None:
            self.driver.leave()

    cdef int set_fault(self, unsigned fault, object every, unsigned status) except -1:
        self.enter()
        try:
            check(_c.ipc_nic_set_fault(self.c, fault, every, status), "Nic fault")
        finally:
            self.leave()
        self.fault_number, self.every, self.status_number = fault, every, status
        return 0

    @property
    def attached(self):
        return bool(_c.ipc_nic_attached(self.c))

    @property
    def capabilities(self):
        """What it does now, as a frozenset of names: nothing while EnableOffload is 0."""
        cdef uint32_t bits = _c.ipc_nic_capabilities(self.c)
        return frozenset(name for i, name in enumerate(CAPABILITY_NAMES) if bits >> i & 1)

    @property
    def sa_capacity(self):
        return self._config().sa_capacity

    @property
    def mtu(self):
        return self._config().mtu

    @property
    def large_send_max(self):
        return self._config().large_send_max

    @property
    def large_send_min_segments(self):
        return self._config().large_send_min_segments

    cdef _c.ipc_nic_config _config(self) noexcept:
        cdef _c.ipc_nic_config config
        _c.ipc_nic_config_of(self.c, &config)
        return config

    @property
    def fault(self):
        return FAULT_NAMES[self.fault_number]

    @fault.setter
    def fault(self, name):
        if name not in NIC_FAULTS:
            raise DriverError(f"fault: {name!r} is unknown; accepted: {', '.join(FAULT_NAMES)}")
        self.set_fault(FAULT_NAMES.index(name), self.every, self.status_number)

    @property
    def fault_every(self):
        return self.every

    @fault_every.setter
    def fault_every(self, every):
        self.set_fault(self.fault_number, ranged("fault_every", every, 1, 0xffffffff), self.status_number)

    @property
    def fault_status(self):
        return self.status_number

    @fault_status.setter
    def fault_status(self, status):
        self.set_fault(self.fault_number, self.every, ranged("fault_status", status, 0, _c.IPC_NIC_STATUS_COUNT - 1))

    def statistics(self):
        """The NIC's own figures by name; NIC_STATISTICS says what each counts."""
        cdef _c.ipc_nic_statistics s
        _c.ipc_nic_statistics_of(self.c, &s)
        cdef uint64_t *values = <uint64_t *>&s
        return {name: values[i] for i, name in enumerate(NIC_STATISTICS)}

    def transmit(self, Burst source, Burst target, tasks=0, mss=0, cursor=None):
        """Replaces the content of `target` by the packets of `source`, with their tasks done; the packets are the same with any NIC.

        `tasks` are NicTask flags, `mss` bytes of TCP data in a segment of a large send (0: what the MTU leaves): one value for all
        packets or one a packet. Packets that a driver did not let pass are left out; those longer than the MTU get the status
        EXCEEDS_MTU in `source`. Returns None when all are done, else the cursor to call again with when `target` has been sent.
        """
        cdef _c.ipc_nic_task array[_c.IPC_BURST_MAX]
        cdef _c.ipc_nic_cursor at
        cdef uint32_t i
        cdef int added
        if source is target:
            raise DriverError("transmit: source and target are one burst; accepted: two")
        if target.c.max_packet < self.mtu:
            raise DriverError(f"transmit: target takes packets of {target.c.max_packet} bytes; accepted: the NIC's MTU, {self.mtu}, or more")
        for i, (task, size) in enumerate(zip(_each("tasks", tasks, source.c.count, TASKS), _each("mss", mss, source.c.count, 0xffff))):
            array[i].tasks, array[i].mss = task, size
        at.packet, at.offset = (0, 0) if cursor is None else cursor
        self.enter()
        try:
            source.enter()
            try:
                target.enter()
                with nogil:
                    _c.ipc_burst_reset(target.c)
                    added = _c.ipc_nic_transmit(self.c, source.c, array, &at, target.c)
                target.leave()
            finally:
                source.leave()
            check(added, "transmit")
        finally:
            self.leave()
        return None if at.packet >= source.c.count else (at.packet, at.offset)

    def receive(self, Burst burst):
        """Verifies the checksums of received packets: NicCheck flags of each, as a uint8 array."""
        checks = np.zeros(burst.c.count, np.uint8)
        cdef uint8_t[::1] view = checks
        if burst.c.count == 0:
            return checks
        self.enter()
        try:
            burst.enter()
            with nogil:
                _c.ipc_nic_receive(self.c, burst.c, &view[0])
            burst.leave()
        finally:
            self.leave()
        return checks


def _attach(Driver driver, object nic, bint enable_offload):
    """What Driver.attach_nic does."""
    if not isinstance(nic, Nic):
        raise DriverError(f"nic: {type(nic).__name__} is none; accepted: a Nic")
    cdef Nic adapter = nic
    driver.enter()
    try:
        if adapter.busy:
            raise DriverError("Nic: in use by another thread; a Nic belongs to the thread of its driver")
        if _c.ipc_nic_attached(adapter.c):
            raise DriverError("nic: attached already; accepted: a Nic that no driver has")
        if _c.ipc_driver_has_nic(driver.c):
            raise DriverError("nic: the driver has one already; accepted: after detach_nic")
        check(_c.ipc_driver_attach_nic(driver.c, adapter.c, enable_offload), "attach_nic")
        adapter.driver = driver
    finally:
        driver.leave()
