/* SPDX-License-Identifier: Apache-2.0 */
#include "record/check.h"

#include "base/secret.h"
#include "record/encoding.h"
#include "record/fs_type.h"
#include "record/layout.h"
#include "record/publication.h"

#include <inttypes.h>
#include <string.h>

static bool is_within(uint32_t value, uint32_t low, uint32_t high)
{
    return value >= low && value <= high;
}

static bool wrong(const char *field, struct error *err)
{
    return error_set(err, ERROR_INVALID_ARGUMENT, "%s is missing or unknown", field);
}

/* Each size is bounded before it is used in a sum, so that no sum can overflow. */
static bool check_sizes(const struct volume_spec *spec, struct error *err)
{
    bool fits = spec->size_bytes >= VOLUME_SIZE_MIN && spec->size_bytes <= VOLUME_SIZE_MAX &&
                spec->size_bytes % VOLUME_SECTOR_BYTES == 0 && spec->device_bytes <= INT64_MAX &&
                spec->device_bytes >= layout_data_offset(spec) &&
                spec->mapping_bytes <= spec->device_bytes - layout_data_offset(spec) &&
                spec->mapping_bytes == layout_mapping_bytes(spec->integrity, spec->size_bytes) &&
                spec->device_bytes >= layout_device_bytes(spec);

    return fits || error_set(err, ERROR_INVALID_ARGUMENT,
                             "spec: sizes do not fit into each other: %" PRIu64
                             " bytes for the pod, mapping %" PRIu64 ", device %" PRIu64,
                             spec->size_bytes, spec->mapping_bytes, spec->device_bytes);
}

static bool check_journal(const struct volume_spec *spec, struct error *err)
{
    bool has_integrity = spec->integrity != INTEGRITY_NONE;

    if (spec->journal_sectors > (has_integrity ? LAYOUT_JOURNAL_SECTORS_MAX : 0))
        return wrong("spec.journal_sectors", err);
    return spec->interleave_sectors == 0 ||
           (has_integrity && spec->interleave_sectors == LAYOUT_INTERLEAVE_SECTORS) ||
           wrong("spec.interleave_sectors", err);
}

static bool check_taken_over(const struct volume_spec *spec, struct error *err)
{
    if (spec->taken_over && spec->integrity != INTEGRITY_NONE)
        return error_set(err, ERROR_INVALID_ARGUMENT,
                         "spec.taken_over is only possible without integrity");
    if (spec->taken_over && spec->backing != BACKING_DEVICE)
        return error_set(err, ERROR_INVALID_ARGUMENT,
                         "spec.taken_over is only possible on a device");
    return spec->sector_bytes == VOLUME_SECTOR_BYTES ||
           (spec->taken_over && spec->sector_bytes == SECTOR_BYTES) ||
           error_set(err, ERROR_INVALID_ARGUMENT, "spec.sector_bytes must be %u",
                     VOLUME_SECTOR_BYTES);
}

bool volume_spec_check(const struct volume_spec *spec, struct error *err)
{
    enum fs_type type;

    if (spec->layout_version != LAYOUT_VERSION)
        return error_set(err, ERROR_FAILED_PRECONDITION,
                         "layout version %" PRIu32 " is not known here: this is version %u",
                         spec->layout_version, LAYOUT_VERSION);
    if (spec->name[0] == '\0')
        return wrong("spec.name", err);
    if (!is_within(spec->integrity, INTEGRITY_AEGIS128, INTEGRITY_NONE))
        return wrong("spec.integrity", err);
    if (!is_within(spec->provisioning, PROVISIONING_THICK, PROVISIONING_THIN))
        return wrong("spec.provisioning", err);
    if (!is_within(spec->workqueue, WORKQUEUE_AUTO, WORKQUEUE_OFF))
        return wrong("spec.workqueue", err);
    if (!is_within(spec->backing, BACKING_FILE, BACKING_DEVICE))
        return wrong("spec.backing", err);
    if (!is_within(spec->fencing, FENCING_NONE, FENCING_SUSPEND))
        return wrong("spec.fencing", err);
    if (spec->fs_type[0] != '\0' && !fs_type_find(spec->fs_type, &type))
        return wrong("spec.fs_type", err);
    if (spec->discard && spec->integrity != INTEGRITY_NONE)
        return error_set(err, ERROR_INVALID_ARGUMENT,
                         "spec.discard is only possible without integrity");
    if (spec->no_journal && spec->integrity == INTEGRITY_NONE)
        return error_set(err, ERROR_INVALID_ARGUMENT,
                         "spec.no_journal is only possible with integrity");
    return check_taken_over(spec, err) && check_journal(spec, err) && check_sizes(spec, err);
}

/* The fields that the record must have in its phase. */
static bool check_phase(const struct record *r, struct error *err)
{
    bool has_key = r->key.generation != 0;

    if (!is_within(r->phase, RECORD_NEW, RECORD_RETAINED))
        return wrong("phase", err);
    if (has_key != (r->phase != RECORD_ERASED))
        return wrong("key.generation", err);
    if ((r->retained.due_ms != 0) != (r->phase == RECORD_RETAINED))
        return wrong("retained.due_ms", err);
    if (r->phase == RECORD_FORMATTING && r->format.attempt == 0)
        return error_set(err, ERROR_INVALID_ARGUMENT, "a FORMATTING record has no attempt");
    if (r->phase == RECORD_READY && r->n_header_digests == 0)
        return error_set(err, ERROR_INVALID_ARGUMENT, "a READY record has no header digest");
    return true;
}

static bool is_same_key(const struct record_key *a, const struct record_key *b)
{
    return a->generation == b->generation && bytes_are_equal(a->id, b->id, RECORD_ID_LEN);
}

/* A rotation has its key, a generation after the record's, and all its other fields belong to it. */
static bool check_rotation(const struct record *r, struct error *err)
{
    static const struct record_rotation none;
    const struct record_rotation *rotation = &r->rotation;

    if (rotation->secret_len > NEXT_SECRET_MAX)
        return wrong("rotation.secret", err);
    if (rotation->key.generation == 0)
        return (!rotation->has_header && rotation->secret_len == 0 &&
                bytes_are_equal(rotation->key.id, none.key.id, RECORD_ID_LEN)) ||
               wrong("rotation.key.generation", err);
    bool may_have_one =
        r->phase == RECORD_READY || r->phase == RECORD_DELETING || r->phase == RECORD_RETAINED;

    return (r->kind == RECORD_VOLUME && may_have_one &&
            rotation->key.generation > r->key.generation) ||
           wrong("rotation.key", err);
}

/* A record may have got one of these secrets again: as a copy of a snapshot under the same id. */
static bool check_destroyed(const struct record *r, struct error *err)
{
    if (r->n_destroyed > DESTROYED_MAX ||
        (r->destroyed_before > 0 && r->n_destroyed < DESTROYED_MAX))
        return wrong("destroyed", err);
    for (uint32_t i = 0; i < r->n_destroyed; i++)
        if (r->destroyed[i].key.generation == 0)
            return wrong("destroyed.generation", err);
    return true;
}

/* The certificate is for who makes a header. */
static bool check_recovery(const struct record *r, struct error *err)
{
    bool is_wanted = r->phase == RECORD_FORMATTING || r->rotation.key.generation != 0;

    return (r->recovery.certificate_len <= RECOVERY_CERTIFICATE_MAX &&
            (r->recovery.certificate_len == 0 || is_wanted)) ||
           wrong("recovery.certificate", err);
}

/* Only who suspends the volume in time may have a lease that is over by itself. */
static bool check_lease(const struct record *r, struct error *err)
{
    const struct record_lease *lease = &r->lease;

    if (lease->lease_ms != 0 &&
        (lease->holder.node[0] == '\0' || r->spec.fencing != FENCING_SUSPEND ||
         lease->lease_ms < RECORD_LEASE_MIN_MS || lease->lease_ms > RECORD_LEASE_MAX_MS))
        return wrong("lease.lease_ms", err);
    return (lease->contested <= r->version && (lease->contested == 0 || lease->lease_ms != 0)) ||
           wrong("lease.contested", err);
}

bool record_check(const struct record *r, struct error *err)
{
    if (r->volume_id[0] == '\0')
        return wrong("volume_id", err);
    if (!is_within(r->kind, RECORD_VOLUME, RECORD_SNAPSHOT))
        return wrong("kind", err);
    if (r->version == 0)
        return wrong("version", err);
    if (r->origin.is_set && r->origin.counter_high < r->origin.counter_low)
        return wrong("origin.counter_high", err);
    if (r->origin.counter_high > RECORD_COUNTER_MAX)
        return wrong("origin.counter_high", err);
    if (r->open_counter > RECORD_COUNTER_MAX)
        return wrong("open_counter", err);
    if (r->restored.counter_low > r->open_counter)
        return wrong("restored.counter_low", err);
    if (r->n_header_digests > RECORD_DIGESTS_MAX)
        return wrong("header_digests", err);
    if (r->format.remaining_ms > RECORD_FORMAT_MS_MAX)
        return wrong("format.remaining_ms", err);
    return check_destroyed(r, err) && check_recovery(r, err) && check_rotation(r, err) &&
           check_lease(r, err) && publication_check(&r->published, err) &&
           volume_spec_check(&r->spec, err) && check_phase(r, err);
}

static bool spec_is_equal(const struct volume_spec *a, const struct volume_spec *b)
{
    struct encoded one, other;

    volume_spec_encode(a, &one);
    volume_spec_encode(b, &other);
    return one.len == other.len && bytes_are_equal(one.bytes, other.bytes, one.len);
}

static bool differs(const char *what, struct error *err)
{
    return error_set(err, ERROR_INTERNAL, "the record's %s changed while it was in use", what);
}

bool record_continues(const struct record *first, const struct record *later, struct error *err)
{
    if (!bytes_are_equal(first->id, later->id, RECORD_ID_LEN))
        return differs("id", err);
    if (strcmp(first->tenant, later->tenant) != 0 || strcmp(first->driver, later->driver) != 0 ||
        strcmp(first->volume_id, later->volume_id) != 0 || first->kind != later->kind)
        return differs("name", err);
    if (!is_same_key(&first->key, &later->key) &&
        (first->rotation.key.generation == 0 || !is_same_key(&first->rotation.key, &later->key)))
        return differs("key", err);
    if (!spec_is_equal(&first->spec, &later->spec))
        return differs("spec", err);
    return later->version >= first->version || differs("version", err);
}
