/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "attest/identity.h"
#include "base/digest.h"

/*
 * Which brokers have shown good evidence, by the key with which they sign: a file of the state folder,
 * which only root can open. A note is good for this boot, for the policy that it was made by, and for
 * an hour: then software that was exchanged, and rules and collateral that have ended, are noticed.
 * A replica with another key, and a broker with a new one, has a note of its own.
 */
#define APPRAISAL_NOTES_MAX 16 /* then the oldest one goes */
#define APPRAISAL_GOOD_MS   (UINT64_C(3600) * 1000)
#define APPRAISAL_RENEW_MS \
    (APPRAISAL_GOOD_MS / 2) /* a note that is older can be made again early */

struct appraisal_subject {
    uint8_t key_sha256[KEY_SHA256_LEN], policy_sha256[SHA256_LEN];
};

/* now_ms: clock_boottime_ms(). True: there is a note that is good; *age_ms is its age. What cannot be read
 * is no note. */
bool appraisal_note_find(const char *folder, const struct appraisal_subject *subject,
                         uint64_t now_ms, uint64_t *age_ms);

/* The caller holds appraisal_lock(). */
MUST_USE bool appraisal_note_write(const char *folder, const struct appraisal_subject *subject,
                                   uint64_t now_ms, struct error *err);

/* It has shown something that was refused. The caller holds appraisal_lock(). */
MUST_USE bool appraisal_note_drop(const char *folder, const struct appraisal_subject *subject,
                                  struct error *err);

/* One worker at a time asks for evidence: a TD makes one quote a second, and the others find the note.
 * ABORTED when another one holds it. */
MUST_USE bool appraisal_lock(const char *folder, int *out_fd, struct error *err);
