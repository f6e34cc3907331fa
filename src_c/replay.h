/*
 * Anti-replay window (RFC 2401 appendix C; block-wise as RFC 6479): a ring of bits at least one word longer
 * than the window, so that moving the right edge clears whole words and never shifts. The window itself is
 * exact: number `top - window` is left of it. Private.
 */
#ifndef IPC_REPLAY_H
#define IPC_REPLAY_H

#include <stdint.h>

struct ipc_window {
    uint64_t top;   /* highest number seen, 0: none */
    uint64_t *bits; /* mask + 1 words */
    uint16_t size;  /* 0: no check */
    uint16_t mask;  /* words of the ring - 1 */
    uint32_t reserved;
    uint64_t small[2]; /* the ring of a window of up to 64 */
};

/* Words of the ring for a window: power of two, at least size + 64 bits. */
static inline uint32_t ipc_window_words(uint32_t size) {
    uint32_t words = 2;
    while (words * 64 < size + 64)
        words *= 2;
    return words;
}

static inline int ipc_window_check(const struct ipc_window *w, uint64_t number) {
    if (number == 0) /* RFC 2406 3.3.3: the first packet has number 1 */
        return 0;
    if (w->size == 0 || number > w->top) return 1;
    if (w->top - number >= w->size) return 0;
    return !(w->bits[number >> 6 & w->mask] >> (number & 63) & 1);
}

/* RFC 4303 A2.2: the 64-bit number that a received low half stands for; 0 (never valid) when it would lie
 * before the first one. */
static inline uint64_t ipc_window_extend(const struct ipc_window *w, uint32_t low) {
    uint64_t high = w->top >> 32, bottom = w->top - (w->size - 1u);
    if ((uint32_t)w->top >= w->size - 1u) return (high + (low < (uint32_t)bottom)) << 32 | low;
    if (low < (uint32_t)bottom) return high << 32 | low;
    return high ? (high - 1) << 32 | low : 0;
}

/* Numbers that fall off the left edge when the right edge moves to `top`: how many were never marked. */
static inline uint64_t ipc_window_count_lost(const struct ipc_window *w, uint64_t top) {
    uint64_t lost = 0;
    uint64_t from = w->top >= w->size ? w->top - w->size + 1 : 1;
    uint64_t to = top >= w->size ? top - w->size : 0;
    uint64_t seen_to = to < w->top ? to : w->top;
    for (uint64_t number = from; number <= seen_to; number++)
        lost += !(w->bits[number >> 6 & w->mask] >> (number & 63) & 1);
    if (to > w->top) lost += to - w->top;
    return lost;
}

/* Marks a number that passed ipc_window_check, after its ICV was found good; adds to `*lost` the numbers that
 * leave the window unseen. */
static inline void ipc_window_advance(struct ipc_window *w, uint64_t number, uint64_t *lost) {
    if (w->size == 0) {
        w->top = number > w->top ? number : w->top;
        return;
    }
    if (__builtin_expect(number == w->top + 1, 1)) {
        if (number > w->size) {
            uint64_t left = number - w->size;
            *lost += !(w->bits[left >> 6 & w->mask] >> (left & 63) & 1);
        }
        if ((number & 63) == 0) w->bits[number >> 6 & w->mask] = 0;
        w->top = number;
    } else if (number > w->top) {
        *lost += ipc_window_count_lost(w, number);
        uint64_t first = (w->top >> 6) + 1, last = number >> 6;
        if (last - first > w->mask && last >= first) first = last - w->mask;
        for (uint64_t word = first; word <= last; word++)
            w->bits[word & w->mask] = 0;
        w->top = number;
    }
    w->bits[number >> 6 & w->mask] |= UINT64_C(1) << (number & 63);
}

#endif
