/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* What C lacks: attributes, cleanup of locals, moving ownership. */

#include <stddef.h>
#include <stdint.h>

#define ARRAY_LEN(a)     (sizeof(a) / sizeof((a)[0]))
#define MUST_USE         __attribute__((warn_unused_result))
#define PRINTF(fmt, arg) __attribute__((format(printf, fmt, arg)))
#define UNUSED           __attribute__((unused))

/* Runs destroy(&variable) when the variable leaves scope, on every path. */
#define CLEANUP(destroy) __attribute__((cleanup(destroy)))
#define auto_free        CLEANUP(free_at)
#define auto_close       CLEANUP(close_at)

void free_at(void *pointer_to_pointer); /* frees *p and sets it to NULL; keeps errno */
void close_at(int *fd);                 /* closes *fd when >= 0 and sets it to -1; keeps errno */

/* Ownership moves to the caller; the slot is empty afterwards. */
#define TAKE_PTR(p)                        \
    __extension__({                        \
        __auto_type take_slot_ = &(p);     \
        __typeof__(p) take_ = *take_slot_; \
        *take_slot_ = NULL;                \
        take_;                             \
    })
#define TAKE_FD(fd)              \
    __extension__({              \
        int *take_slot_ = &(fd); \
        int take_ = *take_slot_; \
        *take_slot_ = -1;        \
        take_;                   \
    })

/* For texts in foreign structs whose fields lack const, such as protobuf-c's requests. Nobody writes through
 * them. */
static inline char *unconst(const char *text)
{
    return (char *)(uintptr_t)text;
}

/* step is a power of two */
static inline uint64_t round_up_u64(uint64_t value, uint64_t step)
{
    return (value + step - 1) & ~(step - 1);
}

/* A copy with NUL at its end; strndup() wants one in its source already. NULL: no memory. The caller
 * frees it. */
char *text_of_bytes(const void *bytes, size_t len);
