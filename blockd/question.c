/* SPDX-License-Identifier: Apache-2.0 */
#include "base/clock.h"
#include "base/uuid.h"
#include "blockd/worker.h"
#include "record/check.h"

#include <string.h>

/*
 * The worker's questions to the broker. The front in between has no privileges and parses the
 * network, so nothing that it says counts: the broker signs its answers, and what the worker has
 * recorded carries a proof.
 */

/* A format must be over before the broker gives it to another node. */
#define FORMAT_MARGIN_MS 2000

struct inquiry {
    struct block_message question;
    struct block_answer answer;
    uint64_t asked_ms, asked_boottime_ms;
};

/* --- what the broker signed --- */

static bool find_subject(const struct block_message *question, uint8_t out[static SHA256_LEN],
                         struct error *err)
{
    if (question->kind == BLOCK_ASK_OPEN)
        return sha256(question->sealing_public_key, HPKE_PUBLIC_LEN, out, err);
    if (question->kind == BLOCK_ASK_CHANGE)
        return sha256(question->change.bytes, question->change.len, out, err);
    return true;
}

static enum answer_kind answer_kind_of(const struct worker *worker,
                                       const struct block_message *question)
{
    if (question->kind == BLOCK_ASK_RECORD)
        return worker->request->operation == BLOCK_RENEW ? ANSWER_RENEW : ANSWER_RECORD;
    if (question->kind == BLOCK_ASK_CHANGE)
        return ANSWER_CHANGE;
    return worker->request->read_only ? ANSWER_OPEN_READ_ONLY : ANSWER_OPEN;
}

static bool check_signature(struct worker *worker, const struct inquiry *x, struct error *err)
{
    static struct answer_bytes bytes;
    uint8_t key[KEY_SHA256_LEN];
    struct answer_question question = { .kind = answer_kind_of(worker, &x->question) };
    bool is_open = x->question.kind == BLOCK_ASK_OPEN;

    memcpy(question.nonce, x->question.relay.nonce, ANSWER_NONCE_LEN);
    if (!find_subject(&x->question, question.subject, err))
        return false;
    answer_encode(&question, x->answer.record.bytes, x->answer.record.len,
                  is_open ? &x->answer.secret : NULL, &bytes);
    return broker_signature_check(&worker->config->broker, &x->answer.signature, bytes.bytes,
                                  bytes.len, key, err) &&
           worker_demand_evidence(worker, key, false, err);
}

/* --- what the record says --- */

static bool other_volume(struct error *err)
{
    return error_set(err, ERROR_INTERNAL, "the broker's answer is about another volume");
}

static bool check_record(const struct worker *worker, const struct record *record,
                         struct error *err)
{
    if (!record_check(record, err)) {
        if (err->code != ERROR_FAILED_PRECONDITION)
            err->code = ERROR_INTERNAL;
        return error_wrap(err, "the broker's answer");
    }
    if (strcmp(record->volume_id, worker->request->volume_id) != 0 ||
        strcmp(record->driver, worker->config->driver) != 0)
        return other_volume(err);
    return !worker->has_record || record_continues(&worker->record, record, err);
}

/* Two nodes, or two boots of one node, must not write one volume. The boot id is the kernel's own
 * word, not the front's. */
static bool check_holder(const struct worker *worker, const struct record *record,
                         struct error *err)
{
    const struct record_holder *holder =
        record->phase == RECORD_FORMATTING ? &record->format.holder : &record->lease.holder;
    const char *node = worker->config->node;
    char boot_id[BOOT_ID_LEN];

    boot_id_text(boot_id);
    return (node && node[0] && strcmp(holder->node, node) == 0 &&
            strcmp(holder->boot_id, boot_id) == 0) ||
           error_set(err, ERROR_FAILED_PRECONDITION,
                     "the broker gave the volume to boot %s of node %s, this is boot %s of node %s",
                     holder->boot_id, holder->node, boot_id, node ? node : "");
}

static bool is_ready(const struct block_message *question)
{
    static struct record_change change;
    struct error ignored = ERROR_INIT;

    return question->kind == BLOCK_ASK_CHANGE &&
           record_change_decode(question->change.bytes, question->change.len, &change, &ignored) &&
           change.kind == RECORD_CHANGE_READY;
}

/* An answer that gives this boot the volume, or lets it go on having it. */
static bool gives_lease(const struct worker *worker, const struct block_message *question)
{
    enum answer_kind kind = answer_kind_of(worker, question);

    return kind == ANSWER_OPEN || kind == ANSWER_RENEW;
}

/* Until a volume is staged, nobody watches over its lease: the worker ends before it is over. */
static void limit_stage(const struct worker *worker)
{
    const struct worker_lease *lease = &worker->lease;
    uint64_t passed_ms = clock_boottime_ms() - lease->asked_ms + LEASE_STOP_MS;
    uint64_t left_ms = lease->lease_ms > passed_ms ? lease->lease_ms - passed_ms : 1;
    uint64_t end_ms = clock_now_ms() + left_ms;

    if (lease->lease_ms != 0 && worker->request->operation == BLOCK_STAGE)
        worker_set_end(worker->deadline_ms && worker->deadline_ms < end_ms ? worker->deadline_ms
                                                                           : end_ms);
}

/* A lease with the mark of a contest counts for nothing: whoever made the mark may be waiting for long. READY
 * gives one, too; its answer may be the second one. */
static bool take_lease(struct worker *worker, const struct inquiry *x, const struct record *record,
                       struct error *err)
{
    const struct record_lease *lease = &record->lease;

    if (lease->contested != 0)
        return error_set(err, ERROR_ABORTED, "another node wants the volume: try again");
    worker->lease =
        (struct worker_lease){ .lease_ms = lease->lease_ms, .asked_ms = x->asked_boottime_ms };
    limit_stage(worker);
    return true;
}

static bool take_record(struct worker *worker, const struct inquiry *x, struct record *out,
                        struct error *err)
{
    static struct record record;
    const struct encoded *encoded = &x->answer.record;
    bool gives = gives_lease(worker, &x->question);

    if (!check_signature(worker, x, err))
        return false;
    if (!record_decode(encoded->bytes, encoded->len, &record, err))
        return error_wrap(err, "the broker's answer");
    if (!check_record(worker, &record, err) || (gives && !check_holder(worker, &record, err)))
        return false;
    if ((gives || is_ready(&x->question)) && !take_lease(worker, x, &record, err))
        return false;
    worker->record = record;
    worker->has_record = true;
    *out = record;
    return true;
}

/* --- asking --- */

/* Sends a question that the operation may ask. The answer's record counts; what else is in the
 * answer, the signature covers. */
static bool ask(struct worker *worker, struct inquiry *x, enum record_change_kind change,
                struct record *record, struct error *err)
{
    struct block_message *question = &x->question;

    if (!block_may_ask((enum block_operation)worker->request->operation,
                       (enum block_message_kind)question->kind, change, &worker->asked))
        return error_set(err, ERROR_INTERNAL, "this operation may not ask the broker for this");
    if (!random_bytes(question->relay.nonce, ANSWER_NONCE_LEN, err))
        return false;
    x->asked_ms = clock_now_ms();
    x->asked_boottime_ms = clock_boottime_ms();
    if (!block_send_message(worker->front_fd, question, err) ||
        !block_receive_answer(worker->front_fd, &x->answer, err))
        return false;
    if (x->answer.ok)
        return take_record(worker, x, record, err);
    *err = x->answer.err;
    if (err->code == ERROR_NONE)
        error_set(err, ERROR_INTERNAL, "the front's answer has no reason");
    return false;
}

bool worker_ask_record(struct worker *worker, struct record *record, struct error *err)
{
    static struct inquiry x;

    x.question.kind = BLOCK_ASK_RECORD;
    return ask(worker, &x, 0, record, err);
}

/* A worker that formats must end before the broker gives the format to another node. The broker
 * starts the time when it answers; the front may hold the answer back. */
static bool limit_format(const struct worker *worker, const struct record *record,
                         uint64_t asked_ms, struct error *err)
{
    uint64_t format_ms = asked_ms + record->format.remaining_ms;

    if (format_ms <= clock_now_ms() + FORMAT_MARGIN_MS)
        return error_set(err, ERROR_ABORTED, "no time left to format; try again");
    format_ms -= FORMAT_MARGIN_MS;
    worker_set_end(worker->deadline_ms && worker->deadline_ms < format_ms ? worker->deadline_ms
                                                                          : format_ms);
    return true;
}

/* The next one is in the record, which the broker signed as well. */
static bool unseal(const struct worker *worker, const struct record *record,
                   const struct sealed_secret *sealed, struct volume_secrets *out,
                   struct error *err)
{
    static struct record as_next;
    struct sealed_secret next;

    if (!secret_unseal(record, sealed, &worker->config->sealing, &out->own, err))
        return error_wrap(err, "unseal the volume's secret");
    if (record->rotation.key.generation == 0)
        return true;
    if (record->rotation.secret_len != sizeof(next.bytes))
        return error_set(err, ERROR_INTERNAL, "the broker's answer has no next secret");
    memcpy(next.bytes, record->rotation.secret, sizeof(next.bytes));
    as_next = *record;
    as_next.key = record->rotation.key;
    return secret_unseal(&as_next, &next, &worker->config->sealing, &out->next, err) ||
           error_wrap(err, "unseal the volume's next secret");
}

void volume_secrets_wipe(struct volume_secrets *secrets)
{
    secret_wipe(&secrets->own);
    secret_wipe(&secrets->next);
}

bool worker_ask_open(struct worker *worker, struct record *record, struct volume_secrets *secrets,
                     struct error *err)
{
    static struct inquiry x;

    x.question.kind = BLOCK_ASK_OPEN;
    memcpy(x.question.sealing_public_key, worker->config->sealing.public_key, HPKE_PUBLIC_LEN);
    if (!ask(worker, &x, 0, record, err))
        return false;
    if (!unseal(worker, record, &x.answer.secret, secrets, err))
        return false;
    worker->secrets = secrets;
    return record->phase != RECORD_FORMATTING || limit_format(worker, record, x.asked_ms, err);
}

/* The broker takes the steps of a rotation from whoever has the next secret alone. */
static const struct secret *proving_secret(const struct worker *worker,
                                           const struct record_change *change)
{
    struct volume_secrets *secrets = worker->secrets;

    if (!secrets)
        return NULL;
    return change->kind == RECORD_CHANGE_NEXT_HEADER || change->kind == RECORD_CHANGE_ROTATED
               ? &secrets->next
               : &secrets->own;
}

static bool prove(const struct worker *worker, const struct record_change *change,
                  const uint8_t *close_key, struct relay_question *out, struct error *err)
{
    enum proof_kind needed = proof_needed(worker->has_record ? &worker->record : NULL, change);

    *out = (struct relay_question){ .has_proof = needed != PROOF_NONE };
    if (needed == PROOF_NONE)
        return true;
    if (needed == PROOF_CLOSE)
        return close_key ? proof_by_close_key(close_key, change, out->proof, err)
                         : error_set(err, ERROR_INTERNAL, "this opening has no key for its end");
    const struct secret *secret = proving_secret(worker, change);
    if (!worker->has_record || !secret || secret->len == 0)
        return error_set(err, ERROR_INTERNAL,
                         "a change was to be recorded before the volume was "
                         "opened");
    out->expected_version = worker->record.version;
    return proof_by_secret(secret, &worker->record, out->expected_version, change, out->proof, err);
}

bool worker_ask_change(struct worker *worker, const struct record_change *change,
                       const uint8_t *close_key, struct record *record, struct error *err)
{
    static struct inquiry x;
    static struct record unused;

    x.question.kind = BLOCK_ASK_CHANGE;
    record_change_encode(change, &x.question.change);
    if (!prove(worker, change, close_key, &x.question.relay, err) ||
        !ask(worker, &x, change->kind, record ? record : &unused, err))
        return false;
    if (change->kind == RECORD_CHANGE_READY) {
        worker_set_end(worker->deadline_ms);
        limit_stage(worker);
    }
    if (change->kind == RECORD_CHANGE_ROTATED) {
        secret_wipe(&worker->secrets->own);
        worker->secrets->own = secret_take(&worker->secrets->next);
    }
    return true;
}
