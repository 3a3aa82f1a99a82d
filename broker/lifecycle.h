/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "record/record.h"

/*
 * What the broker may make of a record: every step of its life, as pure functions over the struct and
 * the broker's clock.
 *
 * A function that changes a record writes to it only on success, and says in *changed whether
 * there is anything to store: a request repeated after a lost answer changes nothing. Errors carry
 * the status the client is to see: FAILED_PRECONDITION the phase forbids it, ABORTED retry,
 * ALREADY_EXISTS, NOT_FOUND, INVALID_ARGUMENT.
 */

/* A bounded copy of text from outside. INVALID_ARGUMENT names the field. */
MUST_USE bool record_text(char *out, size_t size, const char *field, const char *text,
                          struct error *err);

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
MUST_USE bool record_create(struct record *r, const struct volume_spec *spec,
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

/* Who asks for a change, and when. */
struct change_request {
    const struct record_change *change;
    struct record_holder holder;
    uint64_t expected_version;
    uint64_t now_ms;
};

/* ChangeRecord. A holder that gives a FORMATTING volume back (CLOSED) makes it NEW again. */
MUST_USE bool record_change(struct record *r, const struct change_request *request, bool *changed,
                            struct error *err);

/* TakeOverLease: what an earlier boot of the same node held is the holder's. */
MUST_USE bool record_take_over(struct record *r, const struct record_holder *holder, bool *changed,
                               struct error *err);

MUST_USE bool record_begin_delete(struct record *r, uint64_t now_ms, bool *changed,
                                  struct error *err);
MUST_USE bool record_cancel_delete(struct record *r, bool *changed, struct error *err);
/* ERASED: the record lets go of its key; the store destroys a key without records. */
MUST_USE bool record_finish_delete(struct record *r, bool *changed, struct error *err);
MUST_USE bool record_release_lease(struct record *r, bool *changed, struct error *err);
