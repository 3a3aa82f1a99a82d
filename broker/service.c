/* SPDX-License-Identifier: Apache-2.0 */
#include "broker/service.h"

#include "attest/reason.h"
#include "broker/attest_service.h"
#include "broker/creation.h"
#include "broker/evidence.h"
#include "broker/handlers.h"
#include "broker/judged_call.h"
#include "broker/leasing.h"
#include "broker/restored.h"
#include "broker/worker_answer.h"
#include "lifecycle/lifecycle.h"
#include "record/encoding.h"
#include "record/sealing.h"
#include "store/keyring.h"

#include <string.h>
#include <tdvol_config.h>

#define PAGE_MAX       1000u
#define VOLUME_IDS_MAX 400u

/* --- reading --- */

static bool get_status(struct judged_call *s, struct rpc_call *call,
                       const M(GetStatusRequest) * request, M(GetStatusResponse) * response,
                       struct error *err)
{
    static char version[] = TDVOL_VERSION;

    (void)request;
    struct error why = ERROR_INIT;
    bool is_open = broker_check_open(s->broker, &why);

    if (is_open && !restored_since(s, &response->restored_ms, &why))
        response->restored_ms = s->broker->restored_ms;
    response->state = is_open ? TDVOL__KEYBROKER__V1__BROKER_STATE__BROKER_STATE_OPEN
                              : TDVOL__KEYBROKER__V1__BROKER_STATE__BROKER_STATE_SEALED;
    response->sealed_why = arena_strdup(call->arena, is_open ? "" : why.text);
    response->keys_refused = broker_keys_refused(s->broker, &why);
    response->last_refusal = arena_strdup(call->arena, why.text);
    response->version = version;
    response->time_ms = s->now_ms;
    response->policy_hash = arena_strdup(call->arena, policy_hash(s->broker->policy));
    if (!response->policy_hash || !response->sealed_why || !response->last_refusal)
        return arena_exhausted(err);
    return !is_open || wrapping_status(s, response, err);
}

/* What the worker makes a header with. It is part of the signed record, because whoever chooses the certificate
 * can open the volume. */
static void add_recovery(const struct judged_call *s, struct record *told)
{
    const struct recovery_certificate *certificate =
        policy_recovery(s->broker->policy, told->tenant);

    if (!certificate || (told->phase != RECORD_FORMATTING && told->rotation.key.generation == 0))
        return;
    told->recovery.certificate_len = certificate->len;
    memcpy(told->recovery.certificate, certificate->der, certificate->len);
}

void record_to_tell(const struct judged_call *s, struct record *r)
{
    r->rotation.secret_len = 0;
    r->old_key = (struct record_old_key){ .is_set = false };
    /* When this broker's clock is behind that of the one that gave the format, no more than that. */
    if (r->format.deadline_ms > s->now_ms)
        r->format.remaining_ms = r->format.deadline_ms - s->now_ms;
    if (r->format.remaining_ms > s->broker->format_ms)
        r->format.remaining_ms = s->broker->format_ms;
}

/* opened_by: the sealing key of who gets the secret, too; NULL: nobody does. */
static bool put_record(const struct judged_call *s, const struct record *r,
                       const uint8_t *opened_by, ProtobufCBinaryData *out, struct error *err)
{
    struct record told = *r;
    struct encoded encoded;

    record_to_tell(s, &told);
    told.n_destroyed = 0;
    told.destroyed_before = 0;
    if (opened_by) {
        told.old_key = r->old_key;
        if (!rotation_seal(s, r, opened_by, &told, err))
            return false;
        add_recovery(s, &told);
    }
    record_encode(&told, &encoded);
    out->len = encoded.len;
    out->data = arena_memdup(s->call->arena, encoded.bytes, encoded.len);
    return out->data || arena_exhausted(err);
}

/* The wrapped old key is useless without the volume's secret: only who gets the one gets the other. */
bool answer_record(const struct judged_call *s, const struct record *r, ProtobufCBinaryData *out,
                   struct error *err)
{
    return put_record(s, r, NULL, out, err);
}

static bool get_record(struct judged_call *s, struct rpc_call *call,
                       const M(GetRecordRequest) * request, M(GetRecordResponse) * response,
                       struct error *err)
{
    struct record *r = NULL;

    (void)call;
    if (!judged_call_read(s, request->volume_id, &r, err))
        return false;
    if (record_is_gone(r))
        return error_set_reason(err, ERROR_NOT_FOUND, RECORD_ERASED_REASON,
                                "there is no volume or snapshot %s", r->volume_id);
    const struct worker_answer to_worker = { .kind = ANSWER_RECORD,
                                             .nonce = &request->nonce,
                                             .record = &response->record,
                                             .signature = &response->signature,
                                             .certificates = &response->certificates };
    return answer_record(s, r, &response->record, err) && worker_answer_sign(s, &to_worker, err);
}

struct page {
    struct judged_call *s;
    ProtobufCBinaryData *records;
    size_t n, limit;
    uint8_t last[RECORD_ID_LEN];
    bool has_more, is_exhausted;
    struct error *err;
};

static bool add_to_page(void *cookie, const struct record *r)
{
    struct page *page = cookie;

    if (!policy_has_volume(page->s->rule, r->volume_id))
        return true;
    page->has_more = page->n == page->limit;
    if (page->has_more)
        return false;
    page->is_exhausted = !answer_record(page->s, r, &page->records[page->n], page->err);
    page->n++;
    memcpy(page->last, r->id, RECORD_ID_LEN);
    return !page->is_exhausted;
}

static bool finish_page(const struct page *page, M(ListRecordsResponse) * response,
                        struct error *err)
{
    if (page->is_exhausted)
        return arena_exhausted(err);
    response->records = page->records;
    response->n_records = page->n;
    if (!page->has_more)
        return true;
    response->next_page_token = arena_alloc(page->s->call->arena, 2 * RECORD_ID_LEN + 1);
    if (!response->next_page_token)
        return arena_exhausted(err);
    hex_encode(page->last, RECORD_ID_LEN, response->next_page_token);
    return true;
}

/* The records of these ids, as far as they exist and the rule has them. */
static bool list_named(struct page *page, const M(ListRecordsRequest) * request, struct error *err)
{
    struct record *r = arena_alloc(page->s->call->arena, sizeof(*r));

    if (!r)
        return arena_exhausted(err);
    for (size_t i = 0; i < request->n_volume_ids; i++) {
        if (judged_call_find(page->s, request->volume_ids[i], r, err)) {
            if (!record_is_gone(r) && !add_to_page(page, r))
                return arena_exhausted(err);
        } else if (err->code != ERROR_NOT_FOUND) {
            return false;
        }
    }
    return true;
}

static bool list_records(struct judged_call *s, struct rpc_call *call,
                         const M(ListRecordsRequest) * request, M(ListRecordsResponse) * response,
                         struct error *err)
{
    struct page page = { .s = s, .limit = request->page_size, .err = err };
    uint8_t after[RECORD_ID_LEN];
    struct store_filter filter = {
        .tenant = policy_rule_tenant(s->rule),
        .driver = request->driver,
        .location = request->location,
        .source_volume_id = request->source_volume_id,
        .kind = (enum record_kind)request->kind,
        .is_gone = request->gone,
        .has_gone = judged_call_has_gone,
        .cookie = call,
    };

    if (request->driver[0] == '\0' && !policy_may(s->rule, POLICY_ADMIN))
        return judged_call_deny(
            s, "only an admin may list the records of all drivers: name one driver", err);
    if (request->page_token[0] != '\0') {
        if (!hex_decode(request->page_token, after, sizeof(after)))
            return error_set(err, ERROR_ABORTED, "page_token is not known: start the list again");
        filter.after = after;
    }
    if (request->n_volume_ids > VOLUME_IDS_MAX)
        return error_set(err, ERROR_INVALID_ARGUMENT, "volume_ids has more than %u ids",
                         VOLUME_IDS_MAX);
    if (request->n_volume_ids > 0 && request->driver[0] == '\0')
        return error_set(err, ERROR_INVALID_ARGUMENT, "driver is missing");
    if (request->n_volume_ids > 0)
        page.limit = request->n_volume_ids;
    else if (page.limit == 0 || page.limit > PAGE_MAX)
        page.limit = PAGE_MAX;
    page.records = arena_alloc(call->arena, page.limit * sizeof(*page.records));
    if (!page.records)
        return arena_exhausted(err);
    filter.wanted = (uint32_t)page.limit + 1; /* one more tells whether there are more */
    bool listed = request->n_volume_ids > 0 ? list_named(&page, request, err)
                                            : s->broker->store->ops->list(s->broker->store, &filter,
                                                                          add_to_page, &page, err);

    return listed && finish_page(&page, response, err);
}

/* --- opening --- */

struct open_job {
    const M(OpenVolumeRequest) * request;
    ProtobufCBinaryData *sealed; /* in the answer */
};

static bool unwrap(const struct judged_call *s, const struct record *r, struct secret *out,
                   struct error *err)
{
    return keyring_secret_of(s->broker->keyring, r, out, err) ||
           (err->code == ERROR_DATA_LOSS &&
            store_refuse(s->broker->store, r->volume_id, "key", err));
}

/* The key is sealed before the lease is taken, so that a bad sealing key changes nothing. */
static bool seal_secret(struct judged_call *s, const struct record *r, const struct open_job *job,
                        struct error *err)
{
    struct sealed_secret sealed;
    auto_secret struct secret plain = SECRET_INIT;
    const ProtobufCBinaryData *public_key = &job->request->sealing_public_key;

    if (!unwrap(s, r, &plain, err) || !secret_seal(r, &plain, public_key->data, &sealed, err))
        return false;
    job->sealed->len = sizeof(sealed.bytes);
    job->sealed->data = arena_memdup(s->call->arena, sealed.bytes, sizeof(sealed.bytes));
    return job->sealed->data || arena_exhausted(err);
}

static bool apply_open(struct judged_call *s, struct call_change *change, struct record *r,
                       bool *changed, struct error *err)
{
    const struct open_job *job = change->request;
    struct record_open_request open = { .read_only = job->request->read_only != 0,
                                        .now_ms = s->now_ms,
                                        .skew_ms = judged_call_skew(s, r),
                                        .format_ms = s->broker->format_ms,
                                        .lease_ms = leasing_ms(s, r),
                                        .holder_is_silent = leasing_is_silent(s, r) };

    if (!leasing_holder(s, &open.holder, err) || !record_open(r, &open, changed, err))
        return false;
    (void)judged_call_skew(s, r); /* the time of a new attempt begins */
    return seal_secret(s, r, job, err);
}

static bool check_rate(const struct judged_call *s, struct error *err)
{
    uint32_t opens = policy_rule_limits(s->rule)->opens_per_minute;

    return judged_call_has_rate(s, "open", opens) ||
           error_set(err, ERROR_RESOURCE_EXHAUSTED,
                     "the tenant opens more than %u volumes a minute: try again later", opens);
}

static bool open_volume(struct judged_call *s, struct rpc_call *call,
                        const M(OpenVolumeRequest) * request, M(OpenVolumeResponse) * response,
                        struct error *err)
{
    struct open_job job = { .request = request, .sealed = &response->sealed_secret };
    struct call_change change = { .apply = apply_open, .request = &job };
    const struct record *r = NULL;

    (void)call;
    const struct worker_answer to_worker = { .kind = request->read_only ? ANSWER_OPEN_READ_ONLY
                                                                        : ANSWER_OPEN,
                                             .nonce = &request->nonce,
                                             .subject = &request->sealing_public_key,
                                             .record = &response->record,
                                             .secret = &response->sealed_secret,
                                             .signature = &response->signature,
                                             .certificates = &response->certificates };
    return worker_answer_check(&request->nonce, err) &&
           judged_call_check_sealing_key(s, &request->sealing_public_key, err) &&
           check_rate(s, err) && leasing_change(s, &change, &r, err) &&
           put_record(s, r, request->sealing_public_key.data, &response->record, err) &&
           worker_answer_sign(s, &to_worker, err);
}

struct change_job {
    struct change_request change;
    const ProtobufCBinaryData *proof;
};

static bool apply_change(struct judged_call *s, struct call_change *change, struct record *r,
                         bool *changed, struct error *err)
{
    const struct change_job *job = change->request;
    struct change_request wanted = job->change;

    change->new_key = NULL;
    wanted.skew_ms = judged_call_skew(s, r);
    wanted.lease_ms = leasing_ms(s, r);
    return worker_proof_check(s, r, &wanted, job->proof, err) &&
           (wanted.change->kind != RECORD_CHANGE_ROTATED ||
            rotation_key(s, r, &change->new_key, err)) &&
           record_change(r, &wanted, changed, err);
}

static bool change_record(struct judged_call *s, struct rpc_call *call,
                          const M(ChangeRecordRequest) * request,
                          M(ChangeRecordResponse) * response, struct error *err)
{
    struct record_change *wanted = arena_alloc(call->arena, sizeof(*wanted));
    struct change_job job = { .change = { .change = wanted,
                                          .expected_version = request->expected_version,
                                          .now_ms = s->now_ms },
                              .proof = &request->proof };
    struct call_change change = { .apply = apply_change, .request = &job };
    const struct worker_answer to_worker = { .kind = ANSWER_CHANGE,
                                             .nonce = &request->nonce,
                                             .subject = &request->change,
                                             .record = &response->record,
                                             .signature = &response->signature,
                                             .certificates = &response->certificates };
    const struct record *r = NULL;

    if (!wanted)
        return arena_exhausted(err);
    return worker_answer_check(&request->nonce, err) &&
           record_change_decode(request->change.data, request->change.len, wanted, err) &&
           leasing_holder(s, &job.change.holder, err) && judged_call_change(s, &change, &r, err) &&
           answer_record(s, r, &response->record, err) && worker_answer_sign(s, &to_worker, err);
}

/* --- the table --- */

RPC_HANDLER(get_status, struct judged_call, M(GetStatusRequest), M(GetStatusResponse))
RPC_HANDLER(create_record, struct judged_call, M(CreateRecordRequest), M(CreateRecordResponse))
RPC_HANDLER(begin_copy, struct judged_call, M(BeginCopyRequest), M(BeginCopyResponse))
RPC_HANDLER(end_copy, struct judged_call, M(EndCopyRequest), M(EndCopyResponse))
RPC_HANDLER(copy_record, struct judged_call, M(CopyRecordRequest), M(CopyRecordResponse))
RPC_HANDLER(get_record, struct judged_call, M(GetRecordRequest), M(GetRecordResponse))
RPC_HANDLER(list_records, struct judged_call, M(ListRecordsRequest), M(ListRecordsResponse))
RPC_HANDLER(describe_record, struct judged_call, M(DescribeRecordRequest),
            M(DescribeRecordResponse))
RPC_HANDLER(open_volume, struct judged_call, M(OpenVolumeRequest), M(OpenVolumeResponse))
RPC_HANDLER(change_record, struct judged_call, M(ChangeRecordRequest), M(ChangeRecordResponse))
RPC_HANDLER(renew_lease, struct judged_call, M(RenewLeaseRequest), M(RenewLeaseResponse))
RPC_HANDLER(take_over_lease, struct judged_call, M(TakeOverLeaseRequest), M(TakeOverLeaseResponse))
RPC_HANDLER(begin_delete, struct judged_call, M(DeleteRequest), M(DeleteResponse))
RPC_HANDLER(cancel_delete, struct judged_call, M(DeleteRequest), M(DeleteResponse))
RPC_HANDLER(finish_delete, struct judged_call, M(DeleteRequest), M(DeleteResponse))
RPC_HANDLER(undelete_record, struct judged_call, M(DeleteRequest), M(DeleteResponse))
RPC_HANDLER(erase_record, struct judged_call, M(DeleteRequest), M(DeleteResponse))
RPC_HANDLER(publish_record, struct judged_call, M(PublishRecordRequest), M(PublishRecordResponse))
RPC_HANDLER(unpublish_record, struct judged_call, M(UnpublishRecordRequest),
            M(UnpublishRecordResponse))
RPC_HANDLER(rotate_key, struct judged_call, M(RotateKeyRequest), M(RotateKeyResponse))
RPC_HANDLER(get_statement, struct judged_call, M(GetStatementRequest), M(GetStatementResponse))
RPC_HANDLER(unseal, struct judged_call, M(UnsealRequest), M(UnsealResponse))
RPC_HANDLER(replicate, struct judged_call, M(ReplicateRequest), M(ReplicateResponse))
RPC_HANDLER(rotate_wrapping, struct judged_call, M(RotateWrappingRequest),
            M(RotateWrappingResponse))
RPC_HANDLER(adopt_record, struct judged_call, M(AdoptRecordRequest), M(AdoptRecordResponse))
RPC_HANDLER(adopt_restored, struct judged_call, M(AdoptRestoredRequest), M(AdoptRestoredResponse))
RPC_HANDLER(end_restore, struct judged_call, M(EndRestoreRequest), M(EndRestoreResponse))
RPC_HANDLER(backup, struct judged_call, M(BackupRequest), M(BackupResponse))
RPC_HANDLER(release_lease, struct judged_call, M(ReleaseLeaseRequest), M(ReleaseLeaseResponse))

#define LISTERS  (POLICY_CREATE | POLICY_DELETE | POLICY_PUBLISH | POLICY_ADMIN | POLICY_ROTATE)
#define AUDITORS (POLICY_AUDIT | POLICY_ADMIN)
#define DELETERS (POLICY_DELETE | POLICY_ADMIN)
#define HOLDERS  (POLICY_OPEN | POLICY_DELETE)
#define ROTATORS (POLICY_ROTATE | POLICY_OPEN)

/* name, what a rule must allow, works sealed, names one record, only reads, handler, flags (an adopted
 * volume's old key comes in the request) */
#define RPC_TABLE(ROW)                                                               \
    ROW("GetStatus", POLICY_ANYTHING, true, false, true, get_status, 0)              \
    ROW("GetStatement", AUDITORS, false, false, true, get_statement, 0)              \
    ROW("Unseal", POLICY_UNSEAL, true, false, true, unseal, RPC_SECRET)              \
    ROW("Replicate", POLICY_REPLICATE, false, false, false, replicate, 0)            \
    ROW("RotateWrapping", POLICY_ADMIN, false, false, false, rotate_wrapping, 0)     \
    ROW("CreateRecord", POLICY_CREATE, false, true, false, create_record, 0)         \
    ROW("BeginCopy", POLICY_CREATE, false, true, true, begin_copy, 0)                \
    ROW("EndCopy", POLICY_CREATE, false, true, true, end_copy, 0)                    \
    ROW("CopyRecord", POLICY_CREATE, false, true, false, copy_record, 0)             \
    ROW("GetRecord", POLICY_ANYTHING, false, true, true, get_record, 0)              \
    ROW("ListRecords", LISTERS, false, false, true, list_records, 0)                 \
    ROW("DescribeRecord", LISTERS | AUDITORS, false, true, true, describe_record, 0) \
    ROW("OpenVolume", POLICY_OPEN, false, true, false, open_volume, 0)               \
    ROW("ChangeRecord", POLICY_OPEN, false, true, false, change_record, 0)           \
    ROW("RenewLease", POLICY_OPEN, false, true, true, renew_lease, 0)                \
    ROW("TakeOverLease", HOLDERS, false, true, false, take_over_lease, 0)            \
    ROW("BeginDelete", DELETERS, false, true, false, begin_delete, 0)                \
    ROW("CancelDelete", DELETERS, false, true, false, cancel_delete, 0)              \
    ROW("FinishDelete", DELETERS, false, true, false, finish_delete, 0)              \
    ROW("UndeleteRecord", POLICY_UNDELETE, false, true, false, undelete_record, 0)   \
    ROW("EraseRecord", POLICY_ADMIN, false, true, false, erase_record, 0)            \
    ROW("PublishRecord", POLICY_PUBLISH, false, true, false, publish_record, 0)      \
    ROW("UnpublishRecord", POLICY_PUBLISH, false, true, false, unpublish_record, 0)  \
    ROW("RotateKey", ROTATORS, false, true, false, rotate_key, 0)                    \
    ROW("AdoptRecord", POLICY_ADMIN, false, true, false, adopt_record, RPC_SECRET)   \
    ROW("AdoptRestored", POLICY_ADMIN, false, true, false, adopt_restored, 0)        \
    ROW("EndRestore", POLICY_ADMIN, false, false, false, end_restore, 0)             \
    ROW("Backup", POLICY_BACKUP, false, false, true, backup, 0)                      \
    ROW("ReleaseLease", POLICY_ADMIN, false, true, false, release_lease, 0)

#define CALL_ROW(name, may, sealed, subject, reads, fn, flags) \
    { name, may, sealed, subject, reads, fn##_untyped },
#define METHOD_ROW(name, may, sealed, subject, reads, fn, flags) { name, run, flags },

static const struct call_rpc rpcs[] = { RPC_TABLE(CALL_ROW) };

/* Every method enters here, except the three for attestation. So no method can forget to judge the
 * call. */
static bool run(void *service, struct rpc_call *call, const ProtobufCMessage *request,
                ProtobufCMessage *response, struct error *err)
{
    const char *slash = strrchr(call->method, '/');

    for (size_t i = 0; slash && i < ARRAY_LEN(rpcs); i++)
        if (strcmp(rpcs[i].name, slash + 1) == 0)
            return judged_call_run(service, &rpcs[i], call, request, response, err);
    return error_set(err, ERROR_UNIMPLEMENTED, "unknown method");
}

static const struct rpc_method methods[] = {
    RPC_TABLE(METHOD_ROW){ "GetChallenge", attest_get_challenge, RPC_FOR_STRANGERS },
    { "Attest", attest_run, 0, ATTEST_MESSAGE_MAX },
    { "GetEvidence", evidence_get, RPC_FOR_STRANGERS },
};

const struct rpc_service broker_service = {
    .descriptor = &tdvol__keybroker__v1__key_broker__descriptor,
    .methods = methods,
    .n_methods = ARRAY_LEN(methods),
};
