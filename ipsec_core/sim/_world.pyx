"""Trace, Capture and VirtualTime: the Cython face of src_c/include/ipsec_core/{trace,pcapng,world}.h.

Times are integers in nanoseconds here; the friendly World is in ipsec_core.sim.world.
"""

from libc.errno cimport errno
from libc.stdint cimport uint8_t, uint32_t, uint64_t, UINT64_MAX
from libc.stdlib cimport calloc, free
from libc.string cimport memcpy

import os
from ipaddress import IPv4Address

from ipsec_core.driver cimport _c as driver_c
from ipsec_core.driver._core cimport Driver, check, upcall_record
from ipsec_core.sim cimport _c

from ipsec_core.errors import ScenarioError, TrafficError

NEVER = UINT64_MAX


cdef class Trace:
    """A capture file (pcap, pcapng) in memory. Raises TrafficError with one line when it cannot be read."""

    cdef _c.ipc_trace *c
    cdef readonly str path

    def __cinit__(self, path):
        cdef char error[_c.IPC_TRACE_ERROR_SIZE]
        self.path = os.fspath(path)
        encoded = os.fsencode(path)
        cdef const char *name = encoded
        cdef int rc
        with nogil:
            rc = _c.ipc_trace_load(name, &self.c, error)
        if rc < 0:
            raise TrafficError(f"{self.path}: {(<bytes>error).decode(errors='replace')}")

    def __dealloc__(self):
        _c.ipc_trace_destroy(self.c)

    def conversations(self, int most=64):
        """Pairs of IPv4 hosts, most packets first: a list of (a, b, packets, bytes)."""
        cdef _c.ipc_conversation *found = <_c.ipc_conversation *>calloc(most, sizeof(_c.ipc_conversation))
        if found == NULL:
            raise MemoryError
        cdef size_t count = min(_c.ipc_trace_conversations(self.c, found, most), <size_t>most)
        out = [(IPv4Address(found[i].a), IPv4Address(found[i].b), found[i].packets, found[i].bytes) for i in range(count)]
        free(found)
        return out

    def stations(self, int most=64):
        """Pairs of MAC addresses, most frames first: a list of (a, b, frames, bytes), addresses as 6 bytes."""
        cdef _c.ipc_station_pair *found = <_c.ipc_station_pair *>calloc(most, sizeof(_c.ipc_station_pair))
        if found == NULL:
            raise MemoryError
        try:
            count = min(check(<int>_c.ipc_trace_stations(self.c, found, most), self.path), most)
            return [(<bytes>found[i].a[:6], <bytes>found[i].b[:6], found[i].frames, found[i].bytes) for i in range(count)]
        finally:
            free(found)

    def assign(self, bytes mac, uint8_t computer):
        """Frames that are not IPv4 and come from this MAC address belong to a computer (index). Before `map`."""
        check(_c.ipc_trace_assign(self.c, mac, computer), self.path)

    def map(self, hosts, bint reassemble):
        """Builds the list of frames to send. `hosts`: a sequence of (IPv4Network, computer index, new IPv4Address or None). Once a trace."""
        hosts = list(hosts)
        cdef _c.ipc_host_map *maps = <_c.ipc_host_map *>calloc(len(hosts) or 1, sizeof(_c.ipc_host_map))
        cdef size_t count = len(hosts)
        cdef int rc
        if maps == NULL:
            raise MemoryError
        try:
            for i, (network, computer, address) in enumerate(hosts):
                maps[i].network = int(network.network_address)
                maps[i].mask = int(network.netmask)
                maps[i].computer = computer
                maps[i].rewrite = address is not None
                maps[i].address = int(address) if address is not None else 0
            with nogil:
                rc = _c.ipc_trace_map(self.c, maps, count, reassemble)
            check(rc, self.path)
        finally:
            free(maps)

    def stats(self):
        """Counts of the capture and of the list to send, as a dict (see struct ipc_trace_stats)."""
        cdef _c.ipc_trace_stats_t s
        _c.ipc_trace_stats_of(self.c, &s)
        return dict(s)

    def frames(self):
        """The list to send as (time ns, from, to, ethertype, layer-3 bytes, number in the capture) tuples; for tests and tools."""
        cdef size_t count
        cdef const _c.ipc_trace_frame *f = _c.ipc_trace_frames(self.c, &count)
        cdef const uint8_t *data = _c.ipc_trace_bytes(self.c)
        return [(f[i].time, f[i].from_, f[i].to, f[i].ethertype,
                 <bytes>data[f[i].offset + f[i].l2_length:f[i].offset + f[i].l2_length + f[i].l3_length], f[i].number)
                for i in range(count)]


cdef class Capture:
    """A pcapng file being written. `close` raises TrafficError when any byte did not reach the file."""

    cdef _c.ipc_pcapng *c
    cdef readonly str path

    def __cinit__(self, path, application):
        self.path = os.fspath(path)
        encoded, name = os.fsencode(path), application.encode()
        if _c.ipc_pcapng_create(encoded, name, &self.c) < 0:
            raise TrafficError(f"{self.path}: {os.strerror(errno)}")

    def __dealloc__(self):
        if self.c != NULL:
            _c.ipc_pcapng_close(self.c)

    def interface(self, name, uint64_t speed):
        """Adds an Ethernet interface (speed in bits/s) and returns its number."""
        encoded = name.encode()
        return check(_c.ipc_pcapng_interface(self.c, encoded, speed), self.path)

    def close(self):
        cdef _c.ipc_pcapng *c = self.c
        self.c = NULL
        if c != NULL and _c.ipc_pcapng_close(c) < 0:
            raise TrafficError(f"{self.path}: could not be written whole (disk full?)")


cdef class VirtualTime:
    """The world's data plane and its queue of control events."""

    cdef _c.ipc_world *c
    cdef list kept  # drivers, trace and captures that the C side points at

    def __cinit__(self, uint64_t reaction, uint32_t burst=0, uint32_t max_packet=0):
        cdef _c.ipc_world_config config
        config.reaction = reaction
        config.burst = burst
        config.max_packet = max_packet
        check(_c.ipc_world_create(&config, &self.c), "world")
        self.kept = []

    def __dealloc__(self):
        _c.ipc_world_destroy(self.c)

    def add_node(self, Driver driver, address, bytes mac):
        cdef _c.ipc_node_config config
        cdef const uint8_t *m = mac
        if len(mac) != 6:
            raise ScenarioError(f"MAC address of {len(mac)} bytes; accepted: 6")
        config.driver = driver.c
        config.address = int(address)
        memcpy(config.mac, m, 6)
        self.kept.append(driver)
        return check(_c.ipc_world_add_node(self.c, &config), "node")

    def add_link(self, uint32_t a, uint32_t b, uint64_t rate, uint64_t delay, uint32_t mtu, uint32_t queue):
        cdef _c.ipc_link_config config
        config.rate = rate
        config.delay = delay
        config.mtu = mtu
        config.queue = queue
        return check(_c.ipc_world_add_link(self.c, a, b, &config), "link")

    def set_trace(self, Trace trace, uint32_t repeat, uint64_t pause, bint asap):
        check(_c.ipc_world_set_trace(self.c, trace.c, repeat, pause, asap), trace.path)
        self.kept.append(trace)

    def capture(self, uint32_t link, Capture capture, uint32_t interface):
        check(_c.ipc_world_capture(self.c, link, capture.c, interface), capture.path)
        self.kept.append(capture)

    def stop_capture(self, uint32_t link):
        check(_c.ipc_world_capture(self.c, link, NULL, 0), "link")

    @property
    def now(self):
        return _c.ipc_world_now(self.c)

    def run(self, uint64_t until, uint64_t budget):
        """Runs until a control event is due and returns it: ("timer", node, token), ("step", node, token),
        ("upcall", node, Upcall), ("datagram", node, bytes); or ("yield",), ("idle",), ("until",).
        The GIL is released while packets move."""
        cdef _c.ipc_event e
        cdef int rc
        with nogil:
            rc = _c.ipc_world_run(self.c, until, budget, &e)
        check(rc, "world")
        if rc == _c.IPC_RUN_YIELD:
            return ("yield",)
        if rc == _c.IPC_RUN_IDLE:
            return ("idle",)
        if rc == _c.IPC_RUN_UNTIL:
            return ("until",)
        if e.kind == _c.IPC_EVENT_TIMER:
            return ("timer", e.node, e.token)
        if e.kind == _c.IPC_EVENT_STEP:
            return ("step", e.node, e.token)
        if e.kind == _c.IPC_EVENT_UPCALL:
            return ("upcall", e.node, upcall_record(&e.upcall))
        return ("datagram", e.node, <bytes>e.packet[:e.length])

    def timer(self, uint64_t time, uint32_t node, uint64_t token):
        check(_c.ipc_world_timer(self.c, time, node, token), "timer")

    def step(self, uint64_t time, uint32_t node, uint64_t token):
        """As a timer, but the world is not idle before it is due."""
        check(_c.ipc_world_step(self.c, time, node, token), "step")

    def send(self, uint32_t node, bytes packet):
        """The node sends an IPv4 packet now, through its driver."""
        check(_c.ipc_world_send(self.c, node, packet, len(packet)), "send")

    def node_counters(self, uint32_t node):
        cdef _c.ipc_node_counters n
        check(_c.ipc_world_node_counters(self.c, node, &n), "node")
        return dict(n)

    def link_counters(self, uint32_t link, int direction):
        cdef _c.ipc_link_counters n
        check(_c.ipc_world_link_counters(self.c, link, direction, &n), "link")
        return dict(n)

    def progress(self):
        """(packets taken from the traffic so far, packets in all)."""
        cdef uint64_t sent, total
        _c.ipc_world_progress(self.c, &sent, &total)
        return sent, total
