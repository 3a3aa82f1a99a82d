/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "record/record.h"
#include "store/store.h"

/*
 * How the broker may change a record: each step of its life is a pure function over the struct and
 * the broker's clock.
 *
 * A function that changes a record writes to it only on success. *changed says whether there is
 * something to store: a request repeated after a lost answer changes nothing. Errors carry the
 * status for the client: FAILED_PRECONDITION when the phase forbids the step, ABORTED when the
 * client must retry, ALREADY_EXISTS, NOT_FOUND, INVALID_ARGUMENT.
 */

/* The caller makes this beforehand, for a record that gets its own key. */
struct record_fresh {
    uint8_t id[RECORD_ID_LEN];
    struct record_key key;
    uint64_t now_ms;
};

/*
 * CreateRecord. *r holds the names, and the record that the store has under these names (version 0:
 * none). When changed, *r is a NEW record with fresh's id and key; its version is still the stored
 * one.
 */
MUST_USE bool record_create(struct record *r, const struct volume_spec *spec,
                            const struct record_fresh *fresh, bool *changed, struct error *err);

/* ABORTED while the state of the volume's disk is not settled, FAILED_PRECONDITION when it is being
 * deleted, NOT_FOUND when it is erased. */
MUST_USE bool record_check_copyable(const struct record *source, struct error *err);

struct record_copy_request {
    uint64_t source_version;
    enum record_kind kind;
    const char *name, *location, *source_volume_id;
    uint64_t size_bytes;      /* 0: that of the source */
    enum workqueue workqueue; /* 0: that of the source */
};

/*
 * CopyRecord. *r as above. source is NULL when it is gone: an existing copy is still found.
 * *uses_fresh_key: the copy of a volume that was never written has its own key.
 */
MUST_USE bool record_copy(struct record *r, const struct record *source,
                          const struct record_copy_request *request,
                          const struct record_fresh *fresh, bool *uses_fresh_key, bool *changed,
                          struct error *err);

struct record_adopt_request {
    enum record_kind kind;
    const char *name; /* the CSI name */
};

/*
 * AdoptRecord: the record for a volume or snapshot that is there already. *r as for record_create,
 * but an existing record is always ALREADY_EXISTS. The disk is of the lineage of like, and in
 * any state that like's disk ever had since its own first opening; like must be READY.
 */
MUST_USE bool record_adopt(struct record *r, const struct record *like,
                           const struct record_adopt_request *request,
                           const struct record_fresh *fresh, struct error *err);
/*
 * AdoptRecord with an old key: *r as for record_create. When changed, *r is a NEW record with this spec,
 * which is taken_over; the caller then sets old_key. A record that was made so before, and that no node
 * has taken over, is replaced: it keeps its publications. ABORTED while a node may be taking it over,
 * which ends by itself. Otherwise ALREADY_EXISTS.
 */
MUST_USE bool record_adopt_old(struct record *r, const struct volume_spec *spec,
                               const struct record_fresh *fresh, uint64_t now_ms,
                               struct error *err);
/* ALREADY_EXISTS unless the names are free. */
MUST_USE bool record_check_vacant(const struct record *r, struct error *err);

struct record_open_request {
    struct record_holder holder;
    bool read_only;
    uint64_t now_ms;
    int64_t skew_ms;       /* from now_ms to the clock by which a format's deadline is judged */
    uint64_t format_ms;    /* how long an attempt may format */
    uint64_t lease_ms;     /* with FENCING_SUSPEND, as the policy says; 0: never over */
    bool holder_is_silent; /* its lease is over: broker/leasing.h */
};

/* OpenVolume: on success the key may be released to the holder. A volume that needs publication opens
 * only where it is published: DENIED with the reason PUBLICATION_REASON. The same holds for
 * record_change, except for CLOSED, and for record_take_over. ABORTED with LEASE_HELD_REASON while
 * another node has a lease that may be over soon: record_contest() then begins the wait. */
MUST_USE bool record_open(struct record *r, const struct record_open_request *request,
                          bool *changed, struct error *err);

/* Who asks for a change, and when. */
struct change_request {
    const struct record_change *change;
    struct record_holder holder;
    uint64_t expected_version;
    uint64_t now_ms;
    int64_t skew_ms;   /* as in record_open_request */
    uint64_t lease_ms; /* as in struct record_open_request */
};

/* ChangeRecord. When a holder closes a FORMATTING volume (CLOSED), the volume is NEW again. */
MUST_USE bool record_change(struct record *r, const struct change_request *request, bool *changed,
                            struct error *err);

/*
 * RenewLease: the holder goes on having the volume. lease_ms as in struct record_open_request. Removes the
 * mark of a contest. FAILED_PRECONDITION with LEASE_LOST_REASON when the lease is not this boot's.
 */
MUST_USE bool record_renew(struct record *r, const struct record_holder *holder, uint64_t lease_ms,
                           bool *changed, struct error *err);

/* Somebody else wants the volume: marks a lease that can be over, unless it is marked already. */
void record_contest(struct record *r, bool *changed);

/* A lease that begins, or goes on when its holder had it before. Not shorter than it was, because the holder
 * may not have got the answer that says so. */
void record_lease_begin(struct record *r, const struct record_holder *holder, uint64_t lease_ms,
                        uint64_t opened_ms);

/* ABORTED with LEASE_HELD_REASON unless the lease is one without end, or holder_is_silent. */
MUST_USE bool record_check_lease_over(const struct record *r, bool holder_is_silent,
                                      struct error *err);

/* TakeOverLease: the holder gets the lease or format attempt of an earlier boot of its node. */
MUST_USE bool record_take_over(struct record *r, const struct record_holder *holder, bool *changed,
                               struct error *err);

/* DENIED with PUBLICATION_REASON when the volume needs publication and the node does not have it
 * published, for writing unless read_only. */
MUST_USE bool record_check_published(const struct record *r, const char *node, bool read_only,
                                     struct error *err);

struct publish_request {
    const char *node_id; /* as NodeGetInfo names it */
    bool read_only;
    uint64_t expected_epoch;
};
/* PublishRecord: before the storage attaches the volume to the node. Errors as in publication_add
 * and proto/keybroker.proto. */
MUST_USE bool record_publish(struct record *r, const struct publish_request *request, bool *changed,
                             struct error *err);

struct unpublish_request {
    const char *node_id; /* "": all */
    uint64_t expected_epoch;
    bool retire;
    bool holder_is_silent; /* as in struct record_open_request */
};
/* UnpublishRecord: with retire before the storage detaches the volume from the node, which may not
 * open it from then on; without when the storage has detached it. This ends the node's lease or
 * format attempt, too. ABORTED when the epoch is another one and there is something to do; and with
 * LEASE_HELD_REASON as record_open. */
MUST_USE bool record_unpublish(struct record *r, const struct unpublish_request *request,
                               bool *changed, struct error *err);

/* FAILED_PRECONDITION while a node has the volume open, formats it, or has it published. */
MUST_USE bool record_begin_delete(struct record *r, uint64_t now_ms, bool *changed,
                                  struct error *err);
MUST_USE bool record_cancel_delete(struct record *r, bool *changed, struct error *err);
/* Whether and for how long the key of a deleted record is kept. */
struct record_keeping {
    uint64_t for_ms;   /* 0: it is not */
    uint64_t clock_ms; /* the retention clock: no broker's is further, see erasure/clock.h */
    uint64_t now_ms;
    const char *by; /* who deletes it, for people */
};
/* ERASED: the record drops its key. The store destroys a key that no record uses. Or RETAINED, when keys are
 * kept and there may be data. */
MUST_USE bool record_finish_delete(struct record *r, const struct record_keeping *keeping,
                                   bool *changed, struct error *err);
/* Makes a RETAINED record what it was. One that is not deleted stays as it is. */
MUST_USE bool record_undelete(struct record *r, bool *changed, struct error *err);
/* ERASED, of a RETAINED record. */
MUST_USE bool record_erase_retained(struct record *r, bool *changed, struct error *err);
/* A RETAINED record whose time is over. Not one that came out of a backup before it is adopted: it may have
 * been undeleted after the backup. */
bool record_is_due(const struct record *r, uint64_t clock_ms);
/* UNAVAILABLE with RETAINED_REASON for a RETAINED record: its id is not free. A controller takes other errors for
 * a decision, and deletes the disk, which may be the one that the key is kept for. */
MUST_USE bool record_check_not_retained(const struct record *r, struct error *err);
/* How a record loses its secret. */
struct record_destruction {
    const char *by;      /* who has it destroyed, for people */
    const char *replica; /* the broker's name; NULL: it has none */
    uint64_t now_ms;
    uint64_t backup_ms; /* as in struct record_destroyed, like all below */
    uint64_t wrapping;
    bool is_shared;
};
/* Whether next has no more a secret that before has: as its own, or as its next one. */
bool record_loses_secret(const struct record *before, const struct record *next);
/* Has next remember each secret that it loses; of more than there is room for, the last ones. */
void record_note_destroyed(struct record *next, const struct record *before,
                           const struct record_destruction *how);
/* The audit log's line that says so has this number. */
void record_note_line(struct record *next, uint64_t seq);

/*
 * A record as it comes out of a backup, for a store that begins at epoch_ms: later than all that any
 * store with this record did. No holder and no publication in it is believed, and its numbers go on
 * where no late request and no proof from before can fit. FAILED_PRECONDITION when the clock is behind
 * the record. ERASED records stay as they are.
 */
MUST_USE bool record_restore(struct record *r, uint64_t epoch_ms, struct error *err);
/* FAILED_PRECONDITION with RESTORED_REASON while nobody has said that a restored record is true. */
MUST_USE bool record_check_adopted(const struct record *r, struct error *err);
/* AdoptRestored: an admin says it. A disk is then accepted in each state since the backup, once. */
MUST_USE bool record_adopt_restored(struct record *r, bool *changed, struct error *err);
/*
 * RotateKey: next becomes the record's next key, unless the record has one already. It has an id of its
 * own: the volume leaves its lineage's key, so two of a lineage never make the same generation.
 */
MUST_USE bool record_rotate(struct record *r, const struct store_key *next, bool *changed,
                            struct error *err);
/* ReleaseLease: an admin says that the node which has the volume will not come back. Of a volume that
 * needs publication, all publications go, too, and a format attempt. */
MUST_USE bool record_release_lease(struct record *r, bool *changed, struct error *err);
