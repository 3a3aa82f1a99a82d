/* SPDX-License-Identifier: Apache-2.0 */
#include "appraisal/appraisal.h"
#include "appraisal/note.h"
#include "attest/attester.h"
#include "attest/trust_root.h"
#include "base/clock.h"
#include "base/digest.h"
#include "base/file.h"
#include "base/log.h"
#include "blockd/operation.h"
#include "blockd/worker.h"

#include <linux/limits.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#define TEE "tdx" /* the one kind that there is an attester for */

/* For the broker's quote. A session may have to be made before it, which takes a quote of ours. */
#define EVIDENCE_MS      40000u
#define EVIDENCE_STEP_MS 20

/* --- what a broker shows of itself --- */

static bool not_shown(struct error *err)
{
    if (strcmp(err->reason, BROKER_EVIDENCE_REASON) == 0)
        return false;
    if (err->code != ERROR_CANCELLED && err->code != ERROR_FAILED_PRECONDITION)
        err->code = ERROR_UNAVAILABLE;
    error_wrap(err, "the broker must show what it runs (--broker-policy)");
    return error_reason(err, BROKER_EVIDENCE_REASON);
}

/* What the front says counts for nothing but an error's text: the quote is over our nonce. */
static bool ask_evidence(struct worker *worker, struct appraisal *a, struct broker_evidence *out,
                         struct error *err)
{
    static struct block_message question;
    static struct block_answer answer;
    const uint64_t deadline_ms = clock_now_ms() + EVIDENCE_MS;

    if (!block_may_ask((enum block_operation)worker->request->operation, BLOCK_ASK_EVIDENCE, 0,
                       &worker->asked))
        return error_set(err, ERROR_INTERNAL, "this operation has asked for evidence already");
    question.kind = BLOCK_ASK_EVIDENCE;
    memcpy(question.relay.nonce, a->nonce, ANSWER_NONCE_LEN);
    memcpy(question.broker_key_sha256, a->key_sha256, KEY_SHA256_LEN);
    if (!block_send_message(worker->front_fd, &question, err) ||
        !block_wait(worker->front_fd, deadline_ms, err) ||
        !block_receive_answer(worker->front_fd, &answer, err))
        return false;
    if (answer.ok)
        return block_receive_evidence(worker->front_fd, &answer.evidence, deadline_ms, out, err);
    *err = answer.err;
    if (err->code == ERROR_NONE)
        return error_set(err, ERROR_INTERNAL, "the front's answer has no reason");
    return error_reason(err, "");
}

static void take_views(const struct broker_evidence *evidence, struct appraisal *out)
{
    const struct broker_evidence_size *size = &evidence->size;
    const uint8_t *at = evidence->bytes;

    out->quote = (struct bytes_view){ at, size->quote };
    out->event_log = (struct bytes_view){ at + size->quote, size->event_log };
    out->collateral = (struct bytes_view){ at + size->quote + size->event_log, size->collateral };
}

/* Another image may have got the key of a broker that was good before. */
static void forget(const struct worker *worker, const struct appraisal_subject *subject,
                   const struct error *why)
{
    struct error problem = ERROR_INIT;

    if (why->code == ERROR_DENIED &&
        !appraisal_note_drop(worker->config->state_dir, subject, &problem))
        log_error("a broker's evidence from before still counts", ERROR_FIELDS(&problem));
}

static bool appraise(struct worker *worker, const struct appraisal_subject *subject,
                     struct error *err)
{
    const struct broker_demand *demand = &worker->config->demand;
    auto_broker_evidence struct broker_evidence evidence = { .bytes = NULL };
    struct appraisal a = { .policy = { (const uint8_t *)demand->policy, demand->policy_len },
                           .root = trust_root_default };
    char said[APPRAISAL_TEXT];

    memcpy(a.key_sha256, subject->key_sha256, KEY_SHA256_LEN);
    if (!random_bytes(a.nonce, sizeof(a.nonce), err) || !ask_evidence(worker, &a, &evidence, err))
        return false;
    const uint64_t now_ms = clock_boottime_ms();

    take_views(&evidence, &a);
    a.now = (int64_t)(clock_wall_ms() / 1000);
    if (!appraisal_judge_confined(&a, said, err)) {
        forget(worker, subject, err);
        return false;
    }
    if (!appraisal_note_write(worker->config->state_dir, subject, now_ms, err))
        return false;
    log_info("the broker has shown what it runs", TEXT("fits", said));
    return true;
}

static bool has_note(const struct worker *worker, const struct appraisal_subject *subject,
                     uint64_t younger_than_ms)
{
    uint64_t age_ms = 0;

    return appraisal_note_find(worker->config->state_dir, subject, clock_boottime_ms(), &age_ms) &&
           age_ms < younger_than_ms;
}

/* The others wait for the one that asks, and find its note. */
static bool wait_turn(const struct worker *worker, const struct appraisal_subject *subject,
                      uint64_t younger_than_ms, int *out_fd, struct error *err)
{
    const struct timespec step = { .tv_nsec = EVIDENCE_STEP_MS * 1000000L };
    const uint64_t deadline_ms = clock_now_ms() + EVIDENCE_MS;
    struct error busy = ERROR_INIT;

    while (!appraisal_lock(worker->config->state_dir, out_fd, &busy)) {
        if (busy.code != ERROR_ABORTED) {
            *err = busy;
            return false;
        }
        if (!worker_check(worker, err))
            return false;
        if (clock_now_ms() >= deadline_ms)
            return error_set(err, ERROR_UNAVAILABLE,
                             "another operation is waiting for its evidence");
        if (has_note(worker, subject, younger_than_ms))
            return true;
        (void)nanosleep(&step, NULL);
    }
    return true;
}

bool worker_demand_evidence(struct worker *worker, const uint8_t key_sha256[static KEY_SHA256_LEN],
                            bool is_early, struct error *err)
{
    const struct broker_demand *demand = &worker->config->demand;
    const uint64_t younger_than_ms = is_early ? APPRAISAL_RENEW_MS : APPRAISAL_GOOD_MS;
    struct appraisal_subject subject;
    auto_close int lock_fd = -1;

    if (!demand->policy)
        return true;
    memcpy(subject.key_sha256, key_sha256, KEY_SHA256_LEN);
    memcpy(subject.policy_sha256, demand->policy_sha256, SHA256_LEN);
    if (has_note(worker, &subject, younger_than_ms) ||
        (wait_turn(worker, &subject, younger_than_ms, &lock_fd, err) &&
         (has_note(worker, &subject, younger_than_ms) || appraise(worker, &subject, err))))
        return true;
    if (!has_note(worker, &subject, APPRAISAL_GOOD_MS))
        return not_shown(err);
    log_warning("the broker's evidence was not renewed: that from before is still good",
                ERROR_FIELDS(err));
    return true;
}

/* --- what this node shows to a broker --- */

static bool make_report_data(const struct worker *worker, uint8_t out[static REPORT_DATA_LEN],
                             struct error *err)
{
    const struct block_attest *asked = &worker->request->attest;
    struct binding binding;

    memcpy(binding.nonce, asked->nonce, BINDING_LEN);
    memcpy(binding.client_key_sha256, asked->client_key_sha256, BINDING_LEN);
    memcpy(binding.broker_key_sha256, asked->broker_key_sha256, BINDING_LEN);
    return sha256(worker->config->sealing.public_key, HPKE_PUBLIC_LEN, binding.sealing_key_sha256,
                  err) &&
           binding_report_data(&binding, out, err);
}

/* Only one request for a quote at a time. A request that hangs in the kernel cannot be killed, and
 * each further one would hang, too: in the end no worker would be left to close a volume. */
static bool hold_turn(const struct worker *worker, int *out_fd, struct error *err)
{
    char path[PATH_MAX];

    (void)snprintf(path, sizeof(path), "%s/quote", worker->config->state_dir);
    if (file_lock(path, false, out_fd, err))
        return true;
    err->code = ERROR_UNAVAILABLE;
    error_wrap(err, "another request for a quote is under way");
    return error_reason(err, ATTESTER_REASON);
}

/* The broker would refuse a log that leads to other values than the quote's; without one, only a
 * rule that wants it does. */
static bool send_event_log(const struct worker *worker, const struct evidence *evidence,
                           struct error *err)
{
    if (evidence->log_fault.code != ERROR_NONE) {
        log_warning("the event log is not sent", ERROR_FIELDS(&evidence->log_fault));
        return true;
    }
    return worker_data(worker, BLOCK_DATA_EVENT_LOG, evidence->event_log, evidence->event_log_len,
                       err);
}

/* With --broker-policy, no quote of this node is for a broker that has not shown its own. */
bool operation_attest(struct worker *worker, struct block_result *out, struct error *err)
{
    auto_evidence struct evidence evidence = { .quote = NULL };
    uint8_t report_data[REPORT_DATA_LEN];
    uint32_t left_ms = worker_left_ms(worker);
    const struct attester_options options = {
        .tsm_root = worker->config->tsm_root,
        .event_log = worker->config->event_log,
        .deadline_ms = left_ms ? clock_now_ms() + left_ms : 0,
    };
    const struct attester *attester = attester_find(TEE, err);
    auto_close int turn_fd = -1;

    if (!attester || !make_report_data(worker, report_data, err) ||
        !worker_demand_evidence(worker, worker->request->attest.broker_key_sha256, true, err) ||
        !hold_turn(worker, &turn_fd, err))
        return false;
    attester->sweep(&options); /* in the worker, because it hangs when configfs does */
    if (!attester->collect(&options, report_data, &evidence, err) ||
        !worker_data(worker, BLOCK_DATA_QUOTE, evidence.quote, evidence.quote_len, err) ||
        !send_event_log(worker, &evidence, err))
        return false;
    memcpy(out->sealing_public_key, worker->config->sealing.public_key, HPKE_PUBLIC_LEN);
    return true;
}
