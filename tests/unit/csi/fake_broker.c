/* SPDX-License-Identifier: Apache-2.0 */
#include "keys/key_record.h"
#include "tests/unit/csi/fake.h"

#include <stdio.h>
#include <string.h>

/* The broker of the fake: each method does what the real one promises. */

static struct fake_record *add_record(struct fake *f, const char *id)
{
    for (size_t i = 0; i < FAKE_MAX; i++) {
        struct fake_record *r = &f->records[i];

        if (r->is_present)
            continue;
        *r = (struct fake_record){ .is_present = true };
        (void)snprintf(r->id, sizeof(r->id), "%s", id);
        (void)snprintf(r->record.volume.volume_id, sizeof(r->record.volume.volume_id), "%s", id);
        r->record.volume.phase = RECORD_NEW;
        r->record.volume.version = 1;
        r->record.volume.generation = 1;
        r->record.created_ms = 1700000000123;
        return r;
    }
    return NULL;
}

/* --- records to messages --- */

static Tdvol__Keybroker__V1__Record *to_message(struct fake *f, const struct key_record *in,
                                                struct arena *arena)
{
    const struct volume_record *v = &in->volume;
    Tdvol__Keybroker__V1__Record *m =
        PLUGIN_MESSAGE(arena, Tdvol__Keybroker__V1__Record, tdvol__keybroker__v1__record__init);
    Tdvol__Keybroker__V1__VolumeSpec *spec = arena_alloc(arena, sizeof(*spec));
    ProtobufCBinaryData *digests = arena_alloc(arena, RECORD_DIGESTS_MAX * sizeof(*digests));

    if (!m || !spec || !digests)
        return NULL;
    key_record_spec_to_message(&v->spec, in->name, in->location, spec);
    spec->name = arena_strdup(arena, spec->name); /* read without the lock */
    spec->location = arena_strdup(arena, spec->location);
    spec->fs_type = arena_strdup(arena, spec->fs_type);
    m->spec = spec;
    m->driver = arena_strdup(arena, f->plugin.driver);
    m->volume_id = arena_strdup(arena, v->volume_id);
    m->source_volume_id = arena_strdup(arena, in->source_id);
    m->kind = (Tdvol__Keybroker__V1__Kind)in->kind;
    m->phase = (Tdvol__Keybroker__V1__Phase)v->phase;
    m->version = v->version;
    m->generation = v->generation;
    m->open_counter = v->open_counter;
    m->record_version = 1;
    m->created_ms = in->created_ms;
    m->record_id.data = arena_memdup(arena, v->record_id, RECORD_ID_LEN);
    m->key_id.data = arena_memdup(arena, v->key_id, RECORD_ID_LEN);
    m->record_id.len = m->key_id.len = RECORD_ID_LEN;
    m->extents = key_record_extents_to_message(v->extents, v->n_extents, arena);
    m->n_extents = v->n_extents;
    for (uint32_t i = 0; i < v->n_header_digests; i++) {
        digests[i].data = arena_memdup(arena, v->header_digests[i], SHA256_LEN);
        digests[i].len = SHA256_LEN;
    }
    m->header_digests = digests;
    m->n_header_digests = v->n_header_digests;
    if (v->phase == RECORD_FORMATTING) {
        m->format = PLUGIN_MESSAGE(arena, Tdvol__Keybroker__V1__FormatAttempt,
                                   tdvol__keybroker__v1__format_attempt__init);
        m->format->attempt = v->format_attempt;
        m->format->remaining_ms = v->format_remaining_ms;
    }
    if (in->lease_node[0] != '\0') {
        m->lease =
            PLUGIN_MESSAGE(arena, Tdvol__Keybroker__V1__Lease, tdvol__keybroker__v1__lease__init);
        m->lease->node = arena_strdup(arena, in->lease_node);
    }
    if (f->distort)
        f->distort(m);
    return m;
}

#define RESPONSE(arena, Type, init) PLUGIN_MESSAGE(arena, Tdvol__Keybroker__V1__##Type, init)

static bool give(struct fake *f, const struct key_record *record, struct arena *arena,
                 ProtobufCMessage **response)
{
    /* All answers that are one record have the same shape. */
    Tdvol__Keybroker__V1__GetRecordResponse *m =
        RESPONSE(arena, GetRecordResponse, tdvol__keybroker__v1__get_record_response__init);

    m->record = to_message(f, record, arena);
    *response = &m->base;
    return m->record != NULL;
}

static bool missing(const char *id, struct error *err)
{
    return error_set(err, ERROR_NOT_FOUND, "there is no volume or snapshot %s", id);
}

/* --- the broker's methods --- */

struct broker_call {
    struct fake *f;
    struct arena *arena;
    ProtobufCMessage **response;
};

static void take_spec(const Tdvol__Keybroker__V1__VolumeSpec *in, struct key_record *out)
{
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
    (void)snprintf(out->volume.spec.fs_type, sizeof(out->volume.spec.fs_type), "%s", in->fs_type);
    (void)snprintf(out->name, sizeof(out->name), "%s", in->name);
    (void)snprintf(out->location, sizeof(out->location), "%s", in->location);
}

static bool create(struct broker_call *c, const void *request, struct error *err)
{
    const Tdvol__Keybroker__V1__CreateRecordRequest *in = request;
    struct fake_record *r = fake_record(c->f, in->volume_id);

    if (r && r->record.volume.spec.size_bytes != in->spec->size_bytes)
        return error_set(err, ERROR_ALREADY_EXISTS, "exists otherwise");
    if (!r) {
        r = add_record(c->f, in->volume_id);
        r->record.kind = KEY_VOLUME;
        take_spec(in->spec, &r->record);
    }
    return give(c->f, &r->record, c->arena, c->response);
}

static bool copy(struct broker_call *c, const void *request, struct error *err)
{
    const Tdvol__Keybroker__V1__CopyRecordRequest *in = request;
    const struct fake_record *source = fake_record(c->f, in->source_volume_id);

    if (!source)
        return missing(in->source_volume_id, err);
    if (source->record.volume.version != in->source_version)
        return error_set(err, ERROR_ABORTED, "the source changed");
    struct fake_record *r = add_record(c->f, in->volume_id);
    char id[129];

    memcpy(id, r->id, sizeof(id));
    r->record = source->record;
    memcpy(r->record.volume.volume_id, id, sizeof(id));
    r->record.kind = (enum key_kind)in->kind;
    r->record.volume.version = 1;
    r->record.lease_node[0] = '\0';
    (void)snprintf(r->record.name, sizeof(r->record.name), "%s", in->name);
    (void)snprintf(r->record.source_id, sizeof(r->record.source_id), "%s", in->source_volume_id);
    return give(c->f, &r->record, c->arena, c->response);
}

static bool get(struct broker_call *c, const void *request, struct error *err)
{
    const Tdvol__Keybroker__V1__GetRecordRequest *in = request;
    const struct fake_record *r = fake_record(c->f, in->volume_id);

    return r ? give(c->f, &r->record, c->arena, c->response) : missing(in->volume_id, err);
}

/* The page token is the number of the record to go on with. */
static bool list(struct broker_call *c, const void *request, struct error *err)
{
    const Tdvol__Keybroker__V1__ListRecordsRequest *in = request;
    Tdvol__Keybroker__V1__ListRecordsResponse *m =
        RESPONSE(c->arena, ListRecordsResponse, tdvol__keybroker__v1__list_records_response__init);
    size_t i = 0, limit = in->page_size > 0 && in->page_size < 3 ? in->page_size : 3;

    if (in->page_token[0] != '\0' && sscanf(in->page_token, "at-%zu", &i) != 1)
        return error_set(err, ERROR_ABORTED, "page_token is not known");
    m->records = arena_alloc(c->arena, FAKE_MAX * sizeof(*m->records));
    for (; i < FAKE_MAX; i++) {
        const struct fake_record *r = &c->f->records[i];

        if (!r->is_present || (int)in->kind != (int)r->record.kind ||
            (in->source_volume_id[0] != '\0' &&
             strcmp(in->source_volume_id, r->record.source_id) != 0))
            continue;
        if (m->n_records == limit) {
            m->next_page_token = arena_printf(c->arena, "at-%zu", i);
            break;
        }
        m->records[m->n_records++] = to_message(c->f, &r->record, c->arena);
    }
    *c->response = &m->base;
    return true;
}

static bool open_volume(struct broker_call *c, const void *request, struct error *err)
{
    const Tdvol__Keybroker__V1__OpenVolumeRequest *in = request;
    struct fake_record *r = fake_record(c->f, in->volume_id);
    Tdvol__Keybroker__V1__OpenVolumeResponse *m =
        RESPONSE(c->arena, OpenVolumeResponse, tdvol__keybroker__v1__open_volume_response__init);

    if (!r)
        return missing(in->volume_id, err);
    if (r->record.volume.phase == RECORD_NEW) {
        r->record.volume.phase = RECORD_FORMATTING;
        r->record.volume.format_attempt++;
        r->record.volume.format_remaining_ms = 600000;
    }
    if (!in->read_only)
        (void)snprintf(r->record.lease_node, sizeof(r->record.lease_node), "%s", in->node);
    r->record.volume.version++;
    m->record = to_message(c->f, &r->record, c->arena);
    m->sealed_secret.len = sizeof(((struct sealed_secret *)0)->bytes);
    m->sealed_secret.data = arena_alloc(c->arena, m->sealed_secret.len);
    *c->response = &m->base;
    return true;
}

static void apply_change(struct key_record *r, const Tdvol__Keybroker__V1__ChangeRecordRequest *in)
{
    struct volume_record *v = &r->volume;

    switch ((int)in->change_case) {
    case TDVOL__KEYBROKER__V1__CHANGE_RECORD_REQUEST__CHANGE_READY:
        v->phase = RECORD_READY;
        v->n_header_digests = 1;
        v->n_extents = (uint32_t)in->ready->n_extents;
        for (uint32_t i = 0; i < v->n_extents; i++)
            v->extents[i] = (struct volume_extent){
                .start_bytes = in->ready->extents[i]->start_bytes,
                .length_bytes = in->ready->extents[i]->length_bytes,
                .region_bytes = in->ready->extents[i]->region_bytes,
            };
        break;
    case TDVOL__KEYBROKER__V1__CHANGE_RECORD_REQUEST__CHANGE_CLOSED:
        r->lease_node[0] = '\0';
        break;
    case TDVOL__KEYBROKER__V1__CHANGE_RECORD_REQUEST__CHANGE_GROWN:
        v->spec.size_bytes = in->grown->size_bytes;
        v->spec.device_bytes = in->grown->device_bytes;
        v->spec.mapping_bytes = in->grown->mapping_bytes;
        break;
    case TDVOL__KEYBROKER__V1__CHANGE_RECORD_REQUEST__CHANGE_EXTENT_DONE:
        v->extents[in->extent_done->index].done = true;
        break;
    case TDVOL__KEYBROKER__V1__CHANGE_RECORD_REQUEST__CHANGE_OPENED:
    case TDVOL__KEYBROKER__V1__CHANGE_RECORD_REQUEST__CHANGE__NOT_SET:
    default:
        break;
    }
    v->version++;
}

static bool change(struct broker_call *c, const void *request, struct error *err)
{
    const Tdvol__Keybroker__V1__ChangeRecordRequest *in = request;
    struct fake_record *r = fake_record(c->f, in->volume_id);

    if (!r)
        return missing(in->volume_id, err);
    if (r->record.volume.version != in->expected_version)
        return error_set(err, ERROR_ABORTED, "version");
    apply_change(&r->record, in);
    return give(c->f, &r->record, c->arena, c->response);
}

static bool begin_delete(struct broker_call *c, const void *request, struct error *err)
{
    const Tdvol__Keybroker__V1__DeleteRequest *in = request;
    struct fake_record *r = fake_record(c->f, in->volume_id);

    if (!r)
        return missing(in->volume_id, err);
    if (r->record.lease_node[0] != '\0')
        return error_set(err, ERROR_FAILED_PRECONDITION, "open on node %s", r->record.lease_node);
    r->record.volume.phase = RECORD_DELETING;
    return give(c->f, &r->record, c->arena, c->response);
}

static bool cancel_delete(struct broker_call *c, const void *request, struct error *err)
{
    const Tdvol__Keybroker__V1__DeleteRequest *in = request;
    struct fake_record *r = fake_record(c->f, in->volume_id);

    if (!r)
        return missing(in->volume_id, err);
    r->record.volume.phase = r->record.volume.n_header_digests > 0 ? RECORD_READY : RECORD_NEW;
    return give(c->f, &r->record, c->arena, c->response);
}

static bool finish_delete(struct broker_call *c, const void *request, struct error *err)
{
    const Tdvol__Keybroker__V1__DeleteRequest *in = request;
    struct fake_record *r = fake_record(c->f, in->volume_id);

    if (!r)
        return missing(in->volume_id, err);
    r->is_present = false;
    return give(c->f, &r->record, c->arena, c->response);
}

static bool status(struct broker_call *c, const void *request UNUSED, struct error *err UNUSED)
{
    Tdvol__Keybroker__V1__GetStatusResponse *m =
        RESPONSE(c->arena, GetStatusResponse, tdvol__keybroker__v1__get_status_response__init);

    m->state = TDVOL__KEYBROKER__V1__BROKER_STATE__BROKER_STATE_OPEN;
    *c->response = &m->base;
    return true;
}

static const struct broker_method {
    const char *name;
    bool (*run)(struct broker_call *c, const void *request, struct error *err);
} broker_methods[] = {
    { "GetStatus", status },
    { "CreateRecord", create },
    { "CopyRecord", copy },
    { "GetRecord", get },
    { "ListRecords", list },
    { "OpenVolume", open_volume },
    { "ChangeRecord", change },
    { "BeginDelete", begin_delete },
    { "CancelDelete", cancel_delete },
    { "FinishDelete", finish_delete },
};

bool fake_broker_call(void *cookie, const char *operation UNUSED, const char *method,
                      const ProtobufCMessage *request, struct arena *arena,
                      ProtobufCMessage **response, struct error *err)
{
    struct fake *f = cookie;
    struct broker_call c = { .f = f, .arena = arena, .response = response };
    bool done = false;

    fake_work(f, true);
    pthread_mutex_lock(&f->lock);
    fake_note(f, method);
    bool faulty = fake_is_faulty(f, method, err);
    for (size_t i = 0; i < ARRAY_LEN(broker_methods); i++)
        if (strcmp(method, broker_methods[i].name) == 0 && (!faulty || f->fault.is_lost))
            done = broker_methods[i].run(&c, request, err);
    if (faulty)
        error_set(err, f->fault.code, "%s failed", method);
    if (faulty && f->fault.reason)
        error_reason(err, f->fault.reason);
    if (faulty && f->fault.is_single)
        f->fault.at = NULL;
    pthread_mutex_unlock(&f->lock);
    fake_work(f, false);
    return done && !faulty;
}
