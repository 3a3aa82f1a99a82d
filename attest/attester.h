/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "attest/quote.h"
#include "base/error.h"

#include <stddef.h>
#include <stdint.h>

/*
 * Evidence about the machine that this process runs in: a quote over 64 bytes that the caller
 * chooses, and the event log. Each kind of TEE has one row of ops (the table is in attester.c).
 * Needs root. Slow: a TD makes about one quote per second, one after the other.
 */
#define ATTESTER_TSM_ROOT      "/sys/kernel/config/tsm/report"
#define ATTESTER_CCEL_PATH     "/sys/firmware/acpi/tables/data/CCEL"
#define ATTESTER_EVENT_LOG_MAX (1024u * 1024)
#define ATTESTER_REASON        "QuoteUnavailable"

struct attester_options {
    const char *tsm_root;  /* NULL: ATTESTER_TSM_ROOT */
    const char *event_log; /* NULL: ATTESTER_CCEL_PATH; a missing file is no error */
    uint64_t deadline_ms;  /* clock_now_ms() scale; 0: a minute from now */
};

/* Owned; release with evidence_free. */
struct evidence {
    uint8_t *quote;
    size_t quote_len;
    uint8_t *event_log; /* NULL when there is none */
    size_t event_log_len;
    struct error log_fault; /* why the log does not fit the quote; ERROR_NONE when it does */
};
void evidence_free(struct evidence *evidence);
#define auto_evidence CLEANUP(evidence_free)

struct attester {
    const char *name; /* the kind of TEE, as in AttestRequest.tee */
    /* Fails with the reason QuoteUnavailable: as UNAVAILABLE when a later try may succeed (busy,
     * timed out), as FAILED_PRECONDITION when this machine cannot make quotes (no TD, no configfs).
     * A quote in *out was parsed, has the wanted REPORTDATA, and is not from a debug TD. */
    MUST_USE bool (*collect)(const struct attester_options *options,
                             const uint8_t report_data[static REPORT_DATA_LEN],
                             struct evidence *out, struct error *err);
    /* Removes the folders that crashed tdvol processes left in tsm_root, and no other folders. */
    void (*sweep)(const struct attester_options *options);
};

/* Linux configfs-tsm: the kernel's Documentation/ABI/testing/configfs-tsm-report. */
extern const struct attester attester_tdx;

/* NULL with INVALID_ARGUMENT for an unknown name; the error lists the known names. */
const struct attester *attester_find(const char *name, struct error *err);
