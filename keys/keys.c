/* SPDX-License-Identifier: Apache-2.0 */
#include "keys/keys.h"

#include "keys/key_record.h"

#include <stdio.h>
#include <string.h>

/* A full page of records stays below gRPC's 4 MiB. */
#define ANSWER_BYTES_MAX (16u * 1024 * 1024)

/* The generated structs have no const; nothing writes through them. */
static char *text(const char *value)
{
    return (char *)(uintptr_t)value;
}

static bool call(const struct keys *keys, const char *operation, const char *method,
                 const ProtobufCMessage *request, struct arena *arena, void *out_response,
                 struct error *err)
{
    ProtobufCMessage *response = NULL;

    if (!keys->broker.call(keys->broker.cookie, operation, method, request, arena, &response, err))
        return false;
    memcpy(out_response, &response, sizeof(response));
    return true;
}

bool keys_status(const struct keys *keys, const char *operation, struct error *err)
{
    auto_arena struct arena arena = { .limit = ANSWER_BYTES_MAX };
    Tdvol__Keybroker__V1__GetStatusRequest request;
    Tdvol__Keybroker__V1__GetStatusResponse *response = NULL;

    tdvol__keybroker__v1__get_status_request__init(&request);
    if (!call(keys, operation, "GetStatus", &request.base, &arena, &response, err))
        return false;
    if (response->state != TDVOL__KEYBROKER__V1__BROKER_STATE__BROKER_STATE_OPEN)
        return error_set(err, ERROR_UNAVAILABLE, "the key broker is sealed: it has no master key");
    return true;
}

bool keys_create(const struct keys *keys, const char *operation, const char *volume_id,
                 const char *name, const struct volume_spec *spec, struct key_record *out,
                 struct error *err)
{
    auto_arena struct arena arena = { .limit = ANSWER_BYTES_MAX };
    Tdvol__Keybroker__V1__VolumeSpec spec_message;
    Tdvol__Keybroker__V1__CreateRecordRequest request;
    Tdvol__Keybroker__V1__CreateRecordResponse *response = NULL;

    key_record_spec_to_message(spec, name, keys->node, &spec_message);
    tdvol__keybroker__v1__create_record_request__init(&request);
    request.driver = text(keys->driver);
    request.volume_id = text(volume_id);
    request.spec = &spec_message;
    return call(keys, operation, "CreateRecord", &request.base, &arena, &response, err) &&
           key_record_from_message(response->record, keys->driver, volume_id, out, err);
}

bool keys_copy(const struct keys *keys, const char *operation, const struct key_copy *copy,
               struct key_record *out, struct error *err)
{
    auto_arena struct arena arena = { .limit = ANSWER_BYTES_MAX };
    Tdvol__Keybroker__V1__CopyRecordRequest request;
    Tdvol__Keybroker__V1__CopyRecordResponse *response = NULL;

    tdvol__keybroker__v1__copy_record_request__init(&request);
    request.driver = text(keys->driver);
    request.source_volume_id = text(copy->source->volume.volume_id);
    request.source_version = copy->source->volume.version;
    request.volume_id = text(copy->id);
    request.kind = (Tdvol__Keybroker__V1__Kind)copy->kind;
    request.name = text(copy->name);
    request.location = text(keys->node);
    return call(keys, operation, "CopyRecord", &request.base, &arena, &response, err) &&
           key_record_from_message(response->record, keys->driver, copy->id, out, err);
}

bool keys_get(const struct keys *keys, const char *operation, const char *volume_id,
              struct key_record *out, struct error *err)
{
    auto_arena struct arena arena = { .limit = ANSWER_BYTES_MAX };
    Tdvol__Keybroker__V1__GetRecordRequest request;
    Tdvol__Keybroker__V1__GetRecordResponse *response = NULL;

    tdvol__keybroker__v1__get_record_request__init(&request);
    request.driver = text(keys->driver);
    request.volume_id = text(volume_id);
    return call(keys, operation, "GetRecord", &request.base, &arena, &response, err) &&
           key_record_from_message(response->record, keys->driver, volume_id, out, err);
}

bool keys_list(const struct keys *keys, const char *operation, const struct key_list *list,
               char next_token[static KEY_TOKEN_MAX + 1], struct error *err)
{
    auto_arena struct arena arena = { .limit = ANSWER_BYTES_MAX };
    Tdvol__Keybroker__V1__ListRecordsRequest request;
    Tdvol__Keybroker__V1__ListRecordsResponse *response = NULL;
    struct key_record record = { .created_ms = 0 };

    tdvol__keybroker__v1__list_records_request__init(&request);
    request.driver = text(keys->driver);
    request.kind = (Tdvol__Keybroker__V1__Kind)list->kind;
    request.location = text(keys->node);
    request.source_volume_id = text(list->source_id);
    request.page_size = list->page_size;
    request.page_token = text(list->token);
    if (!call(keys, operation, "ListRecords", &request.base, &arena, &response, err))
        return false;
    for (size_t i = 0; i < response->n_records; i++)
        if (!key_record_from_message(response->records[i], keys->driver, NULL, &record, err) ||
            !list->each(list->cookie, &record, err))
            return false;
    if (strlen(response->next_page_token) > KEY_TOKEN_MAX)
        return error_set(err, ERROR_INTERNAL, "the key broker's page token is too long");
    memcpy(next_token, response->next_page_token, strlen(response->next_page_token) + 1);
    return true;
}

bool keys_open(const struct keys *keys, const char *operation, const char *volume_id,
               bool read_only, const uint8_t public_key[static HPKE_PUBLIC_LEN],
               struct key_record *out, struct sealed_secret *secret, struct error *err)
{
    auto_arena struct arena arena = { .limit = ANSWER_BYTES_MAX };
    Tdvol__Keybroker__V1__OpenVolumeRequest request;
    Tdvol__Keybroker__V1__OpenVolumeResponse *response = NULL;
    uint8_t key[HPKE_PUBLIC_LEN];

    memcpy(key, public_key, sizeof(key));
    tdvol__keybroker__v1__open_volume_request__init(&request);
    request.driver = text(keys->driver);
    request.volume_id = text(volume_id);
    request.node = text(keys->node);
    request.boot_id = text(keys->boot_id);
    request.read_only = read_only;
    request.sealing_public_key = (ProtobufCBinaryData){ .len = sizeof(key), .data = key };
    if (!call(keys, operation, "OpenVolume", &request.base, &arena, &response, err))
        return false;
    if (response->sealed_secret.len != sizeof(secret->bytes))
        return error_set(err, ERROR_INTERNAL, "the key broker's sealed secret has a wrong length");
    if (!key_record_from_message(response->record, keys->driver, volume_id, out, err))
        return false;
    memcpy(secret->bytes, response->sealed_secret.data, sizeof(secret->bytes));
    return true;
}

/* One per kind of change: each fills its own message. */
union change_messages {
    Tdvol__Keybroker__V1__ChangeRecordRequest__Ready ready;
    Tdvol__Keybroker__V1__ChangeRecordRequest__Opened opened;
    Tdvol__Keybroker__V1__ChangeRecordRequest__ExtentDone extent_done;
    Tdvol__Keybroker__V1__ChangeRecordRequest__Closed closed;
    Tdvol__Keybroker__V1__ChangeRecordRequest__Grown grown;
};

static bool fill_change(const struct record_change *change, const struct volume_record *record,
                        struct arena *arena, union change_messages *m,
                        Tdvol__Keybroker__V1__ChangeRecordRequest *out, struct error *err)
{
    Tdvol__Keybroker__V1__Extent **extents =
        change->n_extents <= RECORD_EXTENTS_MAX
            ? key_record_extents_to_message(change->extents, change->n_extents, arena)
            : NULL;

    if (!extents)
        return arena_exhausted(err);
    switch ((enum record_change_kind)change->kind) {
    case RECORD_CHANGE_READY:
        tdvol__keybroker__v1__change_record_request__ready__init(&m->ready);
        m->ready.attempt = record->format_attempt;
        m->ready.header_digest.data = arena_memdup(arena, change->header_digest, SHA256_LEN);
        m->ready.header_digest.len = SHA256_LEN;
        m->ready.extents = extents;
        m->ready.n_extents = change->n_extents;
        out->change_case = TDVOL__KEYBROKER__V1__CHANGE_RECORD_REQUEST__CHANGE_READY;
        out->ready = &m->ready;
        return m->ready.header_digest.data || arena_exhausted(err);
    case RECORD_CHANGE_OPENED:
        tdvol__keybroker__v1__change_record_request__opened__init(&m->opened);
        m->opened.open_counter = change->open_counter;
        out->change_case = TDVOL__KEYBROKER__V1__CHANGE_RECORD_REQUEST__CHANGE_OPENED;
        out->opened = &m->opened;
        return true;
    case RECORD_CHANGE_EXTENT_DONE:
        tdvol__keybroker__v1__change_record_request__extent_done__init(&m->extent_done);
        m->extent_done.index = change->extent_index;
        out->change_case = TDVOL__KEYBROKER__V1__CHANGE_RECORD_REQUEST__CHANGE_EXTENT_DONE;
        out->extent_done = &m->extent_done;
        return true;
    case RECORD_CHANGE_CLOSED:
        tdvol__keybroker__v1__change_record_request__closed__init(&m->closed);
        m->closed.clean_hash.len = change->has_clean_hash ? SHA256_LEN : 0;
        m->closed.clean_hash.data = arena_memdup(arena, change->clean_hash, SHA256_LEN);
        out->change_case = TDVOL__KEYBROKER__V1__CHANGE_RECORD_REQUEST__CHANGE_CLOSED;
        out->closed = &m->closed;
        return m->closed.clean_hash.data || arena_exhausted(err);
    case RECORD_CHANGE_GROWN:
        tdvol__keybroker__v1__change_record_request__grown__init(&m->grown);
        m->grown.size_bytes = change->size_bytes;
        m->grown.device_bytes = change->device_bytes;
        m->grown.mapping_bytes = change->mapping_bytes;
        m->grown.extents = extents;
        m->grown.n_extents = change->n_extents;
        out->change_case = TDVOL__KEYBROKER__V1__CHANGE_RECORD_REQUEST__CHANGE_GROWN;
        out->grown = &m->grown;
        return true;
    default:
        return error_set(err, ERROR_INVALID_ARGUMENT, "unknown change %u of a record",
                         change->kind);
    }
}

bool keys_change(const struct keys *keys, const char *operation, const struct record_change *change,
                 struct key_record *record, struct error *err)
{
    auto_arena struct arena arena = { .limit = ANSWER_BYTES_MAX };
    union change_messages messages;
    Tdvol__Keybroker__V1__ChangeRecordRequest request;
    Tdvol__Keybroker__V1__ChangeRecordResponse *response = NULL;
    char volume_id[VOLUME_ID_MAX + 1];

    memcpy(volume_id, record->volume.volume_id, sizeof(volume_id));
    tdvol__keybroker__v1__change_record_request__init(&request);
    request.driver = text(keys->driver);
    request.volume_id = volume_id;
    request.expected_version = record->volume.version;
    request.node = text(keys->node);
    request.boot_id = text(keys->boot_id);
    return fill_change(change, &record->volume, &arena, &messages, &request, err) &&
           call(keys, operation, "ChangeRecord", &request.base, &arena, &response, err) &&
           key_record_from_message(response->record, keys->driver, volume_id, record, err);
}

bool keys_delete(const struct keys *keys, const char *operation, const char *volume_id,
                 enum key_deletion step, struct error *err)
{
    static const char *const methods[] = {
        [KEY_BEGIN_DELETE] = "BeginDelete",
        [KEY_CANCEL_DELETE] = "CancelDelete",
        [KEY_FINISH_DELETE] = "FinishDelete",
    };
    auto_arena struct arena arena = { .limit = ANSWER_BYTES_MAX };
    Tdvol__Keybroker__V1__DeleteRequest request;
    Tdvol__Keybroker__V1__DeleteResponse *response = NULL;

    tdvol__keybroker__v1__delete_request__init(&request);
    request.driver = text(keys->driver);
    request.volume_id = text(volume_id);
    return call(keys, operation, methods[step], &request.base, &arena, &response, err);
}
