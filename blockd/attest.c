/* SPDX-License-Identifier: Apache-2.0 */
#include "attest/attester.h"
#include "base/clock.h"
#include "base/digest.h"
#include "base/file.h"
#include "base/log.h"
#include "blockd/operation.h"
#include "blockd/worker.h"

#include <linux/limits.h>
#include <stdio.h>
#include <string.h>

#define TEE "tdx" /* the one kind that there is an attester for */

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
