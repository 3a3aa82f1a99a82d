/* SPDX-License-Identifier: Apache-2.0 */
#include "crypt/recovery.h"

#include "crypt/staged.h"

struct recovery {
    const struct worker_config *config;
    struct error last; /* one volume in trouble does not keep the others waiting */
};

static bool recover(const struct volume_name *name, struct error *err)
{
    struct volume_device device;
    uint8_t unused[SHA256_LEN];
    bool found = false, has_hash = false;
    if (!volume_find(name, &found, &device, err))
        return false;
    return found ? volume_resume(name, err) : volume_deactivate(name, &has_hash, unused, err);
}

static bool recover_one(void *cookie, const struct volume_name *name,
                        const struct staged *staged UNUSED, struct error *err)
{
    struct recovery *recovery = cookie;
    auto_close int lock_fd = -1;
    bool locked = false;
    if (!staged_try_lock(recovery->config->state_dir, name, &locked, &lock_fd, err))
        return false;
    if (locked && !recover(name, &recovery->last))
        error_wrap(&recovery->last, "%s", name->text);
    return true;
}

bool recovery_run(const struct worker_config *config, struct error *err)
{
    struct recovery recovery = { .config = config, .last = ERROR_INIT };
    if (!staged_each(config->state_dir, recover_one, &recovery, err))
        return false;
    if (recovery.last.code == ERROR_NONE)
        return true;
    *err = recovery.last;
    return false;
}
