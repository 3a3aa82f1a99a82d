/* SPDX-License-Identifier: Apache-2.0 */
#include "record/check.h"

#include "record/layout.h"

#include <inttypes.h>

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
                spec->device_bytes >= LAYOUT_DATA_OFFSET &&
                spec->mapping_bytes <= spec->device_bytes - LAYOUT_DATA_OFFSET &&
                spec->mapping_bytes >= LAYOUT_RESERVED_BYTES + spec->size_bytes;

    return fits || error_set(err, ERROR_INVALID_ARGUMENT,
                             "spec: sizes do not fit into each other: %" PRIu64
                             " bytes for the pod, mapping %" PRIu64 ", device %" PRIu64,
                             spec->size_bytes, spec->mapping_bytes, spec->device_bytes);
}

bool volume_spec_check(const struct volume_spec *spec, struct error *err)
{
    if (spec->layout_version != LAYOUT_VERSION)
        return error_set(err, ERROR_FAILED_PRECONDITION,
                         "layout version %" PRIu32 " is not known here: this is version %u",
                         spec->layout_version, LAYOUT_VERSION);
    if (spec->name[0] == '\0')
        return wrong("spec.name", err);
    if (!is_within(spec->integrity, INTEGRITY_AEGIS128, INTEGRITY_NONE))
        return wrong("spec.integrity", err);
    if (!is_within(spec->initialisation, INITIALISATION_BACKGROUND, INITIALISATION_ON_WRITE))
        return wrong("spec.initialisation", err);
    if (!is_within(spec->backing, BACKING_FILE, BACKING_FILE))
        return wrong("spec.backing", err);
    if (spec->discard && spec->integrity != INTEGRITY_NONE)
        return error_set(err, ERROR_INVALID_ARGUMENT,
                         "spec.discard is only possible without integrity");
    if (spec->sector_bytes != VOLUME_SECTOR_BYTES)
        return error_set(err, ERROR_INVALID_ARGUMENT, "spec.sector_bytes must be %u",
                         VOLUME_SECTOR_BYTES);
    return check_sizes(spec, err);
}

/* left_bytes: the bytes of the volume from the start of this extent to its end. */
static bool extent_is_sound(const struct volume_extent *extent, uint64_t left_bytes,
                            unsigned *slots_used)
{
    if (extent->length_bytes <= LAYOUT_EXTENT_DIRECT_BYTES || extent->length_bytes > left_bytes ||
        extent->length_bytes % VOLUME_SECTOR_BYTES != 0)
        return false;
    if (extent->done)
        return extent->slot < LAYOUT_SLOT_COUNT;
    unsigned slot = extent->slot < LAYOUT_SLOT_COUNT ? 1u << extent->slot : 0;
    if (slot == 0 || (*slots_used & slot))
        return false;
    *slots_used |= slot;
    return extent->region_bytes == layout_region_bytes(extent->length_bytes);
}

bool volume_extents_check(const struct volume_extent *extents, uint32_t n, enum integrity integrity,
                          uint64_t size_bytes, struct error *err)
{
    uint64_t covered_bytes = 0;
    unsigned slots_used = 0;

    if (integrity == INTEGRITY_NONE && n == 0)
        return true;
    if (n > RECORD_EXTENTS_MAX)
        return error_set(err, ERROR_INVALID_ARGUMENT, "more than %d extents", RECORD_EXTENTS_MAX);
    for (uint32_t i = 0; i < n; i++) {
        if (extents[i].start_bytes != covered_bytes)
            return error_set(err, ERROR_INVALID_ARGUMENT,
                             "extent %" PRIu32 " does not start where the one before ends", i);
        if (!extent_is_sound(&extents[i], size_bytes - covered_bytes, &slots_used))
            return error_set(err, ERROR_INVALID_ARGUMENT,
                             "extent %" PRIu32 ": its length, slot or region size is not valid", i);
        covered_bytes += extents[i].length_bytes;
    }
    return covered_bytes == size_bytes ||
           error_set(err, ERROR_INVALID_ARGUMENT, "extents cover %" PRIu64 " of %" PRIu64 " bytes",
                     covered_bytes, size_bytes);
}

/* The fields that the record must have in its phase. */
static bool check_phase(const struct record *r, struct error *err)
{
    bool has_key = r->key.generation != 0;

    if (!is_within(r->phase, RECORD_NEW, RECORD_ERASED))
        return wrong("phase", err);
    if (has_key != (r->phase != RECORD_ERASED))
        return wrong("key.generation", err);
    if (r->phase == RECORD_FORMATTING && r->format.attempt == 0)
        return error_set(err, ERROR_INVALID_ARGUMENT, "a FORMATTING record has no attempt");
    if (r->phase == RECORD_READY && r->n_header_digests == 0)
        return error_set(err, ERROR_INVALID_ARGUMENT, "a READY record has no header digest");
    /* A volume that was never READY, or is erased, has neither header digests nor extents. */
    return r->n_header_digests == 0 ||
           volume_extents_check(r->extents, r->n_extents, r->spec.integrity, r->spec.size_bytes,
                                err);
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
    return volume_spec_check(&r->spec, err) && check_phase(r, err);
}
