/* SPDX-License-Identifier: Apache-2.0 */
#include "plugin/health.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* of_stage: a failed stage reports it, and a stage that succeeds shows that it is over. of_active:
 * only an active volume can have it. */
static const struct reason {
    const char *name;
    enum health_status status;
    bool of_stage, of_active;
} reasons[HEALTH_REASON_COUNT] = {
    [HEALTH_STAGE_FAILED] = { "StageFailed", HEALTH_INACCESSIBLE, .of_stage = true },
    [HEALTH_KEY_REFUSED] = { "KeyRefused", HEALTH_INACCESSIBLE, .of_stage = true },
    [HEALTH_BROKER_UNREACHABLE] = { "BrokerUnreachable", HEALTH_INACCESSIBLE, .of_stage = true },
    [HEALTH_HEADER_CHANGED] = { "HeaderChanged", HEALTH_DATA_LOSS, .of_stage = true },
    [HEALTH_ROLLED_BACK] = { "RolledBack", HEALTH_INACCESSIBLE, .of_stage = true },
    [HEALTH_WRONG_VOLUME] = { "WrongVolume", HEALTH_INACCESSIBLE, .of_stage = true },
    [HEALTH_MAP_CHANGED] = { "MapChanged", HEALTH_DATA_LOSS, .of_stage = true },
    [HEALTH_MAP_FAILED] = { "MapFailed", HEALTH_INACCESSIBLE },
    [HEALTH_DEVICE_GONE] = { "DeviceGone", HEALTH_INACCESSIBLE, .of_stage = true },
    [HEALTH_LEASE_LOST] = { LEASE_LOST_REASON, HEALTH_INACCESSIBLE, .of_stage = true },
    [HEALTH_INTEGRITY_ERRORS] = { "IntegrityErrors", HEALTH_DATA_LOSS },
    [HEALTH_OVERLAY_FULL] = { "OverlayFull", HEALTH_INACCESSIBLE, .of_active = true },
    [HEALTH_FILE_SYSTEM_SHUT_DOWN] = { "FileSystemShutDown", HEALTH_INACCESSIBLE,
                                       .of_stage = true },
    [HEALTH_FILE_SYSTEM_READ_ONLY] = { "FileSystemReadOnly", HEALTH_DEGRADED, .of_stage = true },
    [HEALTH_WRITES_FAILED] = { "WritesFailed", HEALTH_DATA_LOSS },
    [HEALTH_CLOSE_NOT_MARKED] = { "CloseNotMarked", HEALTH_DEGRADED },
    [HEALTH_CLOSE_NOT_RECORDED] = { "CloseNotRecorded", HEALTH_DEGRADED },
};

struct note {
    bool is_set;
    enum health_status status;
    char message[sizeof(((struct health_entry *)0)->message)];
};

struct volume {
    struct volume *next; /* in the order of ids */
    char id[VOLUME_ID_MAX + 1];
    uint64_t integrity_errors;
    struct note notes[HEALTH_REASON_COUNT];
};

struct health {
    pthread_mutex_t lock;
    struct volume *volumes;
};

bool health_new(struct health **out, struct error *err)
{
    struct health *health = calloc(1, sizeof(*health));

    if (!health)
        return error_set(err, ERROR_RESOURCE_EXHAUSTED, "no memory for the health of volumes");
    pthread_mutex_init(&health->lock, NULL);
    *out = health;
    return true;
}

void health_free(struct health *health)
{
    if (!health)
        return;
    while (health->volumes) {
        struct volume *volume = health->volumes;

        health->volumes = volume->next;
        free(volume);
    }
    pthread_mutex_destroy(&health->lock);
    free(health);
}

const char *health_reason_name(enum health_reason reason)
{
    return reasons[reason].name;
}

/* The link that points to the volume, or to the place where it belongs. The caller holds the lock,
 * here and down to set_note(). */
static struct volume **find_link(struct health *health, const char *volume_id)
{
    struct volume **link = &health->volumes;

    while (*link && strcmp((*link)->id, volume_id) < 0)
        link = &(*link)->next;
    return link;
}

static struct volume *find(struct health *health, const char *volume_id)
{
    struct volume *volume = *find_link(health, volume_id);

    return volume && strcmp(volume->id, volume_id) == 0 ? volume : NULL;
}

static struct volume *find_or_add(struct health *health, const char *volume_id)
{
    struct volume **link = find_link(health, volume_id);

    if (*link && strcmp((*link)->id, volume_id) == 0)
        return *link;
    struct volume *volume = calloc(1, sizeof(*volume));
    if (!volume)
        return NULL;
    (void)snprintf(volume->id, sizeof(volume->id), "%s", volume_id);
    volume->next = *link;
    *link = volume;
    return volume;
}

static bool has_nothing(const struct volume *volume)
{
    for (size_t i = 0; i < HEALTH_REASON_COUNT; i++)
        if (volume->notes[i].is_set)
            return false;
    return volume->integrity_errors == 0;
}

static void drop_if_empty(struct health *health, const char *volume_id)
{
    struct volume **link = find_link(health, volume_id);
    struct volume *volume = *link;

    if (!volume || strcmp(volume->id, volume_id) != 0 || !has_nothing(volume))
        return;
    *link = volume->next;
    free(volume);
}

static void set_note(struct volume *volume, enum health_reason reason, enum health_status status,
                     const char *message)
{
    struct note *note = &volume->notes[reason];

    note->is_set = true;
    note->status = status;
    (void)snprintf(note->message, sizeof(note->message), "%.*s", (int)sizeof(note->message) - 1,
                   message);
}

void health_note(struct health *health, const char *volume_id, enum health_reason reason,
                 const char *message)
{
    pthread_mutex_lock(&health->lock);
    struct volume *volume = find_or_add(health, volume_id);

    if (volume)
        set_note(volume, reason, reasons[reason].status, message);
    pthread_mutex_unlock(&health->lock);
}

/* Clears the notes whose reason is wanted. */
static void clear_where(struct health *health, const char *volume_id,
                        bool (*wanted)(const struct reason *reason))
{
    pthread_mutex_lock(&health->lock);
    struct volume *volume = find(health, volume_id);

    for (size_t i = 0; volume && i < HEALTH_REASON_COUNT; i++)
        if (wanted(&reasons[i]))
            volume->notes[i].is_set = false;
    drop_if_empty(health, volume_id);
    pthread_mutex_unlock(&health->lock);
}

void health_clear(struct health *health, const char *volume_id, enum health_reason reason)
{
    pthread_mutex_lock(&health->lock);
    struct volume *volume = find(health, volume_id);

    if (volume)
        volume->notes[reason].is_set = false;
    drop_if_empty(health, volume_id);
    pthread_mutex_unlock(&health->lock);
}

static bool is_of_stage(const struct reason *reason)
{
    return reason->of_stage;
}

static bool is_of_stage_or_active(const struct reason *reason)
{
    return reason->of_stage || reason->of_active;
}

static bool is_any(const struct reason *reason UNUSED)
{
    return true;
}

/* HEALTH_REASON_COUNT when the error says nothing about the volume. */
static enum health_reason reason_of(const struct error *err)
{
    for (size_t i = 0; i < HEALTH_REASON_COUNT; i++)
        if (strcmp(reasons[i].name, err->reason) == 0)
            return (enum health_reason)i;
    if (err->reason[0] != '\0') /* a refusal with a name is about the volume, too */
        return HEALTH_STAGE_FAILED;
    switch (err->code) {
    case ERROR_DENIED:
    case ERROR_UNAUTHENTICATED:
        return HEALTH_KEY_REFUSED;
    case ERROR_RESOURCE_EXHAUSTED:
    case ERROR_UNAVAILABLE:
    case ERROR_DEADLINE_EXCEEDED:
    case ERROR_DATA_LOSS:
    case ERROR_INTERNAL:
        return HEALTH_STAGE_FAILED;
    case ERROR_NONE:
    case ERROR_INVALID_ARGUMENT:
    case ERROR_NOT_FOUND:
    case ERROR_ALREADY_EXISTS:
    case ERROR_FAILED_PRECONDITION:
    case ERROR_ABORTED:
    case ERROR_OUT_OF_RANGE:
    case ERROR_UNIMPLEMENTED:
    case ERROR_CANCELLED:
    case ERROR_CODE_COUNT:
    default:
        return HEALTH_REASON_COUNT;
    }
}

void health_stage_failed(struct health *health, const char *volume_id, const struct error *err)
{
    enum health_reason reason = reason_of(err);

    if (reason == HEALTH_REASON_COUNT)
        return;
    clear_where(health, volume_id, is_of_stage);
    pthread_mutex_lock(&health->lock);
    struct volume *volume = find_or_add(health, volume_id);

    if (volume)
        set_note(volume, reason,
                 err->code == ERROR_DATA_LOSS ? HEALTH_DATA_LOSS : reasons[reason].status,
                 err->text);
    pthread_mutex_unlock(&health->lock);
}

void health_staged(struct health *health, const char *volume_id, bool fresh)
{
    clear_where(health, volume_id, fresh ? is_any : is_of_stage);
}

void health_unstaged(struct health *health, const char *volume_id)
{
    clear_where(health, volume_id, is_of_stage_or_active);
}

void health_forget(struct health *health, const char *volume_id)
{
    pthread_mutex_lock(&health->lock);
    struct volume **link = find_link(health, volume_id);

    if (*link && strcmp((*link)->id, volume_id) == 0) {
        struct volume *volume = *link;

        *link = volume->next;
        free(volume);
    }
    pthread_mutex_unlock(&health->lock);
}

void health_integrity_errors(struct health *health, const char *volume_id, uint64_t count)
{
    char message[128];

    pthread_mutex_lock(&health->lock);
    struct volume *volume = find_or_add(health, volume_id);

    if (volume) {
        volume->integrity_errors += count;
        (void)snprintf(message, sizeof(message),
                       "%" PRIu64 " reads failed their authentication: the stored data was changed",
                       volume->integrity_errors);
        set_note(volume, HEALTH_INTEGRITY_ERRORS, HEALTH_DATA_LOSS, message);
    }
    pthread_mutex_unlock(&health->lock);
}

static void report(const struct volume *volume, struct health_report *out)
{
    *out = (struct health_report){ .n = 0 };
    (void)snprintf(out->volume_id, sizeof(out->volume_id), "%s", volume->id);
    out->integrity_errors = volume->integrity_errors;
    for (size_t i = 0; i < HEALTH_REASON_COUNT; i++) {
        const struct note *note = &volume->notes[i];

        if (!note->is_set)
            continue;
        struct health_entry *entry = &out->entries[out->n++];
        entry->status = note->status;
        entry->reason = reasons[i].name;
        memcpy(entry->message, note->message, sizeof(entry->message));
    }
}

void health_get(struct health *health, const char *volume_id, struct health_report *out)
{
    *out = (struct health_report){ .n = 0 };
    (void)snprintf(out->volume_id, sizeof(out->volume_id), "%s", volume_id);
    pthread_mutex_lock(&health->lock);
    const struct volume *volume = find(health, volume_id);

    if (volume)
        report(volume, out);
    pthread_mutex_unlock(&health->lock);
}

bool health_next(struct health *health, const char *after_id, struct health_report *out)
{
    pthread_mutex_lock(&health->lock);
    const struct volume *volume = health->volumes;

    while (volume && strcmp(volume->id, after_id) <= 0)
        volume = volume->next;
    if (volume)
        report(volume, out);
    pthread_mutex_unlock(&health->lock);
    return volume != NULL;
}
