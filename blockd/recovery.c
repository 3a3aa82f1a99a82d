/* SPDX-License-Identifier: Apache-2.0 */
#include "blockd/recovery.h"

#include "blockd/space.h"
#include "blockd/staged.h"

struct recovery {
    const struct worker_config *config;
    const struct space *space; /* the kind of space whose half-made rests are being removed */
    struct error last;         /* a volume that fails does not stop the others */
};

static bool has_lease(const struct recovery *recovery, const struct volume_name *name)
{
    struct lease_file lease;
    struct error ignored = ERROR_INIT;
    bool found = false;

    return !lease_file_read(recovery->config->state_dir, name, &found, &lease, &ignored) || found;
}

/* Without an exposed device, the volume was being opened or closed. Its end stays in the file. */
static bool recover(const struct recovery *recovery, const struct volume_name *name,
                    struct error *err)
{
    static struct stage_view view;
    bool surely = false;

    if (!stage_file_read(recovery->config->state_dir, name, &view.known, &view.state, err) ||
        !volume_find(name, &view.found, &view.device, err))
        return false;
    /* Its device went away while nobody watched: the key and the device's number are let go. */
    if (volume_raw_is_gone(name, &surely) && surely && !volume_fail(name, err))
        return false;
    /* Nobody watches over the lease of a volume that was never staged completely. */
    if (view.found && has_lease(recovery, name) && !(view.known && view.state.complete))
        return volume_fail(name, err);
    /* It was stopped, or was to be: the watcher goes on with that, and a renewal lets the volume go on. */
    if (view.found && lease_file_is_over(recovery->config->state_dir, name))
        return true;
    return view.found ? volume_resume(name, err)
                      : staged_end(recovery->config->state_dir, name, &view, err);
}

static bool recover_one(void *cookie, const struct volume_name *name,
                        const struct stage_file *staged UNUSED, struct error *err)
{
    struct recovery *recovery = cookie;
    auto_close int lock_fd = -1;
    bool locked = false;

    if (!stage_file_try_lock(recovery->config->state_dir, name, &locked, &lock_fd, err))
        return false;
    if (locked && !recover(recovery, name, &recovery->last))
        error_wrap(&recovery->last, "%s", name->text);
    return true;
}

static bool remove_rest(void *cookie, const char *volume_id, struct error *err)
{
    struct recovery *recovery = cookie;
    const char *state_dir = recovery->config->state_dir;
    struct volume_name name;
    auto_close int lock_fd = -1;
    bool locked = false;

    if (!volume_name_make(recovery->config->driver, volume_id, &name, err) ||
        !stage_file_try_lock(state_dir, &name, &locked, &lock_fd, err))
        return false;
    if (!locked)
        return true;
    if (!recovery->space->remove_rest(recovery->config, volume_id, &recovery->last))
        error_wrap(&recovery->last, "%s", volume_id);
    stage_file_tidy_lock(state_dir, &name);
    return true;
}

bool recovery_run(const struct worker_config *config, struct error *err)
{
    struct recovery recovery = { .config = config, .last = ERROR_INIT };

    if (!stage_file_each(config->state_dir, recover_one, &recovery, err))
        return false;
    for (size_t i = 0; (recovery.space = space_at(i)); i++) {
        if (!recovery.space->each_rest(config, remove_rest, &recovery, err))
            return false;
    }
    if (recovery.last.code == ERROR_NONE)
        return true;
    *err = recovery.last;
    return false;
}
