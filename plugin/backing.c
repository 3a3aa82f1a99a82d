/* SPDX-License-Identifier: Apache-2.0 */
#include "plugin/backing.h"

#include "base/clock.h"

#include <string.h>

static const struct backing *const backings[] = { &backing_local, &backing_stacked };

const struct backing *backing_find(const char *name)
{
    for (size_t i = 0; i < ARRAY_LEN(backings); i++)
        if (strcmp(backings[i]->name, name) == 0)
            return backings[i];
    return NULL;
}

bool backing_run(const struct backing_job *job, struct block_request *request, uint64_t limit_ms,
                 struct block_result *out, struct error *err)
{
    const struct block_run run = { .operation = job->operation, .request = request };

    if (!request)
        return arena_exhausted(err);
    request->deadline_ms = clock_now_ms() + limit_ms;
    return job->workers->run(job->workers->cookie, &run, out, err);
}

bool backing_is_reserved(const struct volume_spec *spec)
{
    return spec->provisioning == PROVISIONING_THICK && !spec->discard;
}
