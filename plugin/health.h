/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "base/error.h"
#include "record/record.h"

#include <stdint.h>

/*
 * What is known about the state of each volume, in the words that CSI volume health, metrics and
 * log share. Kept in memory only: after a restart, the kernel and the next stage report it again.
 * Thread-safe.
 */
enum health_status { HEALTH_DEGRADED = 1, HEALTH_INACCESSIBLE, HEALTH_DATA_LOSS }; /* as in CSI */

enum health_reason {
    HEALTH_STAGE_FAILED, /* "StageFailed": for a cause that has no reason of its own */
    HEALTH_KEY_REFUSED,
    HEALTH_BROKER_UNREACHABLE,
    HEALTH_HEADER_CHANGED,
    HEALTH_ROLLED_BACK,
    HEALTH_WRONG_VOLUME,
    HEALTH_MAP_CHANGED,
    HEALTH_MAP_FAILED,
    HEALTH_DEVICE_GONE,
    HEALTH_LEASE_LOST,
    HEALTH_INTEGRITY_ERRORS,
    HEALTH_OVERLAY_FULL,
    HEALTH_FILE_SYSTEM_SHUT_DOWN,
    HEALTH_FILE_SYSTEM_READ_ONLY,
    HEALTH_WRITES_FAILED,
    HEALTH_CLOSE_NOT_MARKED,
    HEALTH_CLOSE_NOT_RECORDED,
    HEALTH_REASON_COUNT
};

struct health_entry {
    enum health_status status;
    const char *reason; /* "RolledBack" */
    char message[256];
};

/* All that is known about one volume. */
struct health_report {
    char volume_id[VOLUME_ID_MAX + 1];
    struct health_entry entries[HEALTH_REASON_COUNT];
    size_t n;
    uint64_t integrity_errors; /* since the plugin started */
};

struct health;
MUST_USE bool health_new(struct health **out, struct error *err);
void health_free(struct health *health);

const char *health_reason_name(enum health_reason reason);

/* Adds or replaces the note for one reason. Best effort: the note is lost when there is no memory.
 * */
void health_note(struct health *health, const char *volume_id, enum health_reason reason,
                 const char *message);

/* A stage failed: its reason replaces that of an earlier failed stage. ABORTED ("retry") and wrong
 * requests say nothing about the volume: they change nothing. */
void health_stage_failed(struct health *health, const char *volume_id, const struct error *err);
/* A stage or publish succeeded. fresh: the stage activated the volume, and all earlier notes are
 * cleared. Otherwise the volume was active already, and only the notes of failed stages are
 * cleared, among them those of a file system that was mounted again. */
void health_staged(struct health *health, const char *volume_id, bool fresh);
/* The volume was unstaged: clears the notes of failed stages, and those that only an active volume
 * can have. */
void health_unstaged(struct health *health, const char *volume_id);
/* The volume was deleted: forgets all about it. */
void health_forget(struct health *health, const char *volume_id);

void health_integrity_errors(struct health *health, const char *volume_id, uint64_t count);

/* Takes the note for one reason back. */
void health_clear(struct health *health, const char *volume_id, enum health_reason reason);

/* A volume about which nothing is known is healthy: n is 0. */
void health_get(struct health *health, const char *volume_id, struct health_report *out);

/* The first volume after this id (in the order of ids) about which anything is known. */
bool health_next(struct health *health, const char *after_id, struct health_report *out);
