/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "base/digest.h"
#include "base/error.h"
#include "base/hpke.h"
#include "base/uuid.h"

#include <stdint.h>

/*
 * What crypt/ knows of a volume's record at the broker: plain data, sent between the front and its
 * workers as it is. keys/keys.c converts from and to protobuf. Meanings are those of
 * proto/keybroker.proto.
 */

#define RECORD_ID_LEN       16
#define VOLUME_ID_MAX       128 /* bytes, without NUL (CSI) */
#define NODE_ID_MAX         256
#define FS_TYPE_MAX         15
#define VOLUME_SECRET_LEN   32
#define RECORD_EXTENTS_MAX  64
#define RECORD_DIGESTS_MAX  4
#define LAYOUT_VERSION      1
#define VOLUME_SECTOR_BYTES 4096u

enum integrity { INTEGRITY_AEGIS128 = 1, INTEGRITY_HMAC_SHA256 = 2, INTEGRITY_NONE = 3 };
enum initialisation { INITIALISATION_BACKGROUND = 1, INITIALISATION_ON_WRITE = 2 };
enum record_phase {
    RECORD_NEW = 1,
    RECORD_FORMATTING,
    RECORD_READY,
    RECORD_DELETING,
    RECORD_ERASED
};

struct volume_spec {
    uint64_t size_bytes;
    uint64_t device_bytes;
    uint64_t mapping_bytes;
    uint32_t integrity;      /* enum integrity */
    uint32_t initialisation; /* enum initialisation */
    uint32_t sector_bytes;
    uint32_t journal_sectors;    /* 512-byte sectors */
    uint32_t interleave_sectors; /* 512-byte sectors */
    uint32_t layout_version;
    bool discard;
    char fs_type[FS_TYPE_MAX + 1]; /* "" for raw block */
};

struct volume_extent {
    uint64_t start_bytes; /* in the user area */
    uint64_t length_bytes;
    bool done;
    uint32_t slot;
    uint32_t region_bytes;
};

struct volume_origin {
    bool is_set;
    uint8_t record_id[RECORD_ID_LEN];
    uint64_t counter_low, counter_high;
};

struct volume_record {
    char volume_id[VOLUME_ID_MAX + 1];
    uint8_t record_id[RECORD_ID_LEN];
    uint8_t key_id[RECORD_ID_LEN];
    uint32_t generation;
    uint32_t phase; /* enum record_phase */
    uint64_t version;
    struct volume_spec spec;
    uint8_t header_digests[RECORD_DIGESTS_MAX][SHA256_LEN];
    uint32_t n_header_digests;
    struct volume_extent extents[RECORD_EXTENTS_MAX];
    uint32_t n_extents;
    uint64_t open_counter;
    bool has_clean_hash;
    uint8_t clean_hash[SHA256_LEN];
    struct volume_origin origin;
    uint32_t format_attempt;
    uint64_t format_remaining_ms; /* until the deadline, when the broker answered */
};

/* The secret as the broker released it: opened only inside a worker. */
struct sealed_secret {
    uint8_t bytes[HPKE_SEALED_LEN(VOLUME_SECRET_LEN)];
};

/* One change that a worker asks the front to have recorded. */
enum record_change_kind {
    RECORD_CHANGE_READY,       /* FORMATTING to READY: header_digest, extents */
    RECORD_CHANGE_OPENED,      /* open_counter */
    RECORD_CHANGE_EXTENT_DONE, /* extent_index */
    RECORD_CHANGE_CLOSED,      /* clean_hash, when has_clean_hash */
    RECORD_CHANGE_GROWN,       /* size_bytes, device_bytes, mapping_bytes, extents */
};

struct record_change {
    uint32_t kind; /* enum record_change_kind */
    uint8_t header_digest[SHA256_LEN];
    uint64_t open_counter;
    uint32_t extent_index;
    bool has_clean_hash;
    uint8_t clean_hash[SHA256_LEN];
    uint64_t size_bytes, device_bytes, mapping_bytes;
    struct volume_extent extents[RECORD_EXTENTS_MAX];
    uint32_t n_extents;
};

/* How crypt/ has a change recorded, whoever carries it to the broker. On success *record is the
 * record as it is now. The change is durable when it returns. */
struct record_keeper {
    bool (*change)(void *cookie, const struct record_change *change, struct volume_record *record,
                   struct error *err);
    void *cookie;
};
