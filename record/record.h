/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "base/digest.h"
#include "base/error.h"

#include <stddef.h>
#include <stdint.h>

/*
 * The record of a volume or snapshot, on which broker, plugin and worker agree. The broker keeps it
 * and decides; all others only read it. Store, messages and packets between processes share one set
 * of structs and enums, one check (record/check.h) and one encoding (record/encoding.h).
 * proto/keybroker.proto has the same fields under the same names.
 *
 * A new field must be added in four places: here, in the table of record/encoding.c, in
 * proto/keybroker.proto and, when not every value is allowed, in record/check.c.
 */

/* Text lengths are in bytes, without the final NUL. */
#define RECORD_ID_LEN      16
#define RECORD_TENANT_MAX  63
#define RECORD_DRIVER_MAX  63
#define RECORD_NAME_MAX    128
#define VOLUME_ID_MAX      255 /* CSI says 128, but Azure's disks have longer ones */
#define NODE_ID_MAX        256 /* CSI's limit for node ids */
#define BOOT_ID_MAX        63
#define FS_TYPE_MAX        15
#define VOLUME_SECRET_LEN  32
#define OLD_KEY_MAX        512
#define OLD_KEY_WRAPPED    (12 + 2 + OLD_KEY_MAX + 16) /* record/old_key.h */
#define RECORD_DIGESTS_MAX 4
#define NEXT_SECRET_MAX    80 /* of a struct record_rotation, sealed (record/sealing.h) */
#define DESTROYED_MAX      3  /* destroyed secrets that a record remembers */
#define DESTROYED_BY_MAX   63 /* who destroyed one, as text */
#define REPLICA_NAME_MAX   63 /* of a broker that shares its store */
#define RECORD_VERSION     1u
#define LAYOUT_VERSION     1u

#define RECORD_COUNTER_MAX   ((uint64_t)INT64_MAX)        /* of openings */
#define RECORD_FORMAT_MS_MAX (UINT64_C(24) * 3600 * 1000) /* that one format may take */

enum integrity { INTEGRITY_AEGIS128 = 1, INTEGRITY_HMAC_SHA256, INTEGRITY_NONE };
enum provisioning { PROVISIONING_THICK = 1, PROVISIONING_THIN }; /* thin: space as it is written */
enum workqueue { WORKQUEUE_AUTO = 1, WORKQUEUE_ON, WORKQUEUE_OFF };
enum backing_kind {
    BACKING_FILE = 1, /* a file in a folder of the node */
    BACKING_DEVICE    /* a block volume of another CSI driver */
};
enum fencing {
    FENCING_NONE, /* no lease is ever over by itself */
    FENCING_SUSPEND /* a node whose lease is over stops in time; then another one may have the volume */
};
enum record_kind { RECORD_VOLUME = 1, RECORD_SNAPSHOT };
enum record_phase {
    RECORD_NEW = 1,
    RECORD_FORMATTING,
    RECORD_READY,
    RECORD_DELETING,
    RECORD_ERASED,
    RECORD_RETAINED /* deleted, but its key is kept for a while */
};
#define RETAINED_REASON      "Retained" /* of UNAVAILABLE: a deleted volume of this id has its key yet */
#define RECORD_ERASED_REASON "Erased"      /* of NOT_FOUND, when there was a record */
#define RECORD_LIMIT_REASON  "RecordLimit" /* of RESOURCE_EXHAUSTED: the tenant may make no more */
#define RESTORED_REASON      "Restored"    /* of FAILED_PRECONDITION: see struct record_restored */

/* What the user asked for, and what follows from it. Only growth changes it after creation. */
struct volume_spec {
    char name[RECORD_NAME_MAX + 1]; /* the CSI name */
    uint64_t size_bytes;            /* what the pod sees */
    enum integrity integrity;
    char fs_type[FS_TYPE_MAX + 1]; /* "" for raw block */
    enum provisioning provisioning;
    bool discard;             /* only with INTEGRITY_NONE */
    bool no_journal;          /* only with integrity; what a crash interrupts may be unreadable */
    enum workqueue workqueue; /* whether dm-crypt's are used */
    uint64_t device_bytes;    /* the raw device */
    uint64_t mapping_bytes;   /* what dm-crypt exposes over it */
    uint32_t sector_bytes;
    uint32_t journal_sectors;       /* 512-byte sectors; 0 without integrity */
    uint32_t interleave_sectors;    /* 512-byte sectors; 0 without integrity */
    char location[NODE_ID_MAX + 1]; /* the node that has the raw space; "": all nodes reach it */
    uint32_t layout_version;
    enum backing_kind backing; /* where the raw space comes from */
    bool needs_publication; /* only nodes that have it published (record/publication.h) open it */
    /* The data was on the disk before, encrypted by another program. Only without integrity, on a
     * device; see record/layout.h for where the parts lie then. */
    bool taken_over;
    enum fencing fencing;
};

/* Set for a copy that was never opened: its disk still holds the state block of its source. is_closed
 * and clean_hash are the source's, then. */
struct volume_origin {
    bool is_set;
    uint8_t record_id[RECORD_ID_LEN];
    uint64_t counter_low, counter_high;
};

/*
 * The broker's store was restored from a backup, and no node has opened the volume for writing since. The
 * record may be older than the disk: until an administrator adopts it, it serves for nothing. The broker does
 * not know how often the volume was opened after the backup, so open_counter continues from a number that no
 * opening ever had, and the disk may hold each counter from counter_low on.
 */
struct record_restored {
    bool is_set, is_adopted;
    uint64_t counter_low; /* of openings, at the backup */
};

/* One boot of one node. */
struct record_holder {
    char node[NODE_ID_MAX + 1]; /* "": no holder */
    char boot_id[BOOT_ID_MAX + 1];
};

/* How long a lease may be good without a renewal. */
#define RECORD_LEASE_MIN_MS (UINT64_C(30) * 1000)
#define RECORD_LEASE_MAX_MS (UINT64_C(3600) * 1000)
#define LEASE_LOST_REASON   "LeaseLost" /* of a refused renewal: the lease is not this boot's */
#define LEASE_HELD_REASON   "LeaseHeld" /* of ABORTED: another node's lease is not over yet */

/*
 * A lease has no end on record, because brokers and nodes have no clock in common. lease_ms is a
 * duration: the holder counts it from before it sent its last good request, and whoever wants the volume
 * counts it from after the lease was contested. A renewal takes the mark of the contest away.
 */
struct record_lease {
    struct record_holder holder;
    uint64_t opened_ms; /* the broker's clock, since 1970 */
    uint64_t lease_ms;  /* never shorter while one holder has it; 0: the lease is never over */
    uint64_t contested; /* the record's version with the mark; 0: nobody else wants the volume */
};

struct record_format {
    uint32_t attempt; /* the number of the last attempt; 0: there was none */
    struct record_holder holder;
    uint64_t deadline_ms;  /* the broker's clock, since 1970 */
    uint64_t remaining_ms; /* time left until deadline_ms; set in answers, 0 in the store */
};

/* A key belongs to a volume and all its copies (a lineage). */
struct record_key {
    uint8_t id[RECORD_ID_LEN];
    uint32_t generation; /* 0: the key is destroyed */
};

/* Of a volume that is to be taken over: the passphrase with which the other program opens it, wrapped
 * (record/old_key.h). Gone from the record as soon as the volume is READY. */
struct record_old_key {
    bool is_set;
    uint8_t wrapped[OLD_KEY_WRAPPED];
};

/*
 * The owner's offline recovery certificate (record/recovery_certificate.h). The header of a volume that
 * was formatted with one has a token, from which the certificate's key opens the volume without the
 * broker (crypt/recovery_token.h). Copies of the volume have the same header.
 */
#define RECOVERY_CERTIFICATE_MAX 2048 /* bytes of DER */
struct record_recovery {
    uint8_t
        sha256[SHA256_LEN]; /* of the certificate in the header's token; zeros: it has no token */
    /* What to make a header with; only in answers to OpenVolume, of a volume that is to be formatted or whose
     * secret is being changed. */
    uint32_t certificate_len; /* 0: no token is wanted */
    uint8_t certificate[RECOVERY_CERTIFICATE_MAX];
};

/*
 * The volume gets another secret: from RotateKey until a node that has it open has made the header anew.
 * Until then both secrets are kept, and both headers are good: each opens with its own secret.
 */
struct record_rotation {
    struct record_key key; /* the next one; generation 0: there is no rotation */
    bool has_header;       /* the node writes it, or has written it */
    uint8_t header_digest[SHA256_LEN];
    uint8_t recovery_sha256[SHA256_LEN]; /* of that header, as struct record_recovery */
    /* The next secret. In the store: wrapped, as a struct store_key has it. In answers to OpenVolume: sealed
     * to the worker. In other answers: none. */
    uint32_t secret_len;
    uint8_t secret[NEXT_SECRET_MAX];
};

/* The nodes that have the volume published; read and written by record/publication.h alone. */
#define RECORD_PUBLISHED_MAX 2047
struct record_publications {
    uint64_t epoch; /* counts the changes of nodes */
    char nodes[RECORD_PUBLISHED_MAX + 1];
};

/*
 * A secret that the record has no more: a rotation or the erasure of the volume took it away. It is destroyed
 * with the last record that uses it. For administrators: nodes never see it. All times are those of the
 * broker's clock, in ms since 1970.
 */
struct record_destroyed {
    struct record_key key;
    uint64_t
        made_ms; /* not before then; 0: not known, because a copy's secret is older than the copy */
    uint64_t destroyed_ms;              /* when the record lost it */
    uint64_t audit_seq;                 /* of the line that says so, in the log of this replica */
    char replica[REPLICA_NAME_MAX + 1]; /* "": the store has one broker */
    char by[DESTROYED_BY_MAX + 1];      /* printable ASCII */
    uint64_t backup_ms; /* when the last backup before was begun or written; 0: none was */
    uint64_t
        wrapping;   /* it was wrapped with the wrapping of this generation, or of an earlier one */
    bool is_shared; /* other records used it then, and may use it still */
    bool has_recovery; /* the header that opens with it has a recovery token */
};

/* Of a RETAINED record. */
struct record_retained {
    uint64_t deleted_ms; /* the broker's clock, since 1970 */
    uint64_t due_ms;     /* of the retention clock (erasure/clock.h): the key is destroyed then */
    char by[DESTROYED_BY_MAX + 1]; /* who deleted it; printable ASCII */
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
    uint8_t header_digests[RECORD_DIGESTS_MAX][SHA256_LEN]; /* a good header has one of these */
    uint64_t open_counter;
    bool is_closed; /* the disk says so since the last close; an older copy of it is refused */
    bool
        has_clean_hash; /* of the map; false while the volume is open, and after an unclean close */
    uint8_t clean_hash[SHA256_LEN];
    struct record_lease lease; /* holder.node "": not open for writing */
    struct record_format format;
    struct volume_origin origin;
    char source_volume_id[VOLUME_ID_MAX + 1]; /* the volume this is a copy of; "": no copy */
    uint64_t created_ms;                      /* the broker's clock, since 1970 */
    struct record_publications published;
    struct record_old_key old_key; /* only in answers to OpenVolume, and in the store */
    struct record_recovery recovery;
    struct record_rotation rotation;
    struct record_restored restored;
    /* The last ones of this id, the oldest first; those of earlier volumes with it, too. */
    uint32_t n_destroyed;
    struct record_destroyed destroyed[DESTROYED_MAX];
    uint64_t destroyed_before; /* how many more there were */
    struct record_retained retained;
};

/* To everybody but administrators it is as if there was no such volume any more. */
static inline bool record_is_gone(const struct record *r)
{
    return r->version == 0 || r->phase == RECORD_ERASED || r->phase == RECORD_RETAINED;
}

/* One change of the record, which the node that holds the volume asks the broker for. */
enum record_change_kind {
    /* FORMATTING to READY: attempt, header_digest, recovery_sha256; removes old_key */
    RECORD_CHANGE_READY = 1,
    RECORD_CHANGE_OPENED, /* open_counter; removes origin, restored, is_closed and clean hash */
    RECORD_CHANGE_CLOSED, /* is_closed; clean_hash, when has_clean_hash; ends the lease */
    RECORD_CHANGE_GROWN,  /* size_bytes, device_bytes, mapping_bytes */
    /* header_digest, recovery_sha256: of the header for the next secret, before it is written */
    RECORD_CHANGE_NEXT_HEADER,
    /* header_digest: this header is on the disk, and nothing there needs the former secret any more.
     * The next key becomes the record's key, and the former one is dropped. */
    RECORD_CHANGE_ROTATED,
    RECORD_CHANGE_KIND_COUNT
};

struct record_change {
    enum record_change_kind kind;
    uint32_t attempt;
    uint8_t header_digest[SHA256_LEN];
    uint64_t open_counter;
    bool is_closed, has_clean_hash;
    uint8_t clean_hash[SHA256_LEN];
    uint64_t size_bytes, device_bytes, mapping_bytes;
    uint8_t recovery_sha256[SHA256_LEN]; /* as struct record_recovery */
};

/* Records a change; hides how the change reaches the broker. On success the change is durable, and
 * *record is the record after it. */
struct record_keeper {
    bool (*change)(void *cookie, const struct record_change *change, struct record *record,
                   struct error *err);
    void *cookie;
};

/* Names for logs and messages: "aegis128", "FORMATTING". "unknown" for other values. */
const char *integrity_name(enum integrity integrity);
const char *record_phase_name(enum record_phase phase);
const char *record_change_name(enum record_change_kind kind);

/* Copies a text from outside if it fits. INVALID_ARGUMENT names the field. */
MUST_USE bool record_text(char *out, size_t size, const char *field, const char *text,
                          struct error *err);
