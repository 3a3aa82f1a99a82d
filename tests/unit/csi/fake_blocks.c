/* SPDX-License-Identifier: Apache-2.0 */
#include "attest/binding.h"
#include "base/digest.h"
#include "record/layout.h"
#include "tests/unit/csi/fake.h"

#include <stdio.h>
#include <string.h>

/* The workers of the fake: files, stages and targets in memory. */

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

static bool check_content(const struct block_request *request, const struct record *record,
                          struct error *err)
{
    bool is_any = strcmp(request->fs_type, BLOCK_FS_ANY) == 0 && record->spec.fs_type[0] != '\0';

    bool is_brought = request->fs_type[0] == '\0' && !request->read_only;

    return is_any || is_brought || strcmp(request->fs_type, record->spec.fs_type) == 0 ||
           error_set(err, ERROR_FAILED_PRECONDITION, "the volume was made for something else");
}

/* --- what a worker and the broker tell each other --- */

static _Thread_local uint8_t last_nonce;

/* A worker's question under way. */
struct asking {
    const struct fake *f;
    struct relay_question question;
    struct broker_signature signature;
};

static struct relay ask(struct asking *a, const struct fake *f)
{
    a->f = f;
    a->question = (struct relay_question){ .nonce = { ++last_nonce, 1 } };
    return (struct relay){ &a->question, &a->signature };
}

/* A worker acts only on what the broker signed for its question. */
static bool is_signed(const struct asking *a, enum answer_kind kind, const void *subject,
                      size_t subject_len, const struct record *record,
                      const struct sealed_secret *secret, struct error *err)
{
    const struct answer_question question =
        broker_end_question(kind, a->question.nonce, subject, subject_len);
    static _Thread_local struct encoded encoded; /* too large for the stack of a thread */
    static _Thread_local struct answer_bytes bytes;

    record_encode(record, &encoded);
    answer_encode(&question, encoded.bytes, encoded.len, secret, &bytes);
    return broker_signature_check(&a->f->trust, &a->signature, bytes.bytes, bytes.len, NULL, err);
}

static bool ask_open(struct fake *f, const struct block_run *run, struct record *record,
                     struct error *err)
{
    enum answer_kind kind = run->request->read_only ? ANSWER_OPEN_READ_ONLY : ANSWER_OPEN;
    struct asking a;
    const struct relay relay = ask(&a, f);
    struct sealed_secret secret;

    return run->hooks->open(run->hook_cookie, &relay, f->sealing_public_key, record, &secret,
                            err) &&
           is_signed(&a, kind, f->sealing_public_key, HPKE_PUBLIC_LEN, record, &secret, err);
}

/* The key of the opening, which a worker finds in its state file. */
static bool prove_close(struct fake *f, const struct block_run *run,
                        const struct record_change *change, struct relay_question *out,
                        struct error *err)
{
    const struct fake_record *r = fake_record(f, run->request->volume_id);
    auto_secret struct secret secret = SECRET_INIT;
    uint8_t key[CLOSE_KEY_LEN];

    out->has_proof = true;
    if (!r || !secret_alloc(&secret, VOLUME_SECRET_LEN, err))
        return r ? false : error_set(err, ERROR_NOT_FOUND, "no record");
    memcpy(secret.bytes, f->secret, VOLUME_SECRET_LEN);
    return close_key_derive(&secret, &r->record, key, err) &&
           proof_by_close_key(key, change, out->proof, err);
}

static bool ask_change(struct fake *f, const struct block_run *run,
                       const struct record_change *change, struct record *record, struct error *err)
{
    struct asking a;
    const struct relay relay = ask(&a, f);
    static _Thread_local struct encoded encoded;
    auto_secret struct secret secret = SECRET_INIT;

    if (proof_needed(record, change) == PROOF_SECRET) {
        a.question.has_proof = true;
        a.question.expected_version = record->version;
        if (!secret_alloc(&secret, VOLUME_SECRET_LEN, err))
            return false;
        memcpy(secret.bytes, f->secret, VOLUME_SECRET_LEN);
        if (!proof_by_secret(&secret, record, record->version, change, a.question.proof, err))
            return false;
    }
    if (proof_needed(record, change) == PROOF_CLOSE &&
        !prove_close(f, run, change, &a.question, err))
        return false;
    record_change_encode(change, &encoded);
    return run->hooks->change(run->hook_cookie, &relay, change, record, err) &&
           is_signed(&a, ANSWER_CHANGE, encoded.bytes, encoded.len, record, NULL, err);
}

/* Opens, formats what is new, and records that, as a worker does. */
static bool stage(struct fake *f, const struct block_run *run, struct block_result *out,
                  struct error *err)
{
    const struct block_request *request = run->request;
    struct fake_volume *v = fake_volume(f, request->volume_id);
    struct record record;

    if (v->is_staged && strcmp(v->staging, request->path) != 0)
        return error_set(err, ERROR_ALREADY_EXISTS, "staged at another path");
    out->already = v->is_staged;
    if (v->is_staged)
        return true;
    if (!v->has_file)
        return error_set(err, ERROR_NOT_FOUND, "no file");
    pthread_mutex_unlock(&f->lock);
    fake_work(f, false);
    bool opened = ask_open(f, run, &record, err);
    if (opened && record.phase == RECORD_FORMATTING) {
        const struct record_change ready = { .kind = RECORD_CHANGE_READY,
                                             .attempt = record.format.attempt,
                                             .header_digest = { 1 } };

        opened = ask_change(f, run, &ready, &record, err);
    }
    fake_work(f, true);
    pthread_mutex_lock(&f->lock);
    if (!opened || !check_content(request, &record, err))
        return false;
    v->is_staged = true;
    v->read_only = request->read_only;
    (void)snprintf(v->staging, sizeof(v->staging), "%.255s", request->path);
    (void)snprintf(v->fs_type, sizeof(v->fs_type), "%s", record.spec.fs_type);
    return true;
}

static bool unstage(struct fake *f, const struct block_run *run, struct block_result *out)
{
    struct fake_volume *v = fake_volume(f, run->request->volume_id);
    const struct record_change closed = { .kind = RECORD_CHANGE_CLOSED,
                                          .is_closed = !f->takes_no_mark };
    struct record record = { .version = 0 };
    struct error ignored = ERROR_INIT;
    bool was_open = v->is_staged && !v->read_only;

    out->already = !v->is_staged;
    out->status.is_read_only = v->read_only;
    v->is_staged = false;
    pthread_mutex_unlock(&f->lock);
    fake_work(f, false);
    if (was_open)
        (void)!ask_change(f, run, &closed, &record, &ignored);
    fake_work(f, true);
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
    struct record record;
    struct asking a;
    const struct relay relay = ask(&a, f);

    pthread_mutex_unlock(&f->lock);
    fake_work(f, false);
    bool told = run->hooks->record(run->hook_cookie, &relay, &record, err) &&
                is_signed(&a, ANSWER_RECORD, NULL, 0, &record, NULL, err);
    fake_work(f, true);
    pthread_mutex_lock(&f->lock);
    return told;
}

/* --- evidence --- */

/* Little-endian. */
static void put(uint8_t *at, uint32_t value, size_t bytes)
{
    for (size_t i = 0; i < bytes; i++)
        at[i] = (uint8_t)(value >> (8 * i));
}

void fake_quote(const uint8_t report_data[static REPORT_DATA_LEN],
                uint8_t out[static FAKE_QUOTE_LEN])
{
    static const uint8_t vendor[16] = { 0x93, 0x9a, 0x72, 0x33, 0xf7, 0x9c, 0x4c, 0xa9,
                                        0x94, 0x0a, 0x0d, 0xb3, 0x95, 0x7f, 0x06, 0x07 };

    for (size_t i = 0; i < FAKE_QUOTE_LEN; i++)
        out[i] = 0;
    put(out, 4, 2);        /* version */
    put(out + 2, 2, 2);    /* ECDSA P-256 */
    put(out + 4, 0x81, 4); /* TDX */
    memcpy(out + 12, vendor, sizeof(vendor));
    memcpy(out + 48 + 520, report_data, REPORT_DATA_LEN);
    put(out + 632, FAKE_QUOTE_LEN - 636, 4); /* signature data */
    put(out + 764, 6, 2);                    /* a QE report follows */
    put(out + 766, FAKE_QUOTE_LEN - 770, 4);
    put(out + 1220, 5, 2); /* a PCK chain follows, of no certificates */
}

static bool send_part(const struct fake *f, const struct block_run *run, enum block_data_part part,
                      const uint8_t *bytes, size_t len, struct error *err)
{
    for (size_t at = 0; at < len;) {
        struct block_data data = { .part = part };

        data.len = (uint32_t)(len - at < 1000 ? len - at : 1000);
        memcpy(data.bytes, bytes + at, data.len);
        at += data.len;
        fake_work(f, false);
        bool taken = run->hooks->data(run->hook_cookie, &data, err);
        fake_work(f, true);
        if (!taken)
            return false;
    }
    return true;
}

static bool attest(struct fake *f, const struct block_run *run, struct block_result *out,
                   struct error *err)
{
    static const uint8_t event_log[5000] = { 1, 2, 3 };
    const struct block_attest *asked = &run->request->attest;
    uint8_t report_data[REPORT_DATA_LEN], quote[FAKE_QUOTE_LEN];
    struct binding binding;

    memcpy(binding.nonce, asked->nonce, BINDING_LEN);
    memcpy(binding.client_key_sha256, asked->client_key_sha256, BINDING_LEN);
    memcpy(binding.broker_key_sha256, asked->broker_key_sha256, BINDING_LEN);
    memcpy(out->sealing_public_key, f->sealing_public_key, HPKE_PUBLIC_LEN);
    if (!sha256(f->sealing_public_key, HPKE_PUBLIC_LEN, binding.sealing_key_sha256, err) ||
        !binding_report_data(&binding, report_data, err))
        return false;
    fake_quote(report_data, quote);
    if (f->distort_quote)
        f->distort_quote(f, quote);
    if (!send_part(f, run, BLOCK_DATA_QUOTE, quote, sizeof(quote), err))
        return false;
    for (size_t sent = 0, n; sent < f->event_log_len; sent += n) {
        n = f->event_log_len - sent < sizeof(event_log) ? f->event_log_len - sent
                                                        : sizeof(event_log);
        if (!send_part(f, run, BLOCK_DATA_EVENT_LOG, event_log, n, err))
            return false;
    }
    return true;
}

/* --- */

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
        out->is_empty = f->is_empty;
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
        out->status.is_active = out->has_device = v->is_staged;
        out->status.is_read_only = v->is_staged && v->read_only;
        return true;
    case BLOCK_ATTEST:
        return attest(f, run, out, err);
    case BLOCK_FORWARD:
    case BLOCK_PLACE:
    case BLOCK_UNPLACE:
    case BLOCK_GROWN:
    case BLOCK_RENEW:
    case BLOCK_ROTATE:
    case BLOCK_UPSTREAM_READ:
    case BLOCK_UPSTREAM_CALL:
    case BLOCK_UNPUBLISH:
    case BLOCK_WATCH:
    case BLOCK_PROBE:
    case BLOCK_UNLINK:
    case BLOCK_SOCKET:
    case BLOCK_OPERATION_COUNT:
    default:
        return true;
    }
}

bool fake_run(void *cookie, const struct block_run *run, struct block_result *out,
              struct error *err)
{
    struct fake *f = cookie;
    const char *name = block_operation_name((enum block_operation)run->request->operation);

    if (f->during)
        f->during(f, run->request);
    fake_work(f, true);
    pthread_mutex_lock(&f->lock);
    fake_note(f, name);
    f->last = *run->request;
    bool faulty = fake_is_faulty(f, name, err);
    *out = (struct block_result){ .already = false };
    bool done = (!faulty || f->fault.is_lost) && operate(f, run, out, err);
    if (faulty)
        error_set(err, f->fault.code, "%s failed", name);
    if (faulty && f->fault.reason)
        error_reason(err, f->fault.reason);
    pthread_mutex_unlock(&f->lock);
    fake_work(f, false);
    return done && !faulty;
}
