/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "base/uuid.h"
#include "keys/broker_client.h"
#include "record/record.h"

/*
 * Records and sealed secrets, from the broker. Converts between protobuf and the plain structs of
 * record/record.h, and takes nothing unchecked. operation names the RPC on whose behalf it is, as
 * for struct broker.
 */
struct keys {
    struct broker broker;
    const char *driver;
    const char *node;
    char boot_id[BOOT_ID_LEN];
};

enum key_kind { KEY_VOLUME = 1, KEY_SNAPSHOT = 2 };

/* A record with what only listings and the controller need. */
struct key_record {
    struct volume_record volume;
    enum key_kind kind;
    char name[129];
    char location[NODE_ID_MAX + 1];
    char source_id[VOLUME_ID_MAX + 1]; /* "" when it is no copy */
    char lease_node[NODE_ID_MAX + 1];  /* "" when it is not open */
    uint64_t created_ms;               /* since 1970 */
};

MUST_USE bool keys_status(const struct keys *keys, const char *operation, struct error *err);

/* Create-if-same: ALREADY_EXISTS when there is another under this id. */
MUST_USE bool keys_create(const struct keys *keys, const char *operation, const char *volume_id,
                          const char *name, const struct volume_spec *spec, struct key_record *out,
                          struct error *err);

struct key_copy {
    const struct key_record *source; /* as read before the copy was made */
    enum key_kind kind;
    const char *id, *name;
};
/* ABORTED when the source changed since: the copy must be made again. */
MUST_USE bool keys_copy(const struct keys *keys, const char *operation, const struct key_copy *copy,
                        struct key_record *out, struct error *err);

/* NOT_FOUND also for one that is erased. */
MUST_USE bool keys_get(const struct keys *keys, const char *operation, const char *volume_id,
                       struct key_record *out, struct error *err);

/* One page of the records located on this node. each returns false to stop with *err. */
struct key_list {
    enum key_kind kind;
    const char *source_id; /* "" any */
    uint32_t page_size;    /* 0: the broker's limit */
    const char *token;     /* "" from the start; ABORTED when it is not known */
    bool (*each)(void *cookie, const struct key_record *record, struct error *err);
    void *cookie;
};
#define KEY_TOKEN_MAX 512
MUST_USE bool keys_list(const struct keys *keys, const char *operation, const struct key_list *list,
                        char next_token[static KEY_TOKEN_MAX + 1], struct error *err);

/* Takes the lease; the secret is sealed to the worker's public key. */
MUST_USE bool keys_open(const struct keys *keys, const char *operation, const char *volume_id,
                        bool read_only, const uint8_t public_key[static HPKE_PUBLIC_LEN],
                        struct key_record *out, struct sealed_secret *secret, struct error *err);

/* One change to *record, which afterwards is the record as it is. */
MUST_USE bool keys_change(const struct keys *keys, const char *operation,
                          const struct record_change *change, struct key_record *record,
                          struct error *err);

enum key_deletion { KEY_BEGIN_DELETE, KEY_CANCEL_DELETE, KEY_FINISH_DELETE };
MUST_USE bool keys_delete(const struct keys *keys, const char *operation, const char *volume_id,
                          enum key_deletion step, struct error *err);
