"""C declarations of src_c/include/ipsec_core, names untouched."""

from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t


cdef extern from "ipsec_core/types.h" nogil:
    ctypedef uint64_t ipc_time
    ctypedef uint32_t ipc_ipv4
    ctypedef struct ipc_address:
        uint64_t high, low
    ipc_address ipc_address_of_ipv4(ipc_ipv4 address)
    bint ipc_address_is_ipv4(ipc_address a)
    bint ipc_address_is_none(ipc_address a)
    const char *IPC_VERSION
    const char *ipc_strerror(int code)


cdef extern from "ipsec_core/status.h" nogil:
    enum: IPC_STATUS_COUNT
    enum ipc_verdict:
        IPC_VERDICT_PASS, IPC_VERDICT_HELD, IPC_VERDICT_DROP
    const char *ipc_status_name(int status)
    const char *ipc_status_text(int status)
    ipc_verdict ipc_status_verdict(int status)


cdef extern from "ipsec_core/algorithm.h" nogil:
    struct ipc_encryption_info:
        const char *text
        uint8_t key_length, salt_length, iv_length, block_length, icv_length, windows_2000
    struct ipc_integrity_info:
        const char *text
        uint8_t key_length, salt_length, iv_length, icv_length, windows_2000
    const ipc_encryption_info *ipc_encryption_info_of "ipc_encryption_info"(int encryption)
    const ipc_integrity_info *ipc_integrity_info_of "ipc_integrity_info"(int integrity)


cdef extern from "ipsec_core/crypto.h" nogil:
    struct ipc_crypto_suite:
        uint8_t encryption, integrity, esn, ah
    struct ipc_crypto_backend_t "ipc_crypto_backend":
        const char *name
        const char *(*version)()
        int (*rank)(const ipc_crypto_suite *suite)
        size_t (*key_size)(const ipc_crypto_suite *suite)
    const ipc_crypto_backend_t *ipc_crypto_backend(unsigned index)
    const ipc_crypto_backend_t *ipc_crypto_choose(const ipc_crypto_suite *suite, const char *name)
    bint ipc_crypto_suite_valid(const ipc_crypto_suite *suite)


cdef extern from "ipsec_core/burst.h" nogil:
    enum: IPC_BURST_MAX
    enum: IPC_PACKET_MAX
    enum: IPC_BURST_HEADROOM
    uint32_t IPC_NO_SA
    struct ipc_burst:
        uint8_t *arena
        uint32_t *offset
        uint32_t *length
        uint32_t *sa
        uint32_t *filter
        ipc_time *time
        uint8_t *status
        uint32_t capacity, count, stride, max_packet
    int ipc_burst_create(uint32_t capacity, uint32_t max_packet, ipc_burst **out)
    void ipc_burst_destroy(ipc_burst *b)
    int ipc_burst_add(ipc_burst *b, const uint8_t *packet, uint32_t length, ipc_time time)
    void ipc_burst_reset(ipc_burst *b)


cdef extern from "ipsec_core/driver.h" nogil:
    enum: IPC_OUTBOUND
    enum: IPC_INBOUND
    enum: IPC_TRANSPORT
    enum: IPC_TUNNEL
    enum: IPC_SERVICE_ESP
    enum: IPC_SERVICE_AH
    enum: IPC_SERVICE_SOFT
    enum: IPC_DF_COPY
    enum: IPC_DF_SET
    enum: IPC_DF_CLEAR
    ctypedef struct ipc_driver:
        pass
    struct ipc_driver_config:
        uint32_t sa_hash_kb, cache_kb, spi_slots, cache_slots, hold_packets, hold_bytes, fragments
        uint8_t cache_off, matcher_off, no_default_exempt, nat_traversal
        uint8_t seed[16]
        const char *backend
    int ipc_driver_create(const ipc_driver_config *config, ipc_driver **out)
    void ipc_driver_destroy(ipc_driver *d)

    struct ipc_filter:
        ipc_address source, source_mask, destination, destination_mask, tunnel
        uint32_t reference
        uint16_t source_port, destination_port
        uint8_t protocol, family, direction, action
    int ipc_driver_set_filters(ipc_driver *d, const ipc_filter *filters, uint32_t count)
    uint32_t ipc_driver_filter_count(const ipc_driver *d)
    int ipc_driver_filter(const ipc_driver *d, uint32_t index, ipc_filter *filter, uint64_t *packets)

    ctypedef uint64_t ipc_sa
    struct ipc_sa_config:
        uint8_t direction, mode, service, encryption, integrity, esn, allow_unauthenticated, df
        uint32_t spi
        ipc_address source, destination
        ipc_address inner_source, inner_source_mask, inner_destination, inner_destination_mask
        uint16_t source_port, destination_port
        uint8_t protocol, family
        uint32_t filter, replay_window
        uint16_t encapsulation_source, encapsulation_destination
        ipc_address original_source, original_destination
        ipc_sa outer
        const uint8_t *encryption_key
        const uint8_t *integrity_key
        uint32_t encryption_key_length, integrity_key_length
        uint64_t soft_bytes, hard_bytes
        ipc_time soft_time, hard_time, idle, created
        uint32_t path_mtu
        uint64_t sequence
    struct ipc_sa_info:
        ipc_sa handle
        ipc_sa_config config
        const char *backend
        uint64_t packets, bytes, sequence, dropped, lost
        ipc_time last
        uint8_t expired, offloaded
    int ipc_sa_add(ipc_driver *d, const ipc_sa_config *config, ipc_sa *handle)
    int ipc_sa_delete(ipc_driver *d, ipc_sa handle)
    int ipc_sa_retire(ipc_driver *d, ipc_sa handle, ipc_time hard_time)
    int ipc_sa_set_path_mtu(ipc_driver *d, ipc_sa handle, uint32_t path_mtu)
    int ipc_sa_info_of "ipc_sa_info"(const ipc_driver *d, ipc_sa handle, ipc_sa_info *info)
    uint32_t ipc_sa_list(const ipc_driver *d, ipc_sa *handles, uint32_t max)
    uint32_t ipc_spi_lookup(const ipc_driver *d, uint32_t spi, ipc_address destination, uint8_t protocol)
    uint32_t ipc_spi_allocate(ipc_driver *d, ipc_address destination)
    uint32_t ipc_overhead(const ipc_sa_config *config, uint32_t length, uint32_t header)
    uint32_t ipc_sa_overhead(const ipc_driver *d, ipc_sa handle, uint32_t length, uint32_t header)
    ipc_time ipc_driver_tick(ipc_driver *d, ipc_time now)

    uint32_t ipc_outbound(ipc_driver *d, ipc_burst *burst)
    uint32_t ipc_inbound(ipc_driver *d, ipc_burst *burst)

    struct ipc_profile:
        uint64_t (*clock)() noexcept nogil
        uint64_t classify, crypt, commit
    void ipc_driver_profile(ipc_driver *d, ipc_profile *profile)

    enum: IPC_UPCALL_ACQUIRE
    enum: IPC_UPCALL_REKEY
    enum: IPC_UPCALL_EXPIRED
    enum: IPC_UPCALL_IDLE
    enum: IPC_UPCALL_MOVED
    struct ipc_upcall:
        ipc_time time
        ipc_sa sa
        uint32_t filter
        ipc_address peer, source, destination
        uint16_t source_port, destination_port
        uint8_t protocol, kind
    int ipc_upcall_next(ipc_driver *d, ipc_upcall *upcall)
    uint32_t ipc_acquire_failed(ipc_driver *d, uint32_t filter, ipc_address source, ipc_address destination)
    uint32_t ipc_release(ipc_driver *d, ipc_burst *burst, ipc_time now)

    struct ipc_counters:
        uint64_t status_outbound[1]
        uint64_t status_inbound[1]
    void ipc_driver_counters(const ipc_driver *d, ipc_counters *counters)
    void ipc_driver_reset_counters(ipc_driver *d)
    struct ipc_table_info:
        uint32_t spi_slots, spi_used, spi_overflow, cache_slots
    void ipc_driver_tables(const ipc_driver *d, ipc_table_info *info)
    # The X-macro list as data: names and texts in the order of the struct's members.
    unsigned ipc_counter_count()
    const char *ipc_counter_name(unsigned index)
    const char *ipc_counter_text(unsigned index)
    const char *ipc_counter_rule(unsigned index)


cdef extern from "ipsec_core/frag.h" nogil:
    int ipc_burst_fragment(const ipc_burst *b, uint32_t *next, ipc_burst *out, uint32_t mtu, uint32_t *identification)


cdef extern from "ipsec_core/icmp.h" nogil:
    enum: IPC_ICMP_MAX
    struct ipc_path_mtu:
        ipc_address source, destination, router
        uint32_t spi, mtu
        uint16_t source_port, destination_port
        uint8_t protocol
    int ipc_icmp_too_big(const uint8_t *packet, uint32_t length, uint32_t mtu, ipc_address source, uint8_t *out, uint32_t room)
    int ipc_icmp_path_mtu(const uint8_t *packet, uint32_t length, ipc_path_mtu *found)


cdef extern from "ipsec_core/path_mtu.h" nogil:
    enum: IPC_PATH_MTU_LEAST
    uint32_t ipc_sa_clear_mtu(const ipc_driver *d, ipc_sa handle, uint32_t header)
    uint32_t ipc_learn_path_mtu(ipc_driver *d, const ipc_path_mtu *found, uint32_t least, ipc_sa *handles, uint32_t max)
    int ipc_burst_too_big(const ipc_driver *d, const ipc_burst *b, uint32_t i, ipc_address source, uint8_t *out, uint32_t room)


cdef extern from "ipsec_core/steer.h" nogil:
    uint32_t ipc_shard_of_spi(uint32_t spi, uint32_t count)
    uint32_t ipc_steer(const uint8_t *packet, uint32_t length, int direction, int nat_traversal, uint32_t count)


cdef extern from "ipsec_core/nic.h" nogil:
    ctypedef struct ipc_nic:
        pass
    enum: IPC_NIC_CAPABILITY_COUNT
    enum: IPC_NIC_FAULT_COUNT
    enum: IPC_NIC_STATUS_COUNT
    enum: IPC_NIC_TASK_COUNT
    enum: IPC_NIC_CHECK_COUNT
    struct ipc_nic_statistics:
        uint64_t sas
    struct ipc_nic_config:
        uint32_t capabilities, sa_capacity, mtu, large_send_max, large_send_min_segments
    int ipc_nic_create(const ipc_nic_config *config, ipc_nic **out)
    void ipc_nic_destroy(ipc_nic *nic)
    void ipc_nic_config_of "ipc_nic_config"(const ipc_nic *nic, ipc_nic_config *config)
    uint32_t ipc_nic_capabilities(const ipc_nic *nic)
    bint ipc_nic_attached(const ipc_nic *nic)
    void ipc_nic_statistics_of "ipc_nic_statistics"(const ipc_nic *nic, ipc_nic_statistics *statistics)
    int ipc_nic_set_fault(ipc_nic *nic, unsigned fault, uint32_t every, unsigned status)
    int ipc_driver_attach_nic(ipc_driver *d, ipc_nic *nic, int enable_offload)
    void ipc_driver_detach_nic(ipc_driver *d)
    bint ipc_driver_has_nic(const ipc_driver *d)
    int ipc_driver_enable_offload(ipc_driver *d, int enable_offload)
    struct ipc_nic_task:
        uint16_t tasks, mss
    struct ipc_nic_cursor:
        uint32_t packet, offset
    int ipc_nic_transmit(ipc_nic *nic, ipc_burst *source, const ipc_nic_task *tasks, ipc_nic_cursor *at, ipc_burst *target)
    void ipc_nic_receive(ipc_nic *nic, const ipc_burst *b, uint8_t *checks)
    const char *ipc_nic_capability_name(unsigned index)
    const char *ipc_nic_capability_text(unsigned index)
    const char *ipc_nic_fault_name(unsigned index)
    const char *ipc_nic_fault_text(unsigned index)
    const char *ipc_nic_statistic_name(unsigned index)
    const char *ipc_nic_statistic_text(unsigned index)
    const char *ipc_nic_task_name(unsigned index)
    const char *ipc_nic_check_name(unsigned index)
