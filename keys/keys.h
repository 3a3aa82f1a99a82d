/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "record/record.h"
#include "record/sealing.h"

/*
 * Records and sealed secrets, wherever they are kept: what the plugin wants of a key broker, by
 * meaning. The real ones are in keys/remote_keys.h; tests put their own in their place. Thread-safe.
 *
 * operation names the RPC, or the work in the background, on whose behalf it is done: it names the
 * fault point before each call. Records that come out were checked (record/check.h) and belong to
 * this driver.
 */
struct keys;

/* One page of the records located on this node. each returns false to stop with *err. */
struct keys_list {
    enum record_kind kind;
    const char *source_id; /* "" any */
    uint32_t page_size;    /* 0: the broker's limit */
    const char *token;     /* "" from the start; ABORTED when it is not known */
    bool (*each)(void *cookie, const struct record *record, struct error *err);
    void *cookie;
};
#define KEYS_TOKEN_MAX 512

struct keys_copy {
    const struct record *source; /* as read before the copy was made */
    enum record_kind kind;
    const char *id, *name;
};

enum keys_deletion { KEYS_BEGIN_DELETE, KEYS_CANCEL_DELETE, KEYS_FINISH_DELETE };

struct keys_ops {
    /* UNAVAILABLE while no key can be had. */
    MUST_USE bool (*status)(struct keys *keys, const char *operation, struct error *err);

    /* Create-if-same: ALREADY_EXISTS when there is another under this id. */
    MUST_USE bool (*create)(struct keys *keys, const char *operation, const char *volume_id,
                            const struct volume_spec *spec, struct record *out, struct error *err);

    /* ABORTED when the source changed since: the copy must be made again. */
    MUST_USE bool (*copy)(struct keys *keys, const char *operation, const struct keys_copy *copy,
                          struct record *out, struct error *err);

    /* NOT_FOUND also for one that is erased. */
    MUST_USE bool (*get)(struct keys *keys, const char *operation, const char *volume_id,
                         struct record *out, struct error *err);

    MUST_USE bool (*list)(struct keys *keys, const char *operation, const struct keys_list *list,
                          char next_token[static KEYS_TOKEN_MAX + 1], struct error *err);

    /* Takes the lease; the secret is sealed to the worker's public key. */
    MUST_USE bool (*open)(struct keys *keys, const char *operation, const char *volume_id,
                          bool read_only, const uint8_t public_key[static HPKE_PUBLIC_LEN],
                          struct record *out, struct sealed_secret *secret, struct error *err);

    /* One change to *record, which afterwards is the record as it is. */
    MUST_USE bool (*change)(struct keys *keys, const char *operation,
                            const struct record_change *change, struct record *record,
                            struct error *err);

    /* What an earlier boot of this node held is this boot's. FAILED_PRECONDITION when another node
     * holds it, or none. */
    MUST_USE bool (*take_over)(struct keys *keys, const char *operation, const char *volume_id,
                               struct record *out, struct error *err);

    MUST_USE bool (*remove)(struct keys *keys, const char *operation, const char *volume_id,
                            enum keys_deletion step, struct error *err);
};

struct keys {
    const struct keys_ops *ops;
};
