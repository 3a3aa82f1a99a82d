/* SPDX-License-Identifier: Apache-2.0 */
#include "keys/key_record.h"

#include "record/layout.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

typedef Tdvol__Keybroker__V1__Record record_message;
typedef Tdvol__Keybroker__V1__VolumeSpec spec_message;
typedef Tdvol__Keybroker__V1__Extent extent_message;

static_assert((int)TDVOL__KEYBROKER__V1__INTEGRITY__INTEGRITY_NONE == (int)INTEGRITY_NONE, "");
static_assert((int)TDVOL__KEYBROKER__V1__INITIALISATION__INITIALISATION_ON_WRITE ==
                  (int)INITIALISATION_ON_WRITE,
              "");
static_assert((int)TDVOL__KEYBROKER__V1__PHASE__PHASE_ERASED == (int)RECORD_ERASED, "");
static_assert((int)TDVOL__KEYBROKER__V1__KIND__KIND_SNAPSHOT == (int)KEY_SNAPSHOT, "");

static bool wrong(const char *what, struct error *err)
{
    return error_set(err, ERROR_INTERNAL, "the key broker's answer is not usable: %s", what);
}

static bool take_text(const char *text, const char *field, char *out, size_t size,
                      struct error *err)
{
    size_t len = strlen(text);

    if (len >= size)
        return wrong(field, err);
    memcpy(out, text, len + 1);
    return true;
}

static bool take_bytes(const ProtobufCBinaryData *in, const char *field, uint8_t *out, size_t len,
                       struct error *err)
{
    if (in->len != len)
        return wrong(field, err);
    memcpy(out, in->data, len);
    return true;
}

static bool is_within(uint32_t value, uint32_t low, uint32_t high)
{
    return value >= low && value <= high;
}

static bool check_spec(const struct volume_spec *spec, struct error *err)
{
    if (spec->layout_version != LAYOUT_VERSION)
        return error_set(err, ERROR_FAILED_PRECONDITION,
                         "the volume has layout version %u, this plugin knows version %u",
                         spec->layout_version, (unsigned)LAYOUT_VERSION);
    if (!is_within(spec->integrity, INTEGRITY_AEGIS128, INTEGRITY_NONE))
        return wrong("spec.integrity", err);
    if (!is_within(spec->initialisation, INITIALISATION_BACKGROUND, INITIALISATION_ON_WRITE))
        return wrong("spec.initialisation", err);
    if (spec->sector_bytes != VOLUME_SECTOR_BYTES)
        return wrong("spec.sector_bytes", err);
    if (spec->discard && spec->integrity != INTEGRITY_NONE)
        return wrong("spec.discard", err);
    if (!is_within((uint32_t)strlen(spec->fs_type), 0, FS_TYPE_MAX) ||
        (strcmp(spec->fs_type, "") != 0 && strcmp(spec->fs_type, "ext4") != 0 &&
         strcmp(spec->fs_type, "xfs") != 0))
        return wrong("spec.fs_type", err);
    if (spec->size_bytes < VOLUME_SIZE_MIN || spec->size_bytes > VOLUME_SIZE_MAX ||
        spec->size_bytes % VOLUME_SECTOR_BYTES != 0 || spec->device_bytes > INT64_MAX ||
        spec->mapping_bytes < LAYOUT_RESERVED_BYTES + spec->size_bytes ||
        spec->device_bytes < LAYOUT_DATA_OFFSET ||
        spec->mapping_bytes > spec->device_bytes - LAYOUT_DATA_OFFSET)
        return wrong("spec: sizes do not fit into each other", err);
    return true;
}

static bool take_spec(const spec_message *in, struct key_record *out, struct error *err)
{
    if (!in)
        return wrong("no spec", err);
    out->volume.spec = (struct volume_spec){
        .size_bytes = in->size_bytes,
        .device_bytes = in->device_bytes,
        .mapping_bytes = in->mapping_bytes,
        .integrity = (uint32_t)in->integrity,
        .initialisation = (uint32_t)in->initialisation,
        .sector_bytes = in->sector_bytes,
        .journal_sectors = in->journal_sectors,
        .interleave_sectors = in->interleave_sectors,
        .layout_version = in->layout_version,
        .discard = in->discard != 0,
    };
    return take_text(in->name, "spec.name", out->name, sizeof(out->name), err) &&
           take_text(in->location, "spec.location", out->location, sizeof(out->location), err) &&
           take_text(in->fs_type, "spec.fs_type", out->volume.spec.fs_type,
                     sizeof(out->volume.spec.fs_type), err) &&
           check_spec(&out->volume.spec, err);
}

/* Within the user area, each after the one before, with a map that can exist. */
static bool take_extents(const record_message *in, struct volume_record *out, struct error *err)
{
    uint64_t user_bytes = out->spec.mapping_bytes - LAYOUT_RESERVED_BYTES;
    uint64_t end_bytes = 0;

    if (in->n_extents > RECORD_EXTENTS_MAX)
        return wrong("too many extents", err);
    for (size_t i = 0; i < in->n_extents; i++) {
        const extent_message *e = in->extents[i];

        if (e->start_bytes != end_bytes || e->length_bytes == 0 ||
            e->length_bytes > user_bytes - end_bytes || e->slot >= LAYOUT_SLOT_COUNT ||
            (!e->done && (e->region_bytes == 0 || (e->region_bytes & (e->region_bytes - 1)) != 0)))
            return wrong("extents", err);
        end_bytes += e->length_bytes;
        out->extents[i] = (struct volume_extent){
            .start_bytes = e->start_bytes,
            .length_bytes = e->length_bytes,
            .done = e->done != 0,
            .slot = e->slot,
            .region_bytes = e->region_bytes,
        };
    }
    out->n_extents = (uint32_t)in->n_extents;
    return true;
}

static bool take_digests(const record_message *in, struct volume_record *out, struct error *err)
{
    if (in->n_header_digests > RECORD_DIGESTS_MAX)
        return wrong("too many header digests", err);
    if (out->phase == RECORD_READY && in->n_header_digests == 0)
        return wrong("a READY record without header digest", err);
    for (size_t i = 0; i < in->n_header_digests; i++)
        if (!take_bytes(&in->header_digests[i], "header_digests", out->header_digests[i],
                        SHA256_LEN, err))
            return false;
    out->n_header_digests = (uint32_t)in->n_header_digests;
    out->has_clean_hash = in->clean_hash.len > 0;
    return !out->has_clean_hash ||
           take_bytes(&in->clean_hash, "clean_hash", out->clean_hash, SHA256_LEN, err);
}

static bool take_origin(const Tdvol__Keybroker__V1__Origin *in, struct volume_record *out,
                        struct error *err)
{
    if (!in)
        return true;
    out->origin.is_set = true;
    out->origin.counter_low = in->counter_low;
    out->origin.counter_high = in->counter_high;
    if (in->counter_high < in->counter_low)
        return wrong("origin: counters", err);
    return take_bytes(&in->record_id, "origin.record_id", out->origin.record_id, RECORD_ID_LEN,
                      err);
}

static bool take_format(const record_message *in, struct volume_record *out, struct error *err)
{
    if (out->phase == RECORD_FORMATTING && !in->format)
        return wrong("a FORMATTING record without attempt", err);
    if (in->format) {
        out->format_attempt = in->format->attempt;
        out->format_remaining_ms = in->format->remaining_ms;
    }
    return true;
}

/* An erased record, which listings leave out, is of no use to us. */
static bool take_identity(const record_message *in, struct key_record *out, struct error *err)
{
    struct volume_record *volume = &out->volume;

    if (!is_within((uint32_t)in->phase, RECORD_NEW, RECORD_ERASED))
        return wrong("phase", err);
    if (!is_within((uint32_t)in->kind, KEY_VOLUME, KEY_SNAPSHOT))
        return wrong("kind", err);
    if (in->phase == TDVOL__KEYBROKER__V1__PHASE__PHASE_ERASED)
        return error_set(err, ERROR_NOT_FOUND, "%s was deleted", in->volume_id);
    if (in->version == 0 || in->generation == 0)
        return wrong("version or generation", err);
    out->kind = (enum key_kind)in->kind;
    out->created_ms = in->created_ms;
    volume->phase = (uint32_t)in->phase;
    volume->version = in->version;
    volume->generation = in->generation;
    volume->open_counter = in->open_counter;
    return take_text(in->volume_id, "volume_id", volume->volume_id, sizeof(volume->volume_id),
                     err) &&
           take_text(in->source_volume_id, "source_volume_id", out->source_id,
                     sizeof(out->source_id), err) &&
           take_bytes(&in->record_id, "record_id", volume->record_id, RECORD_ID_LEN, err) &&
           take_bytes(&in->key_id, "key_id", volume->key_id, RECORD_ID_LEN, err) &&
           (!in->lease || take_text(in->lease->node, "lease.node", out->lease_node,
                                    sizeof(out->lease_node), err));
}

bool key_record_from_message(const record_message *message, const char *driver,
                             const char *volume_id, struct key_record *out, struct error *err)
{
    struct key_record found = { .created_ms = 0 };

    if (!message)
        return wrong("no record", err);
    if (message->record_version != KEY_RECORD_VERSION)
        return error_set(err, ERROR_FAILED_PRECONDITION,
                         "the record has version %u, this plugin knows version %u",
                         message->record_version, KEY_RECORD_VERSION);
    if (strcmp(message->driver, driver) != 0 || message->volume_id[0] == '\0' ||
        (volume_id && strcmp(message->volume_id, volume_id) != 0))
        return wrong("a record of another volume", err);
    if (!take_identity(message, &found, err) || !take_spec(message->spec, &found, err) ||
        !take_extents(message, &found.volume, err) || !take_digests(message, &found.volume, err) ||
        !take_origin(message->origin, &found.volume, err) ||
        !take_format(message, &found.volume, err))
        return false;
    *out = found;
    return true;
}

void key_record_spec_to_message(const struct volume_spec *spec, const char *name,
                                const char *location, spec_message *out)
{
    tdvol__keybroker__v1__volume_spec__init(out);
    /* The generated struct has no const; nothing writes through it. */
    out->name = (char *)(uintptr_t)name;
    out->location = (char *)(uintptr_t)location;
    out->fs_type = (char *)(uintptr_t)spec->fs_type;
    out->size_bytes = spec->size_bytes;
    out->integrity = (Tdvol__Keybroker__V1__Integrity)spec->integrity;
    out->initialisation = (Tdvol__Keybroker__V1__Initialisation)spec->initialisation;
    out->discard = spec->discard;
    out->device_bytes = spec->device_bytes;
    out->mapping_bytes = spec->mapping_bytes;
    out->sector_bytes = spec->sector_bytes;
    out->journal_sectors = spec->journal_sectors;
    out->interleave_sectors = spec->interleave_sectors;
    out->layout_version = spec->layout_version;
}

extent_message **key_record_extents_to_message(const struct volume_extent *extents, size_t n,
                                               struct arena *arena)
{
    extent_message **list = arena_alloc(arena, (n + 1) * sizeof(*list));
    extent_message *items = arena_alloc(arena, (n + 1) * sizeof(*items));

    if (!list || !items)
        return NULL;
    for (size_t i = 0; i < n; i++) {
        tdvol__keybroker__v1__extent__init(&items[i]);
        items[i].start_bytes = extents[i].start_bytes;
        items[i].length_bytes = extents[i].length_bytes;
        items[i].done = extents[i].done;
        items[i].slot = extents[i].slot;
        items[i].region_bytes = extents[i].region_bytes;
        list[i] = &items[i];
    }
    return list;
}
