/* SPDX-License-Identifier: Apache-2.0 */
#include "broker/entry_message.h"

#include <assert.h>
#include <string.h>

typedef Tdvol__Keybroker__V1__Record record_message;
typedef Tdvol__Keybroker__V1__VolumeSpec spec_message;
typedef Tdvol__Keybroker__V1__Extent extent_message;
typedef Tdvol__Keybroker__V1__ChangeRecordRequest change_message;

static_assert((int)TDVOL__KEYBROKER__V1__PHASE__PHASE_ERASED == (int)RECORD_ERASED, "phase");
static_assert((int)TDVOL__KEYBROKER__V1__PHASE__PHASE_READY == (int)RECORD_READY, "phase");
static_assert((int)TDVOL__KEYBROKER__V1__KIND__KIND_SNAPSHOT == (int)RECORD_SNAPSHOT, "kind");
static_assert((int)TDVOL__KEYBROKER__V1__INTEGRITY__INTEGRITY_NONE == (int)RECORD_NO_INTEGRITY,
              "integrity");
static_assert((int)TDVOL__KEYBROKER__V1__INITIALISATION__INITIALISATION_ON_WRITE ==
                  (int)RECORD_ON_WRITE,
              "initialisation");

/* --- to messages: everything is copied, so that the answer outlives the struct --- */

static bool put_bytes(struct arena *arena, const void *bytes, size_t len, ProtobufCBinaryData *out)
{
    out->len = len;
    out->data = arena_memdup(arena, bytes, len);
    return out->data != NULL;
}

static bool put_text(struct arena *arena, const char *text, char **out)
{
    *out = arena_strdup(arena, text);
    return *out != NULL;
}

static bool put_spec(const struct record_spec *in, struct arena *arena, spec_message **out)
{
    spec_message *m = arena_alloc(arena, sizeof(*m));

    if (!m)
        return false;
    tdvol__keybroker__v1__volume_spec__init(m);
    m->size_bytes = in->size_bytes;
    m->integrity = (Tdvol__Keybroker__V1__Integrity)in->integrity;
    m->initialisation = (Tdvol__Keybroker__V1__Initialisation)in->initialisation;
    m->discard = in->discard;
    m->device_bytes = in->device_bytes;
    m->mapping_bytes = in->mapping_bytes;
    m->sector_bytes = in->sector_bytes;
    m->journal_sectors = in->journal_sectors;
    m->interleave_sectors = in->interleave_sectors;
    m->layout_version = in->layout_version;
    *out = m;
    return put_text(arena, in->name, &m->name) && put_text(arena, in->fs_type, &m->fs_type) &&
           put_text(arena, in->location, &m->location);
}

static bool put_extents(const struct record_extents *in, struct arena *arena, record_message *out)
{
    if (in->n == 0)
        return true;
    extent_message **list = arena_alloc(arena, in->n * sizeof(void *));
    extent_message *items = arena_alloc(arena, in->n * sizeof(*items));

    if (!list || !items)
        return false;
    for (size_t i = 0; i < in->n; i++) {
        tdvol__keybroker__v1__extent__init(&items[i]);
        items[i].start_bytes = in->items[i].start_bytes;
        items[i].length_bytes = in->items[i].length_bytes;
        items[i].done = in->items[i].done;
        items[i].slot = in->items[i].slot;
        items[i].region_bytes = in->items[i].region_bytes;
        list[i] = &items[i];
    }
    out->extents = list;
    out->n_extents = in->n;
    return true;
}

static bool put_digests(const struct record *r, struct arena *arena, record_message *out)
{
    ProtobufCBinaryData *list = arena_alloc(arena, sizeof(*list) * RECORD_DIGESTS_MAX);

    if (!list)
        return false;
    for (size_t i = 0; i < r->n_digests; i++)
        if (!put_bytes(arena, r->digests[i], SHA256_LEN, &list[i]))
            return false;
    out->header_digests = list;
    out->n_header_digests = r->n_digests;
    return true;
}

static bool put_lease(const struct record *r, struct arena *arena, record_message *out)
{
    if (r->lease.node[0] == '\0')
        return true;
    out->lease = arena_alloc(arena, sizeof(*out->lease));
    if (!out->lease)
        return false;
    tdvol__keybroker__v1__lease__init(out->lease);
    out->lease->opened_ms = r->opened_ms;
    return put_text(arena, r->lease.node, &out->lease->node) &&
           put_text(arena, r->lease.boot_id, &out->lease->boot_id);
}

static bool put_format(const struct record *r, uint64_t now_ms, struct arena *arena,
                       record_message *out)
{
    if (r->format_attempt == 0)
        return true;
    out->format = arena_alloc(arena, sizeof(*out->format));
    if (!out->format)
        return false;
    tdvol__keybroker__v1__format_attempt__init(out->format);
    out->format->attempt = r->format_attempt;
    out->format->deadline_ms = r->format_deadline_ms;
    out->format->remaining_ms = r->format_deadline_ms > now_ms ? r->format_deadline_ms - now_ms : 0;
    return put_text(arena, r->format.node, &out->format->node) &&
           put_text(arena, r->format.boot_id, &out->format->boot_id);
}

static bool put_origin(const struct record *r, struct arena *arena, record_message *out)
{
    if (!r->origin.is_set)
        return true;
    out->origin = arena_alloc(arena, sizeof(*out->origin));
    if (!out->origin)
        return false;
    tdvol__keybroker__v1__origin__init(out->origin);
    out->origin->counter_low = r->origin.counter_low;
    out->origin->counter_high = r->origin.counter_high;
    return put_bytes(arena, r->origin.record_id, RECORD_ID_LEN, &out->origin->record_id);
}

static bool put_names(const struct record *r, struct arena *arena, record_message *out)
{
    return put_text(arena, r->tenant, &out->tenant) && put_text(arena, r->driver, &out->driver) &&
           put_text(arena, r->volume_id, &out->volume_id) &&
           put_text(arena, r->source_volume_id, &out->source_volume_id) &&
           put_bytes(arena, r->id, RECORD_ID_LEN, &out->record_id) &&
           (r->key.generation == 0 || put_bytes(arena, r->key.id, RECORD_ID_LEN, &out->key_id)) &&
           (!r->has_clean_hash || put_bytes(arena, r->clean_hash, SHA256_LEN, &out->clean_hash));
}

record_message *record_to_message(const struct record *r, uint64_t now_ms, struct arena *arena)
{
    record_message *m = arena_alloc(arena, sizeof(*m));

    if (!m)
        return NULL;
    tdvol__keybroker__v1__record__init(m);
    m->kind = (Tdvol__Keybroker__V1__Kind)r->kind;
    m->phase = (Tdvol__Keybroker__V1__Phase)r->phase;
    m->version = r->version;
    m->generation = r->key.generation;
    m->open_counter = r->open_counter;
    m->created_ms = r->created_ms;
    m->record_version = RECORD_VERSION;
    bool ok = put_names(r, arena, m) && put_spec(&r->spec, arena, &m->spec) &&
              put_digests(r, arena, m) && put_extents(&r->extents, arena, m) &&
              put_lease(r, arena, m) && put_format(r, now_ms, arena, m) && put_origin(r, arena, m);

    return ok ? m : NULL;
}

/* --- from messages --- */

static bool take_bytes(const ProtobufCBinaryData *in, const char *field, size_t len, uint8_t *out,
                       struct error *err)
{
    if (in->len != len)
        return error_set(err, ERROR_INVALID_ARGUMENT, "%s must have %zu bytes", field, len);
    memcpy(out, in->data, len);
    return true;
}

bool record_spec_from_message(const spec_message *in, struct record_spec *out, struct error *err)
{
    if (!in)
        return error_set(err, ERROR_INVALID_ARGUMENT, "spec is missing");

    struct record_spec spec = {
        .integrity = (enum record_integrity)in->integrity,
        .initialisation = (enum record_initialisation)in->initialisation,
        .discard = in->discard != 0,
        .size_bytes = in->size_bytes,
        .device_bytes = in->device_bytes,
        .mapping_bytes = in->mapping_bytes,
        .sector_bytes = in->sector_bytes,
        .journal_sectors = in->journal_sectors,
        .interleave_sectors = in->interleave_sectors,
        .layout_version = in->layout_version,
    };

    if (!record_text(spec.name, sizeof(spec.name), "spec.name", in->name, err) ||
        !record_text(spec.fs_type, sizeof(spec.fs_type), "spec.fs_type", in->fs_type, err) ||
        !record_text(spec.location, sizeof(spec.location), "spec.location", in->location, err))
        return false;
    *out = spec;
    return true;
}

static bool take_extents(extent_message *const *in, size_t n, struct record_extents *out,
                         struct error *err)
{
    if (n > RECORD_EXTENTS_MAX)
        return error_set(err, ERROR_INVALID_ARGUMENT, "more than %d extents", RECORD_EXTENTS_MAX);
    for (size_t i = 0; i < n; i++)
        out->items[i] = (struct record_extent){
            .start_bytes = in[i]->start_bytes,
            .length_bytes = in[i]->length_bytes,
            .done = in[i]->done != 0,
            .slot = in[i]->slot,
            .region_bytes = in[i]->region_bytes,
        };
    out->n = n;
    return true;
}

static bool take_ready(const change_message *in, struct record_change *out, struct error *err)
{
    out->kind = RECORD_CHANGE_READY;
    out->attempt = in->ready->attempt;
    return take_bytes(&in->ready->header_digest, "header_digest", SHA256_LEN, out->header_digest,
                      err) &&
           take_extents(in->ready->extents, in->ready->n_extents, &out->extents, err);
}

static bool take_closed(const change_message *in, struct record_change *out, struct error *err)
{
    out->kind = RECORD_CHANGE_CLOSED;
    out->has_clean_hash = in->closed->clean_hash.len > 0;
    return !out->has_clean_hash ||
           take_bytes(&in->closed->clean_hash, "clean_hash", SHA256_LEN, out->clean_hash, err);
}

static bool take_grown(const change_message *in, struct record_change *out, struct error *err)
{
    out->kind = RECORD_CHANGE_GROWN;
    out->size_bytes = in->grown->size_bytes;
    out->device_bytes = in->grown->device_bytes;
    out->mapping_bytes = in->grown->mapping_bytes;
    return take_extents(in->grown->extents, in->grown->n_extents, &out->extents, err);
}

bool record_change_from_message(const change_message *in, struct record_change *out,
                                struct error *err)
{
    *out = (struct record_change){ .expected_version = in->expected_version };
    switch (in->change_case) {
    case TDVOL__KEYBROKER__V1__CHANGE_RECORD_REQUEST__CHANGE_READY:
        return take_ready(in, out, err);
    case TDVOL__KEYBROKER__V1__CHANGE_RECORD_REQUEST__CHANGE_OPENED:
        out->kind = RECORD_CHANGE_OPENED;
        out->open_counter = in->opened->open_counter;
        return true;
    case TDVOL__KEYBROKER__V1__CHANGE_RECORD_REQUEST__CHANGE_EXTENT_DONE:
        out->kind = RECORD_CHANGE_EXTENT_DONE;
        out->extent_index = in->extent_done->index;
        return true;
    case TDVOL__KEYBROKER__V1__CHANGE_RECORD_REQUEST__CHANGE_CLOSED:
        return take_closed(in, out, err);
    case TDVOL__KEYBROKER__V1__CHANGE_RECORD_REQUEST__CHANGE_GROWN:
        return take_grown(in, out, err);
    case TDVOL__KEYBROKER__V1__CHANGE_RECORD_REQUEST__CHANGE__NOT_SET:
    case _TDVOL__KEYBROKER__V1__CHANGE_RECORD_REQUEST__CHANGE__CASE_IS_INT_SIZE:
    default:
        return error_set(err, ERROR_INVALID_ARGUMENT, "change is missing or unknown");
    }
}

/* --- the packed form --- */

bool record_pack(const struct record *r, struct arena *arena, uint8_t **out, size_t *out_len,
                 struct error *err)
{
    record_message *m = record_to_message(r, 0, arena);

    if (!m)
        return arena_exhausted(err);
    if (m->format)
        m->format->remaining_ms = 0; /* is for answers alone */

    size_t len = tdvol__keybroker__v1__record__get_packed_size(m);
    uint8_t *bytes = arena_alloc(arena, len);

    if (!bytes)
        return arena_exhausted(err);
    tdvol__keybroker__v1__record__pack(m, bytes);
    *out = bytes;
    *out_len = len;
    return true;
}

static bool take_names(const record_message *m, struct record *out, struct error *err)
{
    return take_bytes(&m->record_id, "record_id", RECORD_ID_LEN, out->id, err) &&
           record_text(out->tenant, sizeof(out->tenant), "tenant", m->tenant, err) &&
           record_text(out->driver, sizeof(out->driver), "driver", m->driver, err) &&
           record_text(out->volume_id, sizeof(out->volume_id), "volume_id", m->volume_id, err) &&
           record_text(out->source_volume_id, sizeof(out->source_volume_id), "source_volume_id",
                       m->source_volume_id, err);
}

static bool take_holder(const char *node, const char *boot_id, struct record_holder *out,
                        struct error *err)
{
    return record_text(out->node, sizeof(out->node), "node", node, err) &&
           record_text(out->boot_id, sizeof(out->boot_id), "boot_id", boot_id, err);
}

static bool take_state(const record_message *m, struct record *out, struct error *err)
{
    if (m->lease) {
        out->opened_ms = m->lease->opened_ms;
        if (!take_holder(m->lease->node, m->lease->boot_id, &out->lease, err))
            return false;
    }
    if (m->format) {
        out->format_attempt = m->format->attempt;
        out->format_deadline_ms = m->format->deadline_ms;
        if (!take_holder(m->format->node, m->format->boot_id, &out->format, err))
            return false;
    }
    if (m->origin) {
        out->origin = (struct record_origin){ .is_set = true,
                                              .counter_low = m->origin->counter_low,
                                              .counter_high = m->origin->counter_high };
        if (!take_bytes(&m->origin->record_id, "origin.record_id", RECORD_ID_LEN,
                        out->origin.record_id, err))
            return false;
    }
    out->has_clean_hash = m->clean_hash.len > 0;
    return !out->has_clean_hash ||
           take_bytes(&m->clean_hash, "clean_hash", SHA256_LEN, out->clean_hash, err);
}

static bool take_record(const record_message *m, struct record *out, struct error *err)
{
    out->kind = (enum record_kind)m->kind;
    out->phase = (enum record_phase)m->phase;
    out->version = m->version;
    out->key.generation = m->generation;
    out->open_counter = m->open_counter;
    out->created_ms = m->created_ms;
    if (m->n_header_digests > RECORD_DIGESTS_MAX)
        return error_set(err, ERROR_INVALID_ARGUMENT, "too many header digests");
    out->n_digests = m->n_header_digests;
    for (size_t i = 0; i < out->n_digests; i++)
        if (!take_bytes(&m->header_digests[i], "header_digest", SHA256_LEN, out->digests[i], err))
            return false;
    return take_names(m, out, err) && record_spec_from_message(m->spec, &out->spec, err) &&
           (m->generation == 0 ||
            take_bytes(&m->key_id, "key_id", RECORD_ID_LEN, out->key.id, err)) &&
           take_extents(m->extents, m->n_extents, &out->extents, err) && take_state(m, out, err);
}

bool record_unpack(const uint8_t *bytes, size_t len, struct record *out, struct error *err)
{
    record_message *m = tdvol__keybroker__v1__record__unpack(NULL, len, bytes);
    bool ok = false;

    *out = (struct record){ .version = 0 };
    if (!m)
        return error_set(err, ERROR_INTERNAL, "a stored record cannot be decoded");
    if (m->record_version != RECORD_VERSION) {
        error_set(err, ERROR_FAILED_PRECONDITION,
                  "a stored record has version %u: this broker knows version %u", m->record_version,
                  RECORD_VERSION);
    } else {
        ok = take_record(m, out, err);
        if (!ok) {
            err->code = ERROR_INTERNAL;
            error_wrap(err, "a stored record is damaged");
        }
    }
    tdvol__keybroker__v1__record__free_unpacked(m, NULL);
    return ok;
}
