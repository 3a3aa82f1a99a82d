/* SPDX-License-Identifier: Apache-2.0 */
#include "appraisal/note.h"

#include "base/fault.h"
#include "base/file.h"
#include "base/uuid.h"

#include <limits.h>
#include <stdio.h>
#include <string.h>

#define VERSION    1u
#define NOTES_FILE "brokers.noted"
#define LOCK_FILE  "brokers.turn"

struct appraisal_note {
    struct appraisal_subject subject;
    uint64_t noted_ms; /* in clock_boottime_ms() time; 0: this row is free */
};

struct appraisal_notes {
    uint32_t version;
    char boot_id[BOOT_ID_LEN];
    struct appraisal_note rows[APPRAISAL_NOTES_MAX];
};

static bool make_path(const char *folder, const char *name, char out[static PATH_MAX],
                      struct error *err)
{
    int n = snprintf(out, PATH_MAX, "%s/%s", folder, name);

    return (n > 0 && n < PATH_MAX) ||
           error_set(err, ERROR_INVALID_ARGUMENT, "state folder: path is too long");
}

/* A file of another version, or of another boot, counts as none. */
static void read_notes(const char *folder, struct appraisal_notes *out)
{
    struct error ignored = ERROR_INIT;
    char path[PATH_MAX], boot_id[BOOT_ID_LEN] = "";
    auto_free char *bytes = NULL;
    size_t len = 0;

    boot_id_text(boot_id);
    if (make_path(folder, NOTES_FILE, path, &ignored) &&
        file_read(path, sizeof(*out), &bytes, &len, &ignored) && len == sizeof(*out)) {
        memcpy(out, bytes, sizeof(*out));
        if (out->version == VERSION && memcmp(out->boot_id, boot_id, sizeof(boot_id)) == 0)
            return;
    }
    *out = (struct appraisal_notes){ .version = VERSION };
    memcpy(out->boot_id, boot_id, sizeof(boot_id));
}

static bool is_about(const struct appraisal_note *note, const struct appraisal_subject *subject)
{
    return note->noted_ms > 0 && memcmp(&note->subject, subject, sizeof(*subject)) == 0;
}

bool appraisal_note_find(const char *folder, const struct appraisal_subject *subject,
                         uint64_t now_ms, uint64_t *age_ms)
{
    struct appraisal_notes notes;

    read_notes(folder, &notes);
    for (size_t i = 0; i < APPRAISAL_NOTES_MAX; i++) {
        const struct appraisal_note *note = &notes.rows[i];

        if (!is_about(note, subject) || note->noted_ms > now_ms ||
            now_ms - note->noted_ms >= APPRAISAL_GOOD_MS)
            continue;
        *age_ms = now_ms - note->noted_ms;
        return true;
    }
    return false;
}

/* The row of this subject, else a free one, else the oldest. */
static struct appraisal_note *find_row(struct appraisal_notes *notes,
                                       const struct appraisal_subject *subject)
{
    struct appraisal_note *oldest = &notes->rows[0];

    for (size_t i = 0; i < APPRAISAL_NOTES_MAX; i++) {
        if (is_about(&notes->rows[i], subject))
            return &notes->rows[i];
        if (notes->rows[i].noted_ms < oldest->noted_ms)
            oldest = &notes->rows[i];
    }
    return oldest;
}

static bool write_notes(const char *folder, const struct appraisal_notes *notes, struct error *err)
{
    char path[PATH_MAX];

    return (make_path(folder, NOTES_FILE, path, err) &&
            file_write(path, 0600, notes, sizeof(*notes), err)) ||
           error_wrap(err, "note the broker's evidence");
}

bool appraisal_note_write(const char *folder, const struct appraisal_subject *subject,
                          uint64_t now_ms, struct error *err)
{
    struct appraisal_notes notes;

    read_notes(folder, &notes);
    *find_row(&notes, subject) = (struct appraisal_note){ *subject, now_ms };
    FAULT_POINT("appraisal.note.before");
    if (!write_notes(folder, &notes, err))
        return false;
    FAULT_POINT("appraisal.note.after");
    return true;
}

bool appraisal_note_drop(const char *folder, const struct appraisal_subject *subject,
                         struct error *err)
{
    struct appraisal_notes notes;

    read_notes(folder, &notes);
    struct appraisal_note *row = find_row(&notes, subject);

    if (!is_about(row, subject))
        return true;
    *row = (struct appraisal_note){ .noted_ms = 0 };
    return write_notes(folder, &notes, err);
}

bool appraisal_lock(const char *folder, int *out_fd, struct error *err)
{
    char path[PATH_MAX];

    return make_path(folder, LOCK_FILE, path, err) && file_lock(path, false, out_fd, err);
}
