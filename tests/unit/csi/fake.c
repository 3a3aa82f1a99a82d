/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/csi/fake.h"

#include "crypt/layout.h"
#include "csi/key_record.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* --- bookkeeping --- */

static void note(struct fake *f, const char *name)
{
    if (f->n_log < ARRAY_LEN(f->log))
        (void)snprintf(f->log[f->n_log++], sizeof(f->log[0]), "%s", name);
}

bool fake_called(const struct fake *f, const char *const *names)
{
    for (size_t i = 0; i < f->n_log && *names; i++)
        if (strcmp(f->log[i], *names) == 0)
            names++;
    return !*names;
}

size_t fake_count(const struct fake *f, const char *name)
{
    size_t n = 0;

    for (size_t i = 0; i < f->n_log; i++)
        n += strcmp(f->log[i], name) == 0;
    return n;
}

static bool is_faulty(struct fake *f, const char *name, struct error *err)
{
    struct fake_fault *fault = &f->fault;

    if (!fault->at || strcmp(fault->at, name) != 0)
        return false;
    if (fault->after > 0) {
        fault->after--;
        return false;
    }
    error_set(err, fault->code, "%s failed", name);
    if (fault->reason)
        error_reason(err, fault->reason);
    return true;
}

struct fake_record *fake_record(struct fake *f, const char *id)
{
    for (size_t i = 0; i < FAKE_MAX; i++)
        if (f->records[i].is_present && strcmp(f->records[i].id, id) == 0)
            return &f->records[i];
    return NULL;
}

struct fake_volume *fake_volume(struct fake *f, const char *id)
{
    struct fake_volume *free_one = NULL;

    for (size_t i = 0; i < FAKE_MAX; i++) {
        if (strcmp(f->volumes[i].id, id) == 0)
            return &f->volumes[i];
        if (!free_one && f->volumes[i].id[0] == '\0')
            free_one = &f->volumes[i];
    }
    if (free_one)
        (void)snprintf(free_one->id, sizeof(free_one->id), "%s", id);
    return free_one;
}

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

    switch (in->change_case) {
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

static bool broker_call(void *cookie, const char *operation UNUSED, const char *method,
                        const ProtobufCMessage *request, struct arena *arena,
                        ProtobufCMessage **response, struct error *err)
{
    struct fake *f = cookie;
    struct broker_call c = { .f = f, .arena = arena, .response = response };
    bool done = false;

    pthread_mutex_lock(&f->lock);
    note(f, method);
    bool faulty = is_faulty(f, method, err);
    for (size_t i = 0; i < ARRAY_LEN(broker_methods); i++)
        if (strcmp(method, broker_methods[i].name) == 0 && (!faulty || f->fault.is_lost))
            done = broker_methods[i].run(&c, request, err);
    if (faulty)
        error_set(err, f->fault.code, "%s failed", method);
    if (faulty && f->fault.reason)
        error_reason(err, f->fault.reason);
    pthread_mutex_unlock(&f->lock);
    return done && !faulty;
}

/* --- the workers' operations --- */

static bool in_use(const char *id, struct error *err)
{
    return error_set(err, ERROR_FAILED_PRECONDITION, "volume %s is in use", id);
}

static bool make_file(struct fake *f, const char *id, uint64_t bytes, struct block_result *out,
                      struct error *err)
{
    struct fake_volume *v = fake_volume(f, id);

    if (v->has_file && v->bytes != bytes)
        return error_set(err, ERROR_ALREADY_EXISTS, "another size");
    out->already = v->has_file;
    v->has_file = true;
    v->bytes = bytes;
    return true;
}

/* Opens, formats what is new, and records that, as a worker does. */
static bool stage(struct fake *f, const struct block_run *run, struct block_result *out,
                  struct error *err)
{
    const struct block_request *request = run->request;
    struct fake_volume *v = fake_volume(f, request->volume_id);
    struct volume_record record;
    struct sealed_secret secret;
    const uint8_t key[HPKE_PUBLIC_LEN] = { 1 };

    if (v->is_staged && strcmp(v->staging, request->path) != 0)
        return error_set(err, ERROR_ALREADY_EXISTS, "staged at another path");
    out->already = v->is_staged;
    if (v->is_staged)
        return true;
    if (!v->has_file)
        return error_set(err, ERROR_NOT_FOUND, "no file");
    pthread_mutex_unlock(&f->lock);
    bool opened = run->hooks->open(run->hook_cookie, key, &record, &secret, err);
    if (opened && record.phase == RECORD_FORMATTING) {
        struct record_change ready = { .kind = RECORD_CHANGE_READY };

        if (record.spec.integrity != INTEGRITY_NONE) {
            ready.n_extents = 1;
            ready.extents[0] = (struct volume_extent){ .length_bytes = record.spec.size_bytes,
                                                       .region_bytes = 65536 };
        }
        opened = run->hooks->change(run->hook_cookie, &ready, &record, err);
    }
    pthread_mutex_lock(&f->lock);
    if (!opened)
        return false;
    v->is_staged = true;
    v->read_only = request->read_only;
    (void)snprintf(v->staging, sizeof(v->staging), "%.255s", request->path);
    (void)snprintf(v->fs_type, sizeof(v->fs_type), "%s", request->fs_type);
    return true;
}

static bool unstage(struct fake *f, const struct block_run *run, struct block_result *out)
{
    struct fake_volume *v = fake_volume(f, run->request->volume_id);
    const struct record_change closed = { .kind = RECORD_CHANGE_CLOSED };
    struct volume_record record;
    struct error ignored = ERROR_INIT;
    bool was_open = v->is_staged && !v->read_only;

    out->already = !v->is_staged;
    v->is_staged = false;
    pthread_mutex_unlock(&f->lock);
    if (was_open && !run->hooks->change(run->hook_cookie, &closed, &record, &ignored))
        out->already = false;
    pthread_mutex_lock(&f->lock);
    return true;
}

static bool publish(struct fake *f, const struct block_request *request, struct error *err)
{
    struct fake_volume *v = fake_volume(f, request->volume_id);
    size_t n = ARRAY_LEN(v->targets);

    if (!v->is_staged)
        return error_set(err, ERROR_FAILED_PRECONDITION, "the volume is not staged here");
    for (size_t i = 0; i < n; i++)
        if (request->exclusive && v->targets[i][0] != '\0' &&
            strcmp(v->targets[i], request->path) != 0)
            return error_set(err, ERROR_FAILED_PRECONDITION, "published at another target");
    for (size_t i = 0; i < n; i++) {
        if (v->targets[i][0] != '\0')
            continue;
        (void)snprintf(v->targets[i], sizeof(v->targets[i]), "%.255s", request->path);
        return true;
    }
    return false;
}

static bool expand(struct fake *f, const struct block_run *run, struct error *err)
{
    struct volume_record record;
    struct sealed_secret secret;
    const uint8_t key[HPKE_PUBLIC_LEN] = { 1 };

    pthread_mutex_unlock(&f->lock);
    bool opened = run->hooks->open(run->hook_cookie, key, &record, &secret, err);
    pthread_mutex_lock(&f->lock);
    return opened;
}

static bool operate(struct fake *f, const struct block_run *run, struct block_result *out,
                    struct error *err)
{
    const struct block_request *request = run->request;
    struct fake_volume *v = fake_volume(f, request->volume_id);

    switch ((enum block_operation)request->operation) {
    case BLOCK_CREATE:
        return make_file(f, request->volume_id, request->size_bytes, out, err);
    case BLOCK_COPY:
        if (!make_file(f, request->copy_id, v->bytes, out, err))
            return false;
        if (f->after_copy)
            f->after_copy(f);
        return true;
    case BLOCK_DELETE:
        if (v->is_staged)
            return in_use(request->volume_id, err);
        v->has_file = false;
        return true;
    case BLOCK_RESIZE:
        v->bytes = request->size_bytes;
        return true;
    case BLOCK_CAPACITY:
        out->size_bytes = f->free_bytes;
        return true;
    case BLOCK_STAGE:
        return stage(f, run, out, err);
    case BLOCK_UNSTAGE:
        return unstage(f, run, out);
    case BLOCK_PUBLISH:
        return publish(f, request, err);
    case BLOCK_EXPAND:
        return expand(f, run, err);
    case BLOCK_STATS:
        if (!v->is_staged)
            return error_set(err, ERROR_NOT_FOUND, "not there");
        out->stats = (struct block_stats){ .is_block = v->fs_type[0] == '\0',
                                           .total_bytes = 100,
                                           .used_bytes = 40,
                                           .available_bytes = 60,
                                           .total_inodes = 10 };
        return true;
    case BLOCK_INSPECT:
        out->status.is_active = v->is_staged;
        return true;
    case BLOCK_UNPUBLISH:
    case BLOCK_FINISH:
    case BLOCK_WATCH:
    case BLOCK_PROBE:
    case BLOCK_LIST:
    case BLOCK_UNLINK:
    case BLOCK_OPERATION_COUNT:
    default:
        return true;
    }
}

static bool blocks_run(void *cookie, const struct block_run *run, struct block_result *out,
                       struct error *err)
{
    struct fake *f = cookie;
    const char *name = block_operation_name((enum block_operation)run->request->operation);

    if (f->during)
        f->during(f, run->request);
    pthread_mutex_lock(&f->lock);
    note(f, name);
    f->last = *run->request;
    bool faulty = is_faulty(f, name, err);
    *out = (struct block_result){ .already = false };
    bool done = (!faulty || f->fault.is_lost) && operate(f, run, out, err);
    if (faulty)
        error_set(err, f->fault.code, "%s failed", name);
    if (faulty && f->fault.reason)
        error_reason(err, f->fault.reason);
    pthread_mutex_unlock(&f->lock);
    return done && !faulty;
}

/* --- the plugin --- */

struct fake *fake_new(void)
{
    struct fake *f = calloc(1, sizeof(*f));
    struct error err = ERROR_INIT;

    if (!f || !inflight_new(&f->plugin.inflight, &err) || !health_new(&f->plugin.health, &err))
        abort();
    pthread_mutex_init(&f->lock, NULL);
    f->free_bytes = 10ull << 30;
    f->plugin.driver = "csi.example.org";
    f->plugin.node_id = "node-1";
    f->plugin.version = "1.2.3";
    f->plugin.kubelet_endpoint = "/var/lib/kubelet/plugins/x/csi.sock";
    f->plugin.serves_controller = f->plugin.serves_node = true;
    f->plugin.max_volumes = 12;
    f->plugin.default_integrity = INTEGRITY_AEGIS128;
    f->plugin.backing = &backing_local;
    f->plugin.blocks = (struct blocks){ .run = blocks_run, .cookie = f };
    f->plugin.keys.broker = (struct broker){ .call = broker_call, .cookie = f };
    f->plugin.keys.driver = f->plugin.driver;
    f->plugin.keys.node = f->plugin.node_id;
    f->plugin.probe.crypt = true;
    (void)snprintf(f->plugin.topology_key, sizeof(f->plugin.topology_key), "topology.%s/node",
                   f->plugin.driver);
    return f;
}

void fake_free(struct fake *f)
{
    inflight_free(f->plugin.inflight);
    health_free(f->plugin.health);
    pthread_mutex_destroy(&f->lock);
    free(f);
}

static const ProtobufCMessageDescriptor *output_of(const struct rpc_service *service,
                                                   const char *method)
{
    const ProtobufCMethodDescriptor *m =
        protobuf_c_service_descriptor_get_method_by_name(service->descriptor, method);

    return m->output;
}

static void *arena_for_pb(void *arena, size_t len)
{
    return arena_alloc(arena, len);
}

static void no_free(void *arena UNUSED, void *pointer UNUSED)
{
}

void *fake_call(struct fake *f, const struct rpc_service *service, const char *name,
                const void *request, struct arena *arena, struct error *err)
{
    static const struct rpc_limits limits = { .message_bytes = 1u << 20,
                                              .string_bytes = 128,
                                              .map_bytes = 4096 };
    ProtobufCAllocator allocator = { arena_for_pb, no_free, arena };
    char path[128];
    const ProtobufCMessage *message = request;
    auto_arena struct arena own = { .limit = 1u << 20 };
    struct rpc_call call = { .method = path, .arena = &own, .deadline_ms = UINT64_MAX };
    size_t len = protobuf_c_message_get_packed_size(message);
    uint8_t *bytes = arena_alloc(arena, len + 1);
    struct rpc_bytes out = { .len = 0 };

    (void)snprintf(path, sizeof(path), "/%s/%s", service->descriptor->name, name);
    const struct rpc_method *method = rpc_service_find(service, path);
    if (!method) {
        error_set(err, ERROR_UNIMPLEMENTED, "no such method");
        return NULL;
    }
    own.secret = (method->flags & RPC_SECRET) != 0;
    (void)protobuf_c_message_pack(message, bytes);
    *err = (struct error)ERROR_INIT;
    if (!rpc_dispatch(service, method, &f->plugin, &call, &limits, (struct rpc_bytes){ bytes, len },
                      &out, err))
        return NULL;
    return protobuf_c_message_unpack(output_of(service, name), &allocator, out.len, out.bytes);
}

/* --- requests --- */

Csi__V1__VolumeCapability *fake_mount(const char *fs_type)
{
    static Csi__V1__VolumeCapability capability;
    static Csi__V1__VolumeCapability__MountVolume mount;
    static Csi__V1__VolumeCapability__AccessMode mode;

    csi__v1__volume_capability__init(&capability);
    csi__v1__volume_capability__mount_volume__init(&mount);
    csi__v1__volume_capability__access_mode__init(&mode);
    mount.fs_type = (char *)(uintptr_t)fs_type;
    mode.mode = CSI__V1__VOLUME_CAPABILITY__ACCESS_MODE__MODE__SINGLE_NODE_WRITER;
    capability.access_type_case = CSI__V1__VOLUME_CAPABILITY__ACCESS_TYPE_MOUNT;
    capability.mount = &mount;
    capability.access_mode = &mode;
    return &capability;
}

Csi__V1__VolumeCapability *fake_block(void)
{
    static Csi__V1__VolumeCapability capability;
    static Csi__V1__VolumeCapability__BlockVolume block;
    static Csi__V1__VolumeCapability__AccessMode mode;

    csi__v1__volume_capability__init(&capability);
    csi__v1__volume_capability__block_volume__init(&block);
    csi__v1__volume_capability__access_mode__init(&mode);
    mode.mode = CSI__V1__VOLUME_CAPABILITY__ACCESS_MODE__MODE__SINGLE_NODE_WRITER;
    capability.access_type_case = CSI__V1__VOLUME_CAPABILITY__ACCESS_TYPE_BLOCK;
    capability.block = &block;
    capability.access_mode = &mode;
    return &capability;
}

Csi__V1__CreateVolumeRequest *fake_create(const char *name, int64_t bytes,
                                          Csi__V1__VolumeCapability *capability)
{
    static Csi__V1__CreateVolumeRequest request;
    static Csi__V1__CapacityRange range;
    static Csi__V1__VolumeCapability *list[1];

    csi__v1__create_volume_request__init(&request);
    csi__v1__capacity_range__init(&range);
    list[0] = capability;
    range.required_bytes = bytes;
    request.name = (char *)(uintptr_t)name;
    request.capacity_range = &range;
    request.volume_capabilities = list;
    request.n_volume_capabilities = capability ? 1 : 0;
    return &request;
}

Csi__V1__VolumeContentSource *fake_source(enum key_kind kind, const char *id)
{
    static Csi__V1__VolumeContentSource source;
    static Csi__V1__VolumeContentSource__SnapshotSource snapshot;
    static Csi__V1__VolumeContentSource__VolumeSource volume;

    csi__v1__volume_content_source__init(&source);
    csi__v1__volume_content_source__snapshot_source__init(&snapshot);
    csi__v1__volume_content_source__volume_source__init(&volume);
    if (kind == KEY_SNAPSHOT) {
        snapshot.snapshot_id = (char *)(uintptr_t)id;
        source.type_case = CSI__V1__VOLUME_CONTENT_SOURCE__TYPE_SNAPSHOT;
        source.snapshot = &snapshot;
    } else {
        volume.volume_id = (char *)(uintptr_t)id;
        source.type_case = CSI__V1__VOLUME_CONTENT_SOURCE__TYPE_VOLUME;
        source.volume = &volume;
    }
    return &source;
}

void fake_parameter(Csi__V1__CreateVolumeRequest *request, const char *key, const char *value)
{
    static Csi__V1__CreateVolumeRequest__ParametersEntry entries[4];
    static Csi__V1__CreateVolumeRequest__ParametersEntry *list[4];
    size_t n = request->n_parameters;

    csi__v1__create_volume_request__parameters_entry__init(&entries[n]);
    entries[n].key = (char *)(uintptr_t)key;
    entries[n].value = (char *)(uintptr_t)value;
    list[n] = &entries[n];
    request->parameters = list;
    request->n_parameters = n + 1;
}
