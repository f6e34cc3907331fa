/* The inline functions of spi_table.h under names that ctypes finds. */
#include "spi_table.h"

const int shim_full = IPC_E(FULL), shim_not_found = IPC_E(NOT_FOUND), shim_invalid = IPC_E(INVALID);

uint32_t shim_next(const struct ipc_spi_table *t, uint32_t *cursor, uint32_t spi, uint32_t word,
                   uint32_t tag) {
    return ipc_spi_next(t, cursor, spi, word, tag);
}

uint32_t shim_find(const struct ipc_spi_table *t, uint32_t spi, uint32_t word, uint32_t tag) {
    return ipc_spi_find(t, spi, word, tag);
}

uint32_t shim_word(const struct ipc_spi_table *t, uint64_t high, uint64_t low) {
    return ipc_spi_word(t, (ipc_address){high, low});
}

uint32_t shim_tag(uint8_t protocol, uint64_t high, uint64_t low) {
    return ipc_spi_tag(protocol, (ipc_address){high, low});
}
