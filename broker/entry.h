/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "base/digest.h"
#include "base/error.h"

#include <stddef.h>
#include <stdint.h>

/*
 * The broker's record of a volume or snapshot, and every change it may make, as pure functions over
 * the struct and the broker's clock. Meanings and numbers are those of proto/keybroker.proto.
 *
 * A function that changes a record writes to it only on success, and says in *changed whether
 * there is anything to store: a request repeated after a lost answer changes nothing. Errors carry
 * the status the client is to see: FAILED_PRECONDITION the phase forbids it, ABORTED retry,
 * ALREADY_EXISTS, NOT_FOUND, INVALID_ARGUMENT.
 */

#define RECORD_ID_LEN      16
#define RECORD_TENANT_MAX  63 /* bytes, without NUL, here and below */
#define RECORD_DRIVER_MAX  63
#define RECORD_VOLUME_MAX  128
#define RECORD_NAME_MAX    128
#define RECORD_NODE_MAX    256
#define RECORD_BOOT_MAX    63
#define RECORD_FS_MAX      15
#define RECORD_EXTENTS_MAX 64
#define RECORD_DIGESTS_MAX 4
#define RECORD_VERSION     1u
#define RECORD_LAYOUT      1u

enum record_kind { RECORD_VOLUME = 1, RECORD_SNAPSHOT };
enum record_phase {
    RECORD_NEW = 1,
    RECORD_FORMATTING,
    RECORD_READY,
    RECORD_DELETING,
    RECORD_ERASED
};
enum record_integrity { RECORD_AEGIS128 = 1, RECORD_HMAC_SHA256, RECORD_NO_INTEGRITY };
enum record_initialisation { RECORD_BACKGROUND = 1, RECORD_ON_WRITE };

struct record_spec {
    char name[RECORD_NAME_MAX + 1];
    char fs_type[RECORD_FS_MAX + 1];
    char location[RECORD_NODE_MAX + 1];
    enum record_integrity integrity;
    enum record_initialisation initialisation;
    bool discard;
    uint64_t size_bytes, device_bytes, mapping_bytes;
    uint32_t sector_bytes, journal_sectors, interleave_sectors, layout_version;
};

struct record_extent {
    uint64_t start_bytes, length_bytes;
    bool done;
    uint32_t slot, region_bytes;
};

struct record_extents {
    size_t n;
    struct record_extent items[RECORD_EXTENTS_MAX];
};

/* One boot of one node: what a lease or a format attempt belongs to. */
struct record_holder {
    char node[RECORD_NODE_MAX + 1]; /* "" nobody */
    char boot_id[RECORD_BOOT_MAX + 1];
};

struct record_origin {
    bool is_set;
    uint8_t record_id[RECORD_ID_LEN];
    uint64_t counter_low, counter_high;
};

struct record_key {
    uint8_t id[RECORD_ID_LEN];
    uint32_t generation; /* 0: none, the key is destroyed */
};

struct record {
    uint8_t id[RECORD_ID_LEN];
    char tenant[RECORD_TENANT_MAX + 1];
    char driver[RECORD_DRIVER_MAX + 1];
    char volume_id[RECORD_VOLUME_MAX + 1];
    enum record_kind kind;
    enum record_phase phase;
    uint64_t version; /* 0: not stored yet */
    struct record_spec spec;
    struct record_key key;
    size_t n_digests;
    uint8_t digests[RECORD_DIGESTS_MAX][SHA256_LEN];
    struct record_extents extents;
    uint64_t open_counter;
    bool has_clean_hash;
    uint8_t clean_hash[SHA256_LEN];
    struct record_holder lease;
    uint64_t opened_ms;
    struct record_holder format;
    uint32_t format_attempt;
    uint64_t format_deadline_ms;
    struct record_origin origin;
    char source_volume_id[RECORD_VOLUME_MAX + 1];
    uint64_t created_ms;
};

/* A bounded copy of text from outside. INVALID_ARGUMENT names the field. */
MUST_USE bool record_text(char *out, size_t size, const char *field, const char *text,
                          struct error *err);

MUST_USE bool record_spec_check(const struct record_spec *spec, struct error *err);

/* What the caller must have made for a record that gets its own key. */
struct record_fresh {
    uint8_t id[RECORD_ID_LEN];
    struct record_key key;
    uint64_t now_ms;
};

/*
 * CreateRecord. *r holds what the store had under these names (version 0: nothing), and the names.
 * Changed: *r is a NEW record with fresh's id and key, still with the stored version.
 */
MUST_USE bool record_create(struct record *r, const struct record_spec *spec,
                            const struct record_fresh *fresh, bool *changed, struct error *err);

struct record_copy_request {
    uint64_t source_version;
    enum record_kind kind;
    const char *name, *location, *source_volume_id;
};

/*
 * CopyRecord. *r as above; source may be NULL when it is gone: an existing copy is still found.
 * *uses_fresh_key: the copy of a volume never written has a key of its own.
 */
MUST_USE bool record_copy(struct record *r, const struct record *source,
                          const struct record_copy_request *request,
                          const struct record_fresh *fresh, bool *uses_fresh_key, bool *changed,
                          struct error *err);

struct record_open_request {
    struct record_holder holder;
    bool read_only;
    uint64_t now_ms;
    uint64_t format_ms; /* how long an attempt may format */
};

/* OpenVolume: on success the key may be released to the holder. */
MUST_USE bool record_open(struct record *r, const struct record_open_request *request,
                          bool *changed, struct error *err);

enum record_change_kind {
    RECORD_CHANGE_READY,
    RECORD_CHANGE_OPENED,
    RECORD_CHANGE_EXTENT_DONE,
    RECORD_CHANGE_CLOSED,
    RECORD_CHANGE_GROWN,
};

struct record_change {
    enum record_change_kind kind;
    struct record_holder holder;
    uint64_t expected_version;
    uint64_t now_ms;
    uint32_t attempt;                                 /* READY */
    uint8_t header_digest[SHA256_LEN];                /* READY */
    uint64_t open_counter;                            /* OPENED */
    uint32_t extent_index;                            /* EXTENT_DONE */
    bool has_clean_hash;                              /* CLOSED */
    uint8_t clean_hash[SHA256_LEN];                   /* CLOSED */
    uint64_t size_bytes, device_bytes, mapping_bytes; /* GROWN */
    struct record_extents extents;                    /* READY, GROWN */
};

/* ChangeRecord. A holder that gives a FORMATTING volume back (CLOSED) makes it NEW again. */
MUST_USE bool record_change(struct record *r, const struct record_change *change, bool *changed,
                            struct error *err);

MUST_USE bool record_begin_delete(struct record *r, uint64_t now_ms, bool *changed,
                                  struct error *err);
MUST_USE bool record_cancel_delete(struct record *r, bool *changed, struct error *err);
/* ERASED: the record lets go of its key; the store destroys a key without records. */
MUST_USE bool record_finish_delete(struct record *r, bool *changed, struct error *err);
MUST_USE bool record_release_lease(struct record *r, bool *changed, struct error *err);

const char *record_phase_name(enum record_phase phase); /* "FORMATTING" */
