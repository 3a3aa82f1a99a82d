/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "store/store_proof.h"

/*
 * How the store lies in etcd: the names of its keys, and the bytes of its values. All keys begin
 * with "tdvol/". etcd is not trusted: what is read here may be anything.
 *
 *   tdvol/format                          version and state of the store, text
 *   tdvol/ring                            version and bytes of struct store_ring; in version 2 alone
 *   tdvol/record/TENANT 0 DRIVER 0 VOLUME proof, record
 *   tdvol/page/TENANT 0 DRIVER 0 VOLUME   (empty) for each 256th record: see struct etcd_place
 *   tdvol/retained/TENANT 0 DRIVER 0 VOLUME  deleted_ms and due_ms of a RETAINED record
 *   tdvol/id/TENANT 0 RECORD-ID           DRIVER 0 VOLUME: where a page of a list goes on
 *   tdvol/key/KEY-ID/GENERATION           wrapped key
 *   tdvol/users/KEY-ID/GENERATION         number of records with this key; 0 stays when it is destroyed:
 *                                         the revision says since when
 *   tdvol/sum/SHARD                       sum over the records of this shard, proven
 *   tdvol/count/TENANT 0 SHARD            number of the tenant's records that are not ERASED
 *   tdvol/replica/NAME                    id of the process that is this replica
 *   tdvol/slot/NAME/SLOT                  the last change by this slot: see struct etcd_slot_value
 *   tdvol/mark/NAME, tdvol/highest/NAME   marks of remember and raise
 *
 * Ids, shards and slots are in hex.
 */
#define ETCD_SHARDS      64 /* changes of records in different ones do not wait for each other */
#define ETCD_SLOTS       16 /* changes of one replica at the same time */
#define ETCD_KEY_MAX     512
#define ETCD_ID_LEN      16
#define ETCD_REPLICA_MAX 63
#define ETCD_RECORD_MAX  (STORE_PROOF_LEN + RECORD_ENCODED_MAX)

/* The name of one key, or the start of many. */
struct etcd_key {
    size_t len;
    uint8_t bytes[ETCD_KEY_MAX];
};

/* Why the proof of a shard names its changes: whoever puts an old shard back together with its
 * records meets a slot that has seen a later change. */
struct etcd_sum {
    uint64_t changes; /* of this shard, since the store was made */
    struct proof_sum sum;
};
#define ETCD_SUM_BYTES (8 + STORE_PROOF_LEN + STORE_PROOF_LEN)

/* Each Txn of a replica also writes one of its slots. The id shows whether the Txn was applied. The
 * slots of a replica have its audit head: the one with the highest number counts. */
struct etcd_slot_value {
    uint8_t id[ETCD_ID_LEN];
    struct store_head head;
    uint64_t seen[ETCD_SHARDS]; /* the last change of each shard that this replica knows it made */
};
#define ETCD_SLOT_BYTES (ETCD_ID_LEN + 8 + 1 + STORE_HEAD_MAX + 8 * ETCD_SHARDS + STORE_PROOF_LEN)

/* One byte_range of etcd. */
struct etcd_bytes {
    const uint8_t *bytes;
    size_t len;
};

/* False when a name is empty where it may not be, or too long: no such key can exist. */
MUST_USE bool etcd_key_record(const struct store_name *name, struct etcd_key *out);
MUST_USE bool etcd_key_text(const char *kind, const char *name, struct etcd_key *out);

void etcd_key_format(struct etcd_key *out);
void etcd_key_ring(struct etcd_key *out);
void etcd_key_all(struct etcd_key *out); /* the start of all keys */
void etcd_key_records(struct etcd_key *out);
void etcd_key_of_key(const char *kind, const struct record_key *key, struct etcd_key *out);
void etcd_key_sums(struct etcd_key *out);
void etcd_key_sum(size_t shard, struct etcd_key *out);
void etcd_key_slots(struct etcd_key *out);
/* replica: at most ETCD_REPLICA_MAX bytes */
void etcd_key_replica(const char *replica, struct etcd_key *out);
void etcd_key_slot(const char *replica, size_t slot, struct etcd_key *out);
MUST_USE bool etcd_key_id(const char *tenant, const uint8_t id[static RECORD_ID_LEN],
                          struct etcd_key *out);
/* The start of a tenant's keys; and of those of a driver, if it is not "". */
MUST_USE bool etcd_key_tenant(const char *kind, const char *tenant, const char *driver,
                              struct etcd_key *out);
MUST_USE bool etcd_key_count(const char *tenant, size_t shard, struct etcd_key *out);

/* The first key after all that begin with this one. */
void etcd_key_end(const struct etcd_key *start, struct etcd_key *out);

/*
 * The shard of a record, from its key; and whether it begins a page. etcd walks over all keys of a range
 * before it gives the first few of them. So a list asks for the records up to a key that begins a page,
 * and has to walk over each 256th key alone to find that. Such a key stays. Without it a list is slower,
 * and as right.
 */
struct etcd_place {
    size_t shard;
    bool begins_page;
};
MUST_USE bool etcd_place_of(const struct etcd_key *record, struct etcd_place *out,
                            struct error *err);
/* Between the key of a record and the one of a page with the same names. False for other keys. */
MUST_USE bool etcd_key_page(const struct etcd_key *record, struct etcd_key *out);
MUST_USE bool etcd_key_of_page(const struct etcd_bytes *page, struct etcd_key *out);
/* The same for the key by which a RETAINED record is found. */
MUST_USE bool etcd_key_retained(const struct etcd_key *record, struct etcd_key *out);
/* Both numbers, and the names in the key. False: no broker wrote it. */
#define ETCD_RETAINED_BYTES 16
void etcd_retained_write(const struct record *r, uint8_t out[static ETCD_RETAINED_BYTES]);
MUST_USE bool etcd_retained_read(const struct etcd_bytes *key, const struct etcd_bytes *value,
                                 struct store_retained *out);
/* False for what is no such key. */
MUST_USE bool etcd_shard_read(const struct etcd_bytes *key, size_t *out);
MUST_USE bool etcd_slot_read(const struct etcd_bytes *key,
                             char replica[static ETCD_REPLICA_MAX + 1], size_t *out);

/* Two names with a 0 between them; false for any other bytes. */
struct etcd_names {
    char driver[RECORD_DRIVER_MAX + 1], volume_id[VOLUME_ID_MAX + 1];
};
MUST_USE bool etcd_names_read(const struct etcd_bytes *value, struct etcd_names *out);
size_t etcd_names_write(const struct record *r, uint8_t out[static sizeof(struct etcd_names)]);

/* *is_good: the broker has written the value under this key. Errors are those of the MAC alone. */
MUST_USE bool etcd_sum_read(const struct secret *proof_key, const struct etcd_bytes *key,
                            const struct etcd_bytes *value, struct etcd_sum *out, bool *is_good,
                            struct error *err);
MUST_USE bool etcd_sum_write(const struct secret *proof_key, const struct etcd_key *key,
                             const struct etcd_sum *sum, uint8_t out[static ETCD_SUM_BYTES],
                             struct error *err);
MUST_USE bool etcd_slot_value_read(const struct secret *proof_key, const struct etcd_bytes *key,
                                   const struct etcd_bytes *value, struct etcd_slot_value *out,
                                   bool *is_good, struct error *err);
MUST_USE bool etcd_slot_value_write(const struct secret *proof_key, const struct etcd_key *key,
                                    const struct etcd_slot_value *value,
                                    uint8_t out[static ETCD_SLOT_BYTES], struct error *err);

/* A number of 8 bytes, at most INT64_MAX. */
MUST_USE bool etcd_number_read(const struct etcd_bytes *value, uint64_t *out);
void etcd_number_write(uint64_t number, uint8_t out[static 8]);

#define ETCD_RING_BYTES (8 + STORE_RING_MAX)
MUST_USE bool etcd_ring_read(const struct etcd_bytes *value, struct store_ring *out);
size_t etcd_ring_write(const struct store_ring *ring, uint8_t out[static ETCD_RING_BYTES]);

/* Whether bytes are this key, or begin with it. */
bool etcd_key_is(const struct etcd_key *key, const struct etcd_bytes *bytes);
bool etcd_key_begins(const struct etcd_key *start, const struct etcd_bytes *bytes);

static inline struct etcd_bytes etcd_key_bytes(const struct etcd_key *key)
{
    return (struct etcd_bytes){ key->bytes, key->len };
}
