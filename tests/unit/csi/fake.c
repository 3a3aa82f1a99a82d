/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/csi/fake.h"

#include "base/clock.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

void fake_let_one_wait(struct fake *f)
{
    struct error err = ERROR_INIT;

    inflight_free(f->plugin.inflight);
    if (!inflight_new(1, &f->plugin.inflight, &err))
        abort();
}

void *fake_release_soon(void *hold)
{
    (void)usleep(100000);
    inflight_release(hold);
    return hold;
}

void fake_note(struct fake *f, const char *name)
{
    if (f->n_log < ARRAY_LEN(f->log))
        (void)snprintf(f->log[f->n_log++], sizeof(f->log[0]), "%s", name);
}

void fake_work(const struct fake *f, bool is_working)
{
    if (f->working)
        f->working(is_working);
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

bool fake_is_faulty(struct fake *f, const char *name, struct error *err)
{
    struct fake_fault *fault = &f->fault;

    if (!fault->at || (strcmp(fault->at, FAKE_ANY) != 0 && strcmp(fault->at, name) != 0))
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

/* --- the plugin --- */

struct fake *fake_new(void)
{
    struct fake *f = calloc(1, sizeof(*f));
    struct error err = ERROR_INIT;

    if (!f || !inflight_new(0, &f->plugin.inflight, &err) || !health_new(&f->plugin.health, &err))
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
    f->plugin.workers = (struct workers){ .run = fake_run, .cookie = f };
    f->boot_id = "boot-1";
    f->sealing_public_key[0] = 1;
    f->secret[0] = 1;
    broker_end_make(&f->broker, NULL);
    f->trust.names = (struct option_list){ .n = 1, .items = { "localhost" } };
    if (!broker_trust_read_ca(&f->trust, f->broker.ca_pem, &err))
        abort();
    f->keys = (struct fake_keys){ .keys = { .ops = &fake_keys_ops }, .fake = f };
    f->plugin.keys = &f->keys.keys;
    f->plugin.probe = (struct block_probe){ .aegis128 = true, .hmac_sha256 = true, .none = true };
    return f;
}

void fake_free(struct fake *f)
{
    inflight_free(f->plugin.inflight);
    health_free(f->plugin.health);
    broker_end_free(&f->broker);
    broker_trust_free(&f->trust);
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
    struct rpc_call call = { .method = path,
                             .arena = &own,
                             .deadline_ms =
                                 f->call_ms > 0 ? clock_now_ms() + f->call_ms : UINT64_MAX };
    size_t len = protobuf_c_message_get_packed_size(message);
    struct rpc_bytes out = { .len = 0 };
    void *response = NULL;

    fake_work(f, true);
    uint8_t *bytes = arena_alloc(arena, len + 1);
    fake_work(f, false);

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
    fake_work(f, true);
    response = protobuf_c_message_unpack(output_of(service, name), &allocator, out.len, out.bytes);
    fake_work(f, false);
    return response;
}

/* --- requests --- */

Csi__V1__VolumeCapability *fake_mount(const char *fs_type)
{
    static _Thread_local Csi__V1__VolumeCapability capability;
    static _Thread_local Csi__V1__VolumeCapability__MountVolume mount;
    static _Thread_local Csi__V1__VolumeCapability__AccessMode mode;

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
    static _Thread_local Csi__V1__VolumeCapability capability;
    static _Thread_local Csi__V1__VolumeCapability__BlockVolume block;
    static _Thread_local Csi__V1__VolumeCapability__AccessMode mode;

    csi__v1__volume_capability__init(&capability);
    csi__v1__volume_capability__block_volume__init(&block);
    csi__v1__volume_capability__access_mode__init(&mode);
    mode.mode = CSI__V1__VOLUME_CAPABILITY__ACCESS_MODE__MODE__SINGLE_NODE_WRITER;
    capability.access_type_case = CSI__V1__VOLUME_CAPABILITY__ACCESS_TYPE_BLOCK;
    capability.block = &block;
    capability.access_mode = &mode;
    return &capability;
}

Csi__V1__VolumeCapability *fake_block_reader(void)
{
    Csi__V1__VolumeCapability *capability = fake_block();

    capability->access_mode->mode =
        CSI__V1__VOLUME_CAPABILITY__ACCESS_MODE__MODE__MULTI_NODE_READER_ONLY;
    return capability;
}

Csi__V1__CreateVolumeRequest *fake_create(const char *name, int64_t bytes,
                                          Csi__V1__VolumeCapability *capability)
{
    static _Thread_local Csi__V1__CreateVolumeRequest request;
    static _Thread_local Csi__V1__CapacityRange range;
    static _Thread_local Csi__V1__VolumeCapability *list[1];

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

Csi__V1__VolumeContentSource *fake_source(enum record_kind kind, const char *id)
{
    static _Thread_local Csi__V1__VolumeContentSource source;
    static _Thread_local Csi__V1__VolumeContentSource__SnapshotSource snapshot;
    static _Thread_local Csi__V1__VolumeContentSource__VolumeSource volume;

    csi__v1__volume_content_source__init(&source);
    csi__v1__volume_content_source__snapshot_source__init(&snapshot);
    csi__v1__volume_content_source__volume_source__init(&volume);
    if (kind == RECORD_SNAPSHOT) {
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
    static _Thread_local Csi__V1__CreateVolumeRequest__ParametersEntry entries[4];
    static _Thread_local Csi__V1__CreateVolumeRequest__ParametersEntry *list[4];
    size_t n = request->n_parameters;

    csi__v1__create_volume_request__parameters_entry__init(&entries[n]);
    entries[n].key = (char *)(uintptr_t)key;
    entries[n].value = (char *)(uintptr_t)value;
    list[n] = &entries[n];
    request->parameters = list;
    request->n_parameters = n + 1;
}
