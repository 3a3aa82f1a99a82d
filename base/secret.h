/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "base/error.h"

#include <stddef.h>

/*
 * Owns key bytes. Pages are locked, left out of core dumps, and wiped before they are released.
 * Passed by pointer only; never copied, printed or compared by memcmp.
 */
struct secret {
    uint8_t *bytes;
    size_t len;    /* in bytes */
    size_t mapped; /* in bytes, a multiple of the page size */
};

#define SECRET_INIT   \
    {                 \
        .bytes = NULL \
    }
#define SECRET_LEN_MAX ((size_t)1024 * 1024)

/* Allocates len zero bytes (1..SECRET_LEN_MAX), empty in forked children (MADV_WIPEONFORK).
 * Fails when the pages cannot be locked: RESOURCE_EXHAUSTED, naming RLIMIT_MEMLOCK. */
MUST_USE bool secret_alloc(struct secret *out, size_t len, struct error *err);

/* The same, but a forked child keeps the content: for tdvol-blockd's sealing key only. A child does
 * not inherit the lock, but the shared page stays locked while the parent has it, too. */
MUST_USE bool secret_alloc_inherited(struct secret *out, size_t len, struct error *err);

/* In a child that shall not have it: the content of secret_alloc_inherited is gone for this process. The
 * struct must not be used afterwards. */
void secret_forget_inherited(void);

/* Allocates len bytes from the kernel's random source. */
MUST_USE bool secret_random(struct secret *out, size_t len, struct error *err);

/* Wipes and releases. Safe on SECRET_INIT and on a secret already wiped. */
void secret_wipe(struct secret *s);

/* The time depends only on the length. For MACs, and for digests that an attacker chooses. */
MUST_USE bool bytes_are_equal(const void *a, const void *b, size_t len);

/* Wipes memory that is not a struct secret. The compiler cannot remove the wiping. */
void bytes_wipe(void *bytes, size_t len);

/* Once per process, before secrets exist: no core dumps, not ptrace-able (PR_SET_DUMPABLE 0),
 * RLIMIT_CORE 0, mlockall(MCL_CURRENT|MCL_FUTURE|MCL_ONFAULT) where RLIMIT_MEMLOCK allows it
 * (else only struct secret is locked; returns true), umask 077, SIGPIPE ignored, M_PERTURB. */
MUST_USE bool secret_harden_process(struct error *err);

#define auto_secret CLEANUP(secret_wipe)

/* Ownership moves to the caller; the slot is empty afterwards. */
static inline struct secret secret_take(struct secret *s)
{
    struct secret taken = *s;

    *s = (struct secret)SECRET_INIT;
    return taken;
}
