/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "base/error.h"

#include <stdint.h>

/*
 * Copies that the driver below was asked for, and that have no record yet. A repeated request finds the
 * copy of the first one by its name, but the source may have changed since: its record would then say
 * of the copy what is not true of it. So the record is asked for with the version that the source had
 * at the first attempt, and the broker refuses when it has another one now. Thread-safe.
 *
 * It knows the latest ATTEMPTS_MAX, and none from before the process started.
 */
#define ATTEMPTS_MAX 256

enum attempt_kind { ATTEMPT_VOLUME = 1, ATTEMPT_SNAPSHOT, ATTEMPT_GROUP };

/* What is copied, and the CSI name of the copy. */
struct copy_attempt {
    enum attempt_kind kind;
    const char *name, *source_id;
};

struct attempts;
MUST_USE bool attempts_new(struct attempts **out, struct error *err);
void attempts_free(struct attempts *attempts); /* NULL is allowed */

/* Before the driver is asked. source_version: now. Returns that of the first attempt. */
uint64_t attempts_begin(struct attempts *attempts, const struct copy_attempt *attempt,
                        uint64_t source_version);

/* There is a record, or nothing is left of the copy. */
void attempts_end(struct attempts *attempts, const struct copy_attempt *attempt);
