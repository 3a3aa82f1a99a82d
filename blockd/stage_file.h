/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "base/error.h"
#include "crypt/volume.h"
#include "record/layout.h"
#include "record/proof.h"

#include <linux/limits.h>

/*
 * What is staged on this node, in small files in the state folder. The folder is a tmpfs, so the
 * files are gone after a boot, like the mappings themselves.
 *   <name>.lock    flock'ed by a worker for its whole life, and by the programs it started
 *   <name>.volume  struct stage_file
 *   <name>.lease   struct lease_file, while the volume's lease can be over
 * The kernel is the authority for what is mapped and mounted. These files add the names that the
 * kernel does not know, so that closing, finishing and listing need no broker. They also keep how a
 * volume ended while the broker is away.
 */
#define STAGE_FILE_VERSION   2
#define STAGE_FILE_FLAGS_MAX 4096

/* One opening for writing, which the broker has counted (OPENED). */
struct stage_opening {
    bool is_set;
    uint8_t record_id[RECORD_ID_LEN];
    uint64_t open_counter;            /* the record's */
    uint8_t close_key[CLOSE_KEY_LEN]; /* proves how it ended (record/proof.h) */
};

struct stage_file {
    uint32_t version;
    bool complete; /* false: a worker is staging it, or died while staging */
    bool read_only;
    char volume_id[VOLUME_ID_MAX + 1];
    char fs_type[FS_TYPE_MAX + 1];
    char staging_path[PATH_MAX]; /* "" for raw block */
    char mount_flags[STAGE_FILE_FLAGS_MAX];
    bool has_closing;                    /* false: read-only, or not complete */
    uint8_t closing[LAYOUT_STATE_BYTES]; /* what the close writes (struct volume_closing) */
    struct stage_opening opening;
    /* How the last opening ended. Only the broker's signed word takes this away: that it has the end
     * on record, that it has counted another opening since, or that the record is another one.
     * What the front says by itself does not. */
    struct stage_opening ended;
    struct volume_end end;
};
/* A file of another size counts as missing, and the volume is then adopted from what the kernel shows:
 * its close cannot be marked. So after the first release another size needs a new version, and code that
 * reads the old one. */
_Static_assert(sizeof(struct stage_file) == 12736, "the files have another size");
void stage_file_wipe(struct stage_file *staged);

/* A file of its own: it is written without the lock, while somebody works on the volume. */
#define LEASE_FILE_VERSION 1
struct lease_file {
    uint32_t version;
    uint64_t lease_ms;
    uint64_t until_ms; /* in clock_boottime_ms() time: from then on nothing may be written */
};
MUST_USE bool lease_file_read(const char *folder, const struct volume_name *name, bool *found,
                              struct lease_file *out, struct error *err);
/* Replaces the file; lease_ms 0: there shall be none. */
MUST_USE bool lease_file_write(const char *folder, const struct volume_name *name,
                               const struct lease_file *lease, struct error *err);
/* Whether the volume has a lease that is over. Also when the file cannot be read. */
bool lease_file_is_over(const char *folder, const struct volume_name *name);

/* *locked is false when another worker holds the lock. Programs that write to the volume end with
 * their worker (base/confine.h). */
MUST_USE bool stage_file_try_lock(const char *folder, const struct volume_name *name, bool *locked,
                                  int *out_fd, struct error *err);

/* Removes the lock's file when the volume is not staged. Call it before the lock is released. */
void stage_file_tidy_lock(const char *folder, const struct volume_name *name);

MUST_USE bool stage_file_read(const char *folder, const struct volume_name *name, bool *found,
                              struct stage_file *out, struct error *err);
MUST_USE bool stage_file_write(const char *folder, const struct volume_name *name,
                               const struct stage_file *staged, struct error *err);
/* Its lease file, too. */
MUST_USE bool stage_file_remove(const char *folder, const struct volume_name *name,
                                struct error *err);

/* Calls each() for every state file. Damaged ones are skipped. */
MUST_USE bool stage_file_each(const char *folder,
                              bool (*each)(void *cookie, const struct volume_name *name,
                                           const struct stage_file *staged, struct error *err),
                              void *cookie, struct error *err);

/* Call at start, before any worker. Waits (up to wait_ms) for workers and programs of a former
 * instance, then removes temporary files and locks that nobody holds. */
MUST_USE bool stage_file_reap(const char *folder, uint32_t wait_ms, struct error *err);
