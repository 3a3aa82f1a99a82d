/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "blockd/relay.h"
#include "record/record.h"
#include "record/sealing.h"

/*
 * Records and sealed secrets: what the plugin needs from a key broker, by meaning and without the
 * transport. The plugin uses keys/remote_keys.h; tests put fakes in its place. Thread-safe.
 *
 * operation is the RPC or the background job that needs the work; it names the fault point before
 * each call. Records that come out have been checked (record/check.h) and belong to this driver.
 */
struct keys;

/* One page of the records located on this node. each() returns false to stop with *err. */
struct keys_list {
    enum record_kind kind;
    const char *source_id; /* "" any */
    uint32_t page_size;    /* 0: the broker's limit */
    const char *token;     /* "" from the start; ABORTED when the broker does not know it */
    bool (*each)(void *cookie, const struct record *record, struct error *err);
    void *cookie;
};
#define KEYS_TOKEN_MAX 512

struct keys_copy {
    const struct record *source; /* as read before the raw space was copied */
    enum record_kind kind;
    const char *id, *name;
    uint64_t size_bytes;      /* 0: that of the source */
    enum workqueue workqueue; /* 0: that of the source */
};

struct keys_open {
    const char *volume_id;
    bool read_only;
    const uint8_t *public_key; /* HPKE_PUBLIC_LEN bytes, the worker's */
    const struct relay *relay;
};

enum keys_deletion { KEYS_BEGIN_DELETE, KEYS_CANCEL_DELETE, KEYS_FINISH_DELETE };

struct keys_ops {
    /* UNAVAILABLE while the broker cannot release keys. */
    MUST_USE bool (*status)(struct keys *keys, const char *operation, struct error *err);

    /* Create-if-same: an existing record with an equal spec is returned. ALREADY_EXISTS when the
     * record of this id has another spec. */
    MUST_USE bool (*create)(struct keys *keys, const char *operation, const char *volume_id,
                            const struct volume_spec *spec, struct record *out, struct error *err);

    /*
     * Before somebody else is asked for a copy of the source, who answers a repeated request with the
     * copy of the first one. *source becomes the source's record, with the version that it had at the
     * first request: when it has changed since, copy fails with ABORTED. end_copy: nothing is left of
     * the copy. A copy that succeeds ends by itself. Of copy, only kind and name are read.
     */
    MUST_USE bool (*begin_copy)(struct keys *keys, const char *operation, const char *source_id,
                                const struct keys_copy *copy, struct record *source,
                                struct error *err);
    MUST_USE bool (*end_copy)(struct keys *keys, const char *operation, const char *source_id,
                              const struct keys_copy *copy, struct error *err);

    /* ABORTED when the source's record has changed since it was read: make the copy again. */
    MUST_USE bool (*copy)(struct keys *keys, const char *operation, const struct keys_copy *copy,
                          struct record *out, struct error *err);

    /* NOT_FOUND also for an erased record, then with the reason RECORD_ERASED_REASON. Here and below: relay is the worker's, for which the
     * question is asked; NULL: the plugin asks for itself. */
    MUST_USE bool (*get)(struct keys *keys, const char *operation, const char *volume_id,
                         const struct relay *relay, struct record *out, struct error *err);

    MUST_USE bool (*list)(struct keys *keys, const char *operation, const struct keys_list *list,
                          char next_token[static KEYS_TOKEN_MAX + 1], struct error *err);

    /* Takes the lease; the secret is sealed to the worker's public key. */
    MUST_USE bool (*open)(struct keys *keys, const char *operation, const struct keys_open *open,
                          struct record *out, struct sealed_secret *secret, struct error *err);

    /* What the broker shows of itself, over the nonce of a worker, and the key with which the broker signs. */
    MUST_USE bool (*evidence)(struct keys *keys, const char *operation, const struct relay *relay,
                              const uint8_t key_sha256[static KEY_SHA256_LEN],
                              struct broker_evidence *out, struct error *err);

    /* Makes one change; *record becomes the record after it. DENIED with the reason ChangeProof when
     * only a worker may ask for it. */
    MUST_USE bool (*change)(struct keys *keys, const char *operation, const struct relay *relay,
                            const struct record_change *change, struct record *record,
                            struct error *err);

    /* This boot goes on having the volume open. FAILED_PRECONDITION with LEASE_LOST_REASON when it has
     * not. */
    MUST_USE bool (*renew)(struct keys *keys, const char *operation, const char *volume_id,
                           const struct relay *relay, struct record *out, struct error *err);

    /* Gives this boot the lease or format attempt that an earlier boot of this node held.
     * FAILED_PRECONDITION when another node holds it, or none does. */
    MUST_USE bool (*take_over)(struct keys *keys, const char *operation, const char *volume_id,
                               struct record *out, struct error *err);

    MUST_USE bool (*remove)(struct keys *keys, const char *operation, const char *volume_id,
                            enum keys_deletion step, struct error *err);

    /* The records of any number of ids, as far as they exist, in any order. each may end the call with
     * an error. */
    MUST_USE bool (*find)(struct keys *keys, const char *operation, const char *const *ids,
                          size_t n,
                          bool (*each)(void *cookie, const struct record *record,
                                       struct error *err),
                          void *cookie, struct error *err);

    /* Gives the record of a READY volume a next secret, unless it has one. DENIED when this node does not
     * have it open for writing, and may not rotate in general. */
    MUST_USE bool (*rotate)(struct keys *keys, const char *operation, const char *volume_id,
                            struct record *out, struct error *err);

    /* For the controller: publish when the storage attaches the volume; retire before it detaches
     * it, and unpublish when it has done so. Why is in proto/keybroker.proto. Each expects the epoch of the nodes in *record,
     * as it was read, and makes *record the record after the change. ABORTED when the nodes changed
     * meanwhile: read the record again. Errors as in proto/keybroker.proto. */
    MUST_USE bool (*publish)(struct keys *keys, const char *operation, const char *node_id,
                             bool read_only, struct record *record, struct error *err);
    MUST_USE bool (*retire)(struct keys *keys, const char *operation, const char *node_id,
                            struct record *record, struct error *err);
    MUST_USE bool (*unpublish)(struct keys *keys, const char *operation, const char *node_id,
                               struct record *record, struct error *err);
};

struct keys {
    const struct keys_ops *ops;
};
