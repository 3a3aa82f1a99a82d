/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "base/digest.h"
#include "base/error.h"

#include <stddef.h>
#include <stdint.h>

/*
 * The record of a volume or snapshot: what broker, plugin and worker agree on. The broker keeps it
 * and decides; everybody else reads it. One set of structs and enums, one check (record/check.h), one
 * encoding (record/encoding.h), for the store, the messages and the packets between processes.
 * proto/keybroker.proto has the same fields under the same names.
 *
 * A new field is written in four places: here, in the table of record/encoding.c, in
 * proto/keybroker.proto and, when not every value is allowed, in record/check.c.
 */

/* Lengths of text are bytes without NUL. */
#define RECORD_ID_LEN      16
#define RECORD_TENANT_MAX  63
#define RECORD_DRIVER_MAX  63
#define RECORD_NAME_MAX    128
#define VOLUME_ID_MAX      128 /* CSI's limit for ids */
#define NODE_ID_MAX        256 /* CSI's limit for node ids */
#define BOOT_ID_MAX        63
#define FS_TYPE_MAX        15
#define VOLUME_SECRET_LEN  32
#define RECORD_EXTENTS_MAX 64
#define RECORD_DIGESTS_MAX 4
#define RECORD_VERSION     1u
#define LAYOUT_VERSION     1u

enum integrity { INTEGRITY_AEGIS128 = 1, INTEGRITY_HMAC_SHA256, INTEGRITY_NONE };
enum initialisation { INITIALISATION_BACKGROUND = 1, INITIALISATION_ON_WRITE };
enum backing_kind { BACKING_FILE = 1 }; /* a file in a folder of the node */
enum record_kind { RECORD_VOLUME = 1, RECORD_SNAPSHOT };
enum record_phase {
    RECORD_NEW = 1,
    RECORD_FORMATTING,
    RECORD_READY,
    RECORD_DELETING,
    RECORD_ERASED
};

/* What was asked for, and what follows from it. Fixed for the life of a volume but for growth. */
struct volume_spec {
    char name[RECORD_NAME_MAX + 1]; /* the CSI name */
    uint64_t size_bytes;            /* what the pod sees */
    enum integrity integrity;
    char fs_type[FS_TYPE_MAX + 1]; /* "" for raw block */
    enum initialisation initialisation;
    bool discard;           /* only with INTEGRITY_NONE */
    uint64_t device_bytes;  /* the raw device */
    uint64_t mapping_bytes; /* what dm-crypt exposes over it */
    uint32_t sector_bytes;
    uint32_t journal_sectors;       /* 512-byte sectors; 0 without integrity */
    uint32_t interleave_sectors;    /* 512-byte sectors; 0 without integrity */
    char location[NODE_ID_MAX + 1]; /* the node that has the raw space; "": any can reach it */
    uint32_t layout_version;
    enum backing_kind backing; /* where the raw space comes from */
};

/* A part of the user area with its own map while it is initialised. */
struct volume_extent {
    uint64_t start_bytes; /* in the user area */
    uint64_t length_bytes;
    bool done; /* never opened through its map again */
    uint32_t slot;
    uint32_t region_bytes;
};

/* A copy that was not opened yet: its disk still has the state block of its source. */
struct volume_origin {
    bool is_set;
    uint8_t record_id[RECORD_ID_LEN];
    uint64_t counter_low, counter_high;
};

/* One boot of one node. */
struct record_holder {
    char node[NODE_ID_MAX + 1]; /* "" nobody */
    char boot_id[BOOT_ID_MAX + 1];
};

struct record_lease {
    struct record_holder holder;
    uint64_t opened_ms; /* the broker's clock, since 1970 */
};

struct record_format {
    uint32_t attempt; /* counts on; 0: none was ever made */
    struct record_holder holder;
    uint64_t deadline_ms;  /* the broker's clock, since 1970 */
    uint64_t remaining_ms; /* the same as a duration, in answers; 0 in the store */
};

/* A key belongs to a lineage: a volume and its copies. */
struct record_key {
    uint8_t id[RECORD_ID_LEN];
    uint32_t generation; /* 0: none, the key is destroyed */
};

struct record {
    uint8_t id[RECORD_ID_LEN]; /* random */
    char tenant[RECORD_TENANT_MAX + 1];
    char driver[RECORD_DRIVER_MAX + 1];
    char volume_id[VOLUME_ID_MAX + 1];
    enum record_kind kind;
    enum record_phase phase;
    uint64_t version; /* 0: not stored yet */
    struct volume_spec spec;
    struct record_key key;
    uint32_t n_header_digests;
    uint8_t header_digests[RECORD_DIGESTS_MAX][SHA256_LEN]; /* a header is good when it has one */
    uint32_t n_extents;
    struct volume_extent extents[RECORD_EXTENTS_MAX];
    uint64_t open_counter;
    bool has_clean_hash; /* false while it is open, or after it was not closed cleanly */
    uint8_t clean_hash[SHA256_LEN];
    struct record_lease lease; /* holder.node "": it is not open for writing */
    struct record_format format;
    struct volume_origin origin;
    char source_volume_id[VOLUME_ID_MAX + 1]; /* of a copy; "" when it is none */
    uint64_t created_ms;                      /* the broker's clock, since 1970 */
};

/* One change that the holder of a volume has recorded. */
enum record_change_kind {
    RECORD_CHANGE_READY = 1,   /* FORMATTING to READY: attempt, header_digest, extents */
    RECORD_CHANGE_OPENED,      /* open_counter; forgets origin and clean hash */
    RECORD_CHANGE_EXTENT_DONE, /* extent_index */
    RECORD_CHANGE_CLOSED,      /* clean_hash, when has_clean_hash; gives the lease back */
    RECORD_CHANGE_GROWN,       /* size_bytes, device_bytes, mapping_bytes, extents */
    RECORD_CHANGE_KIND_COUNT
};

struct record_change {
    enum record_change_kind kind;
    uint32_t attempt;
    uint8_t header_digest[SHA256_LEN];
    uint64_t open_counter;
    uint32_t extent_index;
    bool has_clean_hash;
    uint8_t clean_hash[SHA256_LEN];
    uint64_t size_bytes, device_bytes, mapping_bytes;
    uint32_t n_extents;
    struct volume_extent extents[RECORD_EXTENTS_MAX];
};

/* How a change is recorded, whoever carries it to the broker. On success *record is the record as
 * it is now, and the change is durable. */
struct record_keeper {
    bool (*change)(void *cookie, const struct record_change *change, struct record *record,
                   struct error *err);
    void *cookie;
};

/* Words for people: "aegis128", "FORMATTING"; "unknown" out of range. */
const char *integrity_name(enum integrity integrity);
const char *record_phase_name(enum record_phase phase);
const char *record_change_name(enum record_change_kind kind);
