#include "ipsec_core/pcapng.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define BUFFER_SIZE   (1u << 20)
#define MAX_FRAME     262144u /* the longest packet that libpcap and Wireshark read */
#define MAX_TEXT      65535u  /* option lengths have 16 bits */
#define MAX_INTERFACE 65536u

enum { BLOCK_INTERFACE = 1, BLOCK_PACKET = 6, BLOCK_SECTION = 0x0a0d0d0a };
enum {
    OPTION_END = 0,
    OPTION_USERAPPL = 4,
    OPTION_NAME = 2,
    OPTION_SPEED = 8,
    OPTION_TSRESOL = 9,
    OPTION_FLAGS = 2
};
enum { LINKTYPE_ETHERNET = 1, BYTE_ORDER_MAGIC = 0x1a2b3c4d };

struct ipc_pcapng {
    FILE *file;
    char *buffer;
    uint32_t interfaces;
    int error; /* errno of the first write that failed; all later ones are left out */
};

/* Files are little-endian on every machine, so that the same calls give the same bytes. */
static uint8_t *put16(uint8_t *p, uint32_t value) {
    p[0] = (uint8_t)value;
    p[1] = (uint8_t)(value >> 8);
    return p + 2;
}

static uint8_t *put32(uint8_t *p, uint32_t value) {
    return put16(put16(p, value), value >> 16);
}

static uint8_t *put64(uint8_t *p, uint64_t value) {
    return put32(put32(p, (uint32_t)value), (uint32_t)(value >> 32));
}

static uint32_t padded(uint32_t length) {
    return (length + 3) & ~3u;
}

static uint8_t *put_option(uint8_t *p, uint32_t code, uint32_t length) {
    return put16(put16(p, code), length);
}

static void write_bytes(ipc_pcapng *p, const void *bytes, size_t length) {
    if (length && !p->error && fwrite(bytes, 1, length, p->file) != length) p->error = errno ? errno : EIO;
}

/* A text option with its padding; nothing for an empty text. */
static void write_text(ipc_pcapng *p, uint32_t code, const char *text, uint32_t length) {
    static const uint8_t zero[3];
    uint8_t head[4];
    if (!length) return;
    put_option(head, code, length);
    write_bytes(p, head, sizeof head);
    write_bytes(p, text, length);
    write_bytes(p, zero, padded(length) - length);
}

static uint32_t text_size(uint32_t length) {
    return length ? 4 + padded(length) : 0;
}

static int result(const ipc_pcapng *p) {
    if (!p->error) return 0;
    errno = p->error;
    return IPC_E(IO);
}

int ipc_pcapng_create(const char *path, const char *application, ipc_pcapng **out) {
    size_t length = application ? strlen(application) : 0;
    if (length > MAX_TEXT) return IPC_E(INVALID);
    ipc_pcapng *p = calloc(1, sizeof *p);
    char *buffer = malloc(BUFFER_SIZE);
    if (!p || !buffer) {
        free(p);
        free(buffer);
        return IPC_E(NO_MEMORY);
    }
    p->buffer = buffer;
    p->file = fopen(path, "wb");
    if (!p->file) {
        int error = errno;
        free(p);
        free(buffer);
        errno = error;
        return IPC_E(IO);
    }
    setvbuf(p->file, p->buffer, _IOFBF, BUFFER_SIZE);

    uint32_t text = (uint32_t)length, size = 28 + text_size(text) + 4;
    uint8_t head[24], tail[8];
    put64(put32(put32(put32(put32(head, BLOCK_SECTION), size), BYTE_ORDER_MAGIC), 1), UINT64_MAX);
    put32(put_option(tail, OPTION_END, 0), size);
    write_bytes(p, head, sizeof head);
    write_text(p, OPTION_USERAPPL, application, text);
    write_bytes(p, tail, sizeof tail);
    *out = p;
    return 0;
}

int ipc_pcapng_interface(ipc_pcapng *p, const char *name, uint64_t speed) {
    size_t length = name ? strlen(name) : 0;
    if (length > MAX_TEXT) return IPC_E(INVALID);
    if (p->interfaces == MAX_INTERFACE) return IPC_E(FULL);
    uint32_t text = (uint32_t)length, size = 20 + text_size(text) + 12 + 8 + 4;
    uint8_t head[16], tail[12 + 8 + 4 + 4];
    put32(put16(put16(put32(put32(head, BLOCK_INTERFACE), size), LINKTYPE_ETHERNET), 0),
          0); /* snapshot length 0: no limit */
    uint8_t *at = put64(put_option(tail, OPTION_SPEED, 8), speed);
    at = put32(put_option(at, OPTION_TSRESOL, 1), 9);
    put32(put_option(at, OPTION_END, 0), size);
    write_bytes(p, head, sizeof head);
    write_text(p, OPTION_NAME, name, text);
    write_bytes(p, tail, sizeof tail);
    int code = result(p);
    return code ? code : (int)p->interfaces++;
}

int ipc_pcapng_frame(ipc_pcapng *p, uint32_t interface, ipc_time time, uint32_t flags, const uint8_t *head,
                     uint32_t head_length, const uint8_t *rest, uint32_t rest_length) {
    if (interface >= p->interfaces || head_length > MAX_FRAME || rest_length > MAX_FRAME - head_length)
        return IPC_E(INVALID);
    uint32_t length = head_length + rest_length, fill = padded(length) - length;
    uint32_t size = 32 + length + fill + (flags ? 12 : 0);
    uint8_t block[28], tail[3 + 12 + 4] = {0};
    uint8_t *at = put32(put32(put32(block, BLOCK_PACKET), size), interface);
    at = put32(put32(at, (uint32_t)(time >> 32)), (uint32_t)time);
    put32(put32(at, length), length);
    at = tail + fill;
    if (flags) at = put_option(put32(put_option(at, OPTION_FLAGS, 4), flags), OPTION_END, 0);
    at = put32(at, size);
    write_bytes(p, block, sizeof block);
    write_bytes(p, head, head_length);
    write_bytes(p, rest, rest_length);
    write_bytes(p, tail, (size_t)(at - tail));
    return result(p);
}

int ipc_pcapng_close(ipc_pcapng *p) {
    if (!p) return 0;
    if (fclose(p->file) != 0 && !p->error) p->error = errno ? errno : EIO;
    int code = result(p), error = errno;
    free(p->buffer);
    free(p);
    errno = error;
    return code;
}
