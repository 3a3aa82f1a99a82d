/* SPDX-License-Identifier: Apache-2.0 */
#include "keys/remote_keys.h"

#include "keys/broker_evidence.h"
#include "record/check.h"
#include "record/encoding.h"

#include <string.h>

#include "keybroker.pb-c.h"

/* A full page of records stays below this, and so do the messages that proto/exchange.h takes. */
#define RESPONSE_BYTES_MAX (16u * 1024 * 1024)

#define FIND_AT_ONCE 200u /* what ListRecords takes */

#define M(name) Tdvol__Keybroker__V1__##name /* generated message types */

static const struct remote_keys *remote(const struct keys *keys)
{
    return (const struct remote_keys *)(const void *)keys;
}

static bool call(const struct remote_keys *keys, const char *operation, const char *method,
                 const ProtobufCMessage *request, struct arena *arena, void *out_response,
                 struct error *err)
{
    ProtobufCMessage *response = NULL;

    if (!keys->broker.call(keys->broker.cookie, operation, method, request, arena, &response, err))
        return false;
    memcpy(out_response, &response, sizeof(response));
    return true;
}

static bool wrong(const char *what, struct error *err)
{
    return error_set(err, ERROR_INTERNAL, "the key broker's answer is not usable: %s", what);
}

/* volume_id NULL: any, as in listings. A record that is gone is reported as NOT_FOUND. */
static bool take_record(const struct remote_keys *keys, const ProtobufCBinaryData *bytes,
                        const char *volume_id, struct record *out, struct error *err)
{
    struct record r;

    if (!record_decode(bytes->data, bytes->len, &r, err) || !record_check(&r, err)) {
        if (err->code != ERROR_FAILED_PRECONDITION)
            err->code = ERROR_INTERNAL;
        return error_wrap(err, "the key broker's answer is not usable");
    }
    if (strcmp(r.driver, keys->driver) != 0 || (volume_id && strcmp(r.volume_id, volume_id) != 0))
        return wrong("a record of another volume", err);
    if (record_is_gone(&r))
        return error_set_reason(err, ERROR_NOT_FOUND, RECORD_ERASED_REASON, "%s was deleted",
                                r.volume_id);
    *out = r;
    return true;
}

/* --- what passes between worker and broker --- */

static ProtobufCBinaryData nonce_of(const struct relay *relay)
{
    return relay ? (ProtobufCBinaryData){ .len = ANSWER_NONCE_LEN,
                                          .data = (uint8_t *)(uintptr_t)relay->question->nonce }
                 : (ProtobufCBinaryData){ .len = 0 };
}

static bool copy_bytes(const ProtobufCBinaryData *bytes, uint8_t *out, size_t size, uint32_t *len)
{
    if (bytes->len > size)
        return false;
    if (bytes->len > 0)
        memcpy(out, bytes->data, bytes->len);
    *len = (uint32_t)bytes->len;
    return true;
}

/* Whether the signature is right, the worker checks. */
static bool take_signature(const struct relay *relay, const ProtobufCBinaryData *signature,
                           const ProtobufCBinaryData *certificates, struct error *err)
{
    return !relay ||
           (copy_bytes(signature, relay->signature->bytes, sizeof(relay->signature->bytes),
                       &relay->signature->len) &&
            copy_bytes(certificates, relay->signature->certificates,
                       sizeof(relay->signature->certificates),
                       &relay->signature->certificates_len)) ||
           wrong("the signature", err);
}

static bool remote_status(struct keys *k, const char *operation, struct error *err)
{
    auto_arena struct arena arena = { .limit = RESPONSE_BYTES_MAX };
    M(GetStatusRequest) request = TDVOL__KEYBROKER__V1__GET_STATUS_REQUEST__INIT;
    M(GetStatusResponse) *response = NULL;

    if (!call(remote(k), operation, "GetStatus", &request.base, &arena, &response, err))
        return false;
    return response->state == TDVOL__KEYBROKER__V1__BROKER_STATE__BROKER_STATE_OPEN ||
           error_set(err, ERROR_UNAVAILABLE, "the key broker is sealed: it has no master key");
}

static bool remote_create(struct keys *k, const char *operation, const char *volume_id,
                          const struct volume_spec *spec, struct record *out, struct error *err)
{
    auto_arena struct arena arena = { .limit = RESPONSE_BYTES_MAX };
    const struct remote_keys *keys = remote(k);
    struct encoded encoded;
    M(CreateRecordRequest) request = TDVOL__KEYBROKER__V1__CREATE_RECORD_REQUEST__INIT;
    M(CreateRecordResponse) *response = NULL;

    volume_spec_encode(spec, &encoded);
    request.driver = unconst(keys->driver);
    request.volume_id = unconst(volume_id);
    request.spec = (ProtobufCBinaryData){ .len = encoded.len, .data = encoded.bytes };
    return call(keys, operation, "CreateRecord", &request.base, &arena, &response, err) &&
           take_record(keys, &response->record, volume_id, out, err);
}

static bool remote_begin_copy(struct keys *k, const char *operation, const char *source_id,
                              const struct keys_copy *copy, struct record *source,
                              struct error *err)
{
    auto_arena struct arena arena = { .limit = RESPONSE_BYTES_MAX };
    const struct remote_keys *keys = remote(k);
    M(BeginCopyRequest) request = TDVOL__KEYBROKER__V1__BEGIN_COPY_REQUEST__INIT;
    M(BeginCopyResponse) *response = NULL;

    request.driver = unconst(keys->driver);
    request.volume_id = unconst(source_id);
    request.kind = (M(Kind))copy->kind;
    request.name = unconst(copy->name);
    if (!call(keys, operation, "BeginCopy", &request.base, &arena, &response, err) ||
        !take_record(keys, &response->record, source_id, source, err))
        return false;
    if (response->source_version == 0)
        return wrong("no version of the source", err);
    source->version = response->source_version;
    return true;
}

static bool remote_end_copy(struct keys *k, const char *operation, const char *source_id,
                            const struct keys_copy *copy, struct error *err)
{
    auto_arena struct arena arena = { .limit = RESPONSE_BYTES_MAX };
    const struct remote_keys *keys = remote(k);
    M(EndCopyRequest) request = TDVOL__KEYBROKER__V1__END_COPY_REQUEST__INIT;
    M(EndCopyResponse) *response = NULL;

    request.driver = unconst(keys->driver);
    request.volume_id = unconst(source_id);
    request.kind = (M(Kind))copy->kind;
    request.name = unconst(copy->name);
    return call(keys, operation, "EndCopy", &request.base, &arena, &response, err);
}

/* The copy is located on this node: no other node can reach its space. */
static bool remote_copy(struct keys *k, const char *operation, const struct keys_copy *copy,
                        struct record *out, struct error *err)
{
    auto_arena struct arena arena = { .limit = RESPONSE_BYTES_MAX };
    const struct remote_keys *keys = remote(k);
    M(CopyRecordRequest) request = TDVOL__KEYBROKER__V1__COPY_RECORD_REQUEST__INIT;
    M(CopyRecordResponse) *response = NULL;

    request.driver = unconst(keys->driver);
    request.source_volume_id = unconst(copy->source->volume_id);
    request.source_version = copy->source->version;
    request.volume_id = unconst(copy->id);
    request.kind = (M(Kind))copy->kind;
    request.name = unconst(copy->name);
    request.location = unconst(keys->location);
    request.size_bytes = copy->size_bytes;
    request.workqueue = (M(Workqueue))copy->workqueue;
    return call(keys, operation, "CopyRecord", &request.base, &arena, &response, err) &&
           take_record(keys, &response->record, copy->id, out, err);
}

static bool remote_get(struct keys *k, const char *operation, const char *volume_id,
                       const struct relay *relay, struct record *out, struct error *err)
{
    auto_arena struct arena arena = { .limit = RESPONSE_BYTES_MAX };
    const struct remote_keys *keys = remote(k);
    M(GetRecordRequest) request = TDVOL__KEYBROKER__V1__GET_RECORD_REQUEST__INIT;
    M(GetRecordResponse) *response = NULL;

    request.driver = unconst(keys->driver);
    request.volume_id = unconst(volume_id);
    request.nonce = nonce_of(relay);
    return call(keys, operation, "GetRecord", &request.base, &arena, &response, err) &&
           take_signature(relay, &response->signature, &response->certificates, err) &&
           take_record(keys, &response->record, volume_id, out, err);
}

static bool remote_list(struct keys *k, const char *operation, const struct keys_list *list,
                        char next_token[static KEYS_TOKEN_MAX + 1], struct error *err)
{
    auto_arena struct arena arena = { .limit = RESPONSE_BYTES_MAX };
    const struct remote_keys *keys = remote(k);
    M(ListRecordsRequest) request = TDVOL__KEYBROKER__V1__LIST_RECORDS_REQUEST__INIT;
    M(ListRecordsResponse) *response = NULL;
    struct record record;

    request.driver = unconst(keys->driver);
    request.kind = (M(Kind))list->kind;
    request.location = unconst(keys->location);
    request.source_volume_id = unconst(list->source_id);
    request.page_size = list->page_size;
    request.page_token = unconst(list->token);
    if (!call(keys, operation, "ListRecords", &request.base, &arena, &response, err))
        return false;
    for (size_t i = 0; i < response->n_records; i++)
        if (!take_record(keys, &response->records[i], NULL, &record, err) ||
            !list->each(list->cookie, &record, err))
            return false;
    if (strlen(response->next_page_token) > KEYS_TOKEN_MAX)
        return wrong("its page token is too long", err);
    memcpy(next_token, response->next_page_token, strlen(response->next_page_token) + 1);
    return true;
}

static bool remote_open(struct keys *k, const char *operation, const struct keys_open *open,
                        struct record *out, struct sealed_secret *secret, struct error *err)
{
    auto_arena struct arena arena = { .limit = RESPONSE_BYTES_MAX };
    const struct remote_keys *keys = remote(k);
    M(OpenVolumeRequest) request = TDVOL__KEYBROKER__V1__OPEN_VOLUME_REQUEST__INIT;
    M(OpenVolumeResponse) *response = NULL;
    uint8_t key[HPKE_PUBLIC_LEN];

    memcpy(key, open->public_key, sizeof(key));
    request.driver = unconst(keys->driver);
    request.volume_id = unconst(open->volume_id);
    request.node = unconst(keys->node);
    request.boot_id = unconst(keys->boot_id);
    request.read_only = open->read_only;
    request.sealing_public_key = (ProtobufCBinaryData){ .len = sizeof(key), .data = key };
    request.nonce = nonce_of(open->relay);
    if (!call(keys, operation, "OpenVolume", &request.base, &arena, &response, err))
        return false;
    if (response->sealed_secret.len != sizeof(secret->bytes))
        return wrong("its sealed secret has a wrong length", err);
    if (!take_signature(open->relay, &response->signature, &response->certificates, err) ||
        !take_record(keys, &response->record, open->volume_id, out, err))
        return false;
    memcpy(secret->bytes, response->sealed_secret.data, sizeof(secret->bytes));
    return true;
}

static bool remote_change(struct keys *k, const char *operation, const struct relay *relay,
                          const struct record_change *change, struct record *record,
                          struct error *err)
{
    auto_arena struct arena arena = { .limit = RESPONSE_BYTES_MAX };
    const struct remote_keys *keys = remote(k);
    char volume_id[VOLUME_ID_MAX + 1];
    uint8_t proof[PROOF_LEN];
    struct encoded encoded;
    M(ChangeRecordRequest) request = TDVOL__KEYBROKER__V1__CHANGE_RECORD_REQUEST__INIT;
    M(ChangeRecordResponse) *response = NULL;

    memcpy(volume_id, record->volume_id, sizeof(volume_id));
    record_change_encode(change, &encoded);
    request.driver = unconst(keys->driver);
    request.volume_id = volume_id;
    request.expected_version = record->version;
    request.node = unconst(keys->node);
    request.boot_id = unconst(keys->boot_id);
    request.change = (ProtobufCBinaryData){ .len = encoded.len, .data = encoded.bytes };
    request.nonce = nonce_of(relay);
    if (relay && relay->question->has_proof) {
        memcpy(proof, relay->question->proof, sizeof(proof));
        request.proof = (ProtobufCBinaryData){ .len = sizeof(proof), .data = proof };
    }
    return call(keys, operation, "ChangeRecord", &request.base, &arena, &response, err) &&
           take_signature(relay, &response->signature, &response->certificates, err) &&
           take_record(keys, &response->record, volume_id, record, err);
}

static bool remote_evidence(struct keys *k, const char *operation, const struct relay *relay,
                            const uint8_t key_sha256[static KEY_SHA256_LEN],
                            struct broker_evidence *out, struct error *err)
{
    auto_arena struct arena arena = { .limit = RESPONSE_BYTES_MAX };
    const M(GetEvidenceRequest) request = broker_evidence_request(relay, key_sha256);
    M(GetEvidenceResponse) *response = NULL;

    return call(remote(k), operation, "GetEvidence", &request.base, &arena, &response, err) &&
           broker_evidence_take(response, out, err);
}

static bool remote_renew(struct keys *k, const char *operation, const char *volume_id,
                         const struct relay *relay, struct record *out, struct error *err)
{
    auto_arena struct arena arena = { .limit = RESPONSE_BYTES_MAX };
    const struct remote_keys *keys = remote(k);
    M(RenewLeaseRequest) request = TDVOL__KEYBROKER__V1__RENEW_LEASE_REQUEST__INIT;
    M(RenewLeaseResponse) *response = NULL;

    request.driver = unconst(keys->driver);
    request.volume_id = unconst(volume_id);
    request.node = unconst(keys->node);
    request.boot_id = unconst(keys->boot_id);
    request.nonce = nonce_of(relay);
    return call(keys, operation, "RenewLease", &request.base, &arena, &response, err) &&
           take_signature(relay, &response->signature, &response->certificates, err) &&
           take_record(keys, &response->record, volume_id, out, err);
}

static bool remote_take_over(struct keys *k, const char *operation, const char *volume_id,
                             struct record *out, struct error *err)
{
    auto_arena struct arena arena = { .limit = RESPONSE_BYTES_MAX };
    const struct remote_keys *keys = remote(k);
    M(TakeOverLeaseRequest) request = TDVOL__KEYBROKER__V1__TAKE_OVER_LEASE_REQUEST__INIT;
    M(TakeOverLeaseResponse) *response = NULL;

    request.driver = unconst(keys->driver);
    request.volume_id = unconst(volume_id);
    request.node = unconst(keys->node);
    request.boot_id = unconst(keys->boot_id);
    return call(keys, operation, "TakeOverLease", &request.base, &arena, &response, err) &&
           take_record(keys, &response->record, volume_id, out, err);
}

static bool remote_remove(struct keys *k, const char *operation, const char *volume_id,
                          enum keys_deletion step, struct error *err)
{
    static const char *const methods[] = {
        [KEYS_BEGIN_DELETE] = "BeginDelete",
        [KEYS_CANCEL_DELETE] = "CancelDelete",
        [KEYS_FINISH_DELETE] = "FinishDelete",
    };
    auto_arena struct arena arena = { .limit = RESPONSE_BYTES_MAX };
    M(DeleteRequest) request = TDVOL__KEYBROKER__V1__DELETE_REQUEST__INIT;
    M(DeleteResponse) *response = NULL;

    request.driver = unconst(remote(k)->driver);
    request.volume_id = unconst(volume_id);
    return call(remote(k), operation, methods[step], &request.base, &arena, &response, err);
}

static bool remote_rotate(struct keys *k, const char *operation, const char *volume_id,
                          struct record *out, struct error *err)
{
    auto_arena struct arena arena = { .limit = RESPONSE_BYTES_MAX };
    const struct remote_keys *keys = remote(k);
    M(RotateKeyRequest) request = TDVOL__KEYBROKER__V1__ROTATE_KEY_REQUEST__INIT;
    M(RotateKeyResponse) *response = NULL;

    request.driver = unconst(keys->driver);
    request.volume_id = unconst(volume_id);
    return call(keys, operation, "RotateKey", &request.base, &arena, &response, err) &&
           take_record(keys, &response->record, volume_id, out, err);
}

/* As many ids as one call may have. */
static bool find_some(const struct remote_keys *keys, const char *operation, const char *const *ids,
                      size_t n,
                      bool (*each)(void *cookie, const struct record *record, struct error *err),
                      void *cookie, struct error *err)
{
    auto_arena struct arena arena = { .limit = RESPONSE_BYTES_MAX };
    char *names[FIND_AT_ONCE];
    M(ListRecordsRequest) request = TDVOL__KEYBROKER__V1__LIST_RECORDS_REQUEST__INIT;
    M(ListRecordsResponse) *response = NULL;
    struct record record;

    for (size_t i = 0; i < n; i++)
        names[i] = unconst(ids[i]);
    request.driver = unconst(keys->driver);
    request.volume_ids = names;
    request.n_volume_ids = n;
    if (!call(keys, operation, "ListRecords", &request.base, &arena, &response, err))
        return false;
    if (response->n_records > n)
        return wrong("more records than ids", err);
    for (size_t i = 0; i < response->n_records; i++)
        if (!take_record(keys, &response->records[i], NULL, &record, err) ||
            !each(cookie, &record, err))
            return false;
    return true;
}

static bool remote_find(struct keys *k, const char *operation, const char *const *ids, size_t n,
                        bool (*each)(void *cookie, const struct record *record, struct error *err),
                        void *cookie, struct error *err)
{
    size_t some = 0;

    for (size_t at = 0; at < n; at += some) {
        some = n - at < FIND_AT_ONCE ? n - at : FIND_AT_ONCE;
        if (!find_some(remote(k), operation, ids + at, some, each, cookie, err))
            return false;
    }
    return true;
}

static bool remote_publish(struct keys *k, const char *operation, const char *node_id,
                           bool read_only, struct record *record, struct error *err)
{
    auto_arena struct arena arena = { .limit = RESPONSE_BYTES_MAX };
    const struct remote_keys *keys = remote(k);
    char volume_id[VOLUME_ID_MAX + 1];
    M(PublishRecordRequest) request = TDVOL__KEYBROKER__V1__PUBLISH_RECORD_REQUEST__INIT;
    M(PublishRecordResponse) *response = NULL;

    memcpy(volume_id, record->volume_id, sizeof(volume_id));
    request.driver = unconst(keys->driver);
    request.volume_id = volume_id;
    request.node_id = unconst(node_id);
    request.read_only = read_only;
    request.expected_epoch = record->published.epoch;
    return call(keys, operation, "PublishRecord", &request.base, &arena, &response, err) &&
           take_record(keys, &response->record, volume_id, record, err);
}

static bool take_back(struct keys *k, const char *operation, const char *node_id, bool retire,
                      struct record *record, struct error *err)
{
    auto_arena struct arena arena = { .limit = RESPONSE_BYTES_MAX };
    const struct remote_keys *keys = remote(k);
    char volume_id[VOLUME_ID_MAX + 1];
    M(UnpublishRecordRequest) request = TDVOL__KEYBROKER__V1__UNPUBLISH_RECORD_REQUEST__INIT;
    M(UnpublishRecordResponse) *response = NULL;

    memcpy(volume_id, record->volume_id, sizeof(volume_id));
    request.driver = unconst(keys->driver);
    request.volume_id = volume_id;
    request.node_id = unconst(node_id);
    request.expected_epoch = record->published.epoch;
    request.retire = retire;
    return call(keys, operation, "UnpublishRecord", &request.base, &arena, &response, err) &&
           take_record(keys, &response->record, volume_id, record, err);
}

static bool remote_retire(struct keys *k, const char *operation, const char *node_id,
                          struct record *record, struct error *err)
{
    return take_back(k, operation, node_id, true, record, err);
}

static bool remote_unpublish(struct keys *k, const char *operation, const char *node_id,
                             struct record *record, struct error *err)
{
    return take_back(k, operation, node_id, false, record, err);
}

static const struct keys_ops remote_ops = {
    .status = remote_status,
    .create = remote_create,
    .begin_copy = remote_begin_copy,
    .end_copy = remote_end_copy,
    .copy = remote_copy,
    .get = remote_get,
    .list = remote_list,
    .open = remote_open,
    .change = remote_change,
    .evidence = remote_evidence,
    .renew = remote_renew,
    .take_over = remote_take_over,
    .remove = remote_remove,
    .find = remote_find,
    .rotate = remote_rotate,
    .publish = remote_publish,
    .retire = remote_retire,
    .unpublish = remote_unpublish,
};

void remote_keys_init(struct remote_keys *keys, struct broker_transport broker, const char *driver,
                      const char *node)
{
    *keys = (struct remote_keys){ .keys = { .ops = &remote_ops },
                                  .broker = broker,
                                  .driver = driver,
                                  .node = node,
                                  .location = node };
    boot_id_text(keys->boot_id);
}
