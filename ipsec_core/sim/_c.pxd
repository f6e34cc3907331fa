"""C declarations of src_c/include/ipsec_core/{trace,pcapng,world}.h, names untouched."""

from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t

from ipsec_core.driver._c cimport ipc_driver, ipc_ipv4, ipc_time, ipc_upcall


cdef extern from "ipsec_core/trace.h" nogil:
    enum: IPC_TRACE_ERROR_SIZE
    struct ipc_trace_frame:
        uint64_t time, offset
        uint32_t l3_length
        uint16_t ethertype
        uint8_t l2_length
        uint8_t from_ "from"
        uint8_t to
        uint32_t number
    struct ipc_trace_stats_t "ipc_trace_stats":
        uint64_t frames, mapped, unmapped, reassembled, padded, unsendable, bytes, duration
        uint32_t max_l3
    struct ipc_conversation:
        ipc_ipv4 a, b
        uint64_t packets, bytes
    struct ipc_station_pair:
        uint8_t a[6]
        uint8_t b[6]
        uint64_t frames, bytes
    struct ipc_host_map:
        ipc_ipv4 network, mask, address
        uint8_t computer, rewrite
    ctypedef struct ipc_trace:
        pass
    int ipc_trace_load(const char *path, ipc_trace **out, char *error)
    void ipc_trace_destroy(ipc_trace *t)
    size_t ipc_trace_conversations(const ipc_trace *t, ipc_conversation *out, size_t max)
    int64_t ipc_trace_stations(const ipc_trace *t, ipc_station_pair *out, size_t max)
    int ipc_trace_assign(ipc_trace *t, const uint8_t *mac, uint8_t computer)
    int ipc_trace_map(ipc_trace *t, const ipc_host_map *maps, size_t count, int reassemble)
    const ipc_trace_frame *ipc_trace_frames(const ipc_trace *t, size_t *count)
    const uint8_t *ipc_trace_bytes(const ipc_trace *t)
    void ipc_trace_stats_of "ipc_trace_stats"(const ipc_trace *t, ipc_trace_stats_t *stats)


cdef extern from "ipsec_core/pcapng.h" nogil:
    ctypedef struct ipc_pcapng:
        pass
    int ipc_pcapng_create(const char *path, const char *application, ipc_pcapng **out)
    int ipc_pcapng_interface(ipc_pcapng *p, const char *name, uint64_t speed)
    int ipc_pcapng_close(ipc_pcapng *p)


cdef extern from "ipsec_core/world.h" nogil:
    ctypedef struct ipc_world:
        pass
    struct ipc_world_config:
        ipc_time reaction
        uint32_t burst, max_packet
    struct ipc_node_config:
        ipc_driver *driver
        ipc_ipv4 address
        uint8_t mac[6]
    struct ipc_link_config:
        uint64_t rate
        ipc_time delay
        uint32_t mtu, queue
    int ipc_world_create(const ipc_world_config *config, ipc_world **out)
    void ipc_world_destroy(ipc_world *w)
    int ipc_world_add_node(ipc_world *w, const ipc_node_config *config)
    int ipc_world_add_link(ipc_world *w, uint32_t a, uint32_t b, const ipc_link_config *config)
    int ipc_world_set_trace(ipc_world *w, const ipc_trace *trace, uint32_t repeat, ipc_time pause, int asap)
    int ipc_world_capture(ipc_world *w, uint32_t link, ipc_pcapng *capture, uint32_t interface)
    enum: IPC_EVENT_TIMER
    enum: IPC_EVENT_UPCALL
    enum: IPC_EVENT_DATAGRAM
    enum: IPC_EVENT_STEP
    struct ipc_event:
        ipc_time time
        uint32_t node, kind
        uint64_t token
        ipc_upcall upcall
        const uint8_t *packet
        uint32_t length
    enum: IPC_RUN_EVENT
    enum: IPC_RUN_YIELD
    enum: IPC_RUN_IDLE
    enum: IPC_RUN_UNTIL
    int ipc_world_run(ipc_world *w, ipc_time until, uint64_t budget, ipc_event *event)
    ipc_time ipc_world_now(const ipc_world *w)
    int ipc_world_timer(ipc_world *w, ipc_time time, uint32_t node, uint64_t token)
    int ipc_world_step(ipc_world *w, ipc_time time, uint32_t node, uint64_t token)
    int ipc_world_send(ipc_world *w, uint32_t node, const uint8_t *packet, uint32_t length)
    struct ipc_node_counters:
        uint64_t packets_sent, bytes_sent, packets_delivered, bytes_delivered, frames_not_ipv4, packets_too_big
        uint64_t packets_fragmented, datagrams_reassembled, fragments_refused, ike_sent, ike_received
    struct ipc_link_counters:
        uint64_t frames, bytes, wire_bytes, busy_ns, queue_peak_bytes
    int ipc_world_node_counters(const ipc_world *w, uint32_t node, ipc_node_counters *out)
    int ipc_world_link_counters(const ipc_world *w, uint32_t link, int direction, ipc_link_counters *out)
    void ipc_world_progress(const ipc_world *w, uint64_t *sent, uint64_t *total)
