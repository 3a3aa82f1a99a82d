/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "master/key.h"

/*
 * The master key in n shares, of which any k give it back, and fewer say nothing about it: Shamir's
 * secret sharing (A. Shamir, "How to share a secret", CACM 22, 1979), for each byte, over GF(2^8) with
 * AES's polynomial x^8 + x^4 + x^3 + x + 1. The secret is the value at 0. The time of all arithmetic
 * depends on nothing secret.
 *
 * A share is one line of text, so that it can be printed, typed, and kept in a safe:
 *
 *   tdvol-share-1:SET:K:NUMBER:VALUE:CHECK
 *
 * SET (16 digits) is the same in all shares of one split: 8 bytes of a hash of the key, so that shares
 * which do not belong together are noticed, and a wrong result, too. VALUE has 64 digits. CHECK (8
 * digits) is for typing errors: the beginning of the SHA-256 of the text before it.
 */
#define SHARES_MAX     16u /* n */
#define SHARE_SET_LEN  8u
#define SHARE_TEXT_MAX 128u

struct share {
    uint8_t set[SHARE_SET_LEN];
    unsigned threshold; /* k, 1..SHARES_MAX */
    unsigned number;    /* 1..SHARES_MAX */
    struct secret value;
};
#define SHARE_INIT           \
    {                        \
        .value = SECRET_INIT \
    }
void share_wipe(struct share *share);
#define auto_share CLEANUP(share_wipe)

/* Splits a key into n shares, k of which give it back; 1 <= k <= n <= SHARES_MAX, else INVALID_ARGUMENT.
 * out: n texts, each ended by a zero byte. */
MUST_USE bool shares_split(const struct secret *key, unsigned k, unsigned n, struct secret *out,
                           struct error *err);

/* White space around the text is left out. INVALID_ARGUMENT says what is wrong; never what it holds. */
MUST_USE bool share_parse(const struct secret *text, struct share *out, struct error *err);

/* The key, from exactly as many shares as their threshold says, with different numbers and of one set:
 * else INVALID_ARGUMENT. INVALID_ARGUMENT, too, when the result is not what was split. */
MUST_USE bool shares_combine(const struct share *shares, unsigned n, struct secret *out,
                             struct error *err);
