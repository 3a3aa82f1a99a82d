/* SPDX-License-Identifier: Apache-2.0 */
#include "plugin/backing.h"

#include <stdio.h>

/* Copies and reserved space take long on a slow disk. The work goes on after its caller has gone.
 * */
#define LONG_MS (30u * 60 * 1000)

static bool local_remove(const struct backing_job *job, const char *id, struct error *err)
{
    struct block_request *request = block_request_new(job->arena, BLOCK_DELETE, id);
    struct block_result result;

    return backing_run(job, request, BACKING_SHORT_MS, &result, err);
}

static bool make(const struct backing_job *job, struct block_request *request, bool *is_fresh,
                 struct error *err)
{
    struct block_result result = { .already = false };

    if (backing_run(job, request, LONG_MS, &result, err)) {
        *is_fresh = !result.already;
        return true;
    }
    *is_fresh = false;
    return err->code == ERROR_ALREADY_EXISTS;
}

/* A file without a record is left over from a call that died. Its content is unknown, so the file
 * is made again. */
static bool make_fresh(const struct backing_job *job, struct block_request *request, const char *id,
                       struct error *err)
{
    struct error first = ERROR_INIT;
    bool is_fresh = false;

    if (!make(job, request, &is_fresh, &first)) {
        *err = first;
        return false;
    }
    if (is_fresh)
        return true;
    if (!local_remove(job, id, err))
        return error_wrap(err, "remove what an earlier call left");
    if (!make(job, request, &is_fresh, err))
        return false;
    return is_fresh || error_set(err, ERROR_ABORTED, "another call is making %s; retry", id);
}

static bool local_create(const struct backing_job *job, const char *id, uint64_t size_bytes,
                         bool reserve, struct error *err)
{
    struct block_request *request = block_request_new(job->arena, BLOCK_CREATE, id);

    if (!request)
        return arena_exhausted(err);
    request->size_bytes = size_bytes;
    request->reserve = reserve;
    return make_fresh(job, request, id, err);
}

static bool local_copy(const struct backing_job *job, const char *from, const char *id,
                       bool reserve, struct error *err)
{
    struct block_request *request = block_request_new(job->arena, BLOCK_COPY, from);

    if (!request)
        return arena_exhausted(err);
    (void)snprintf(request->copy_id, sizeof(request->copy_id), "%s", id);
    request->reserve = reserve;
    return make_fresh(job, request, id, err);
}

static bool local_grow(const struct backing_job *job, const char *id, uint64_t size_bytes,
                       bool reserve, struct error *err)
{
    struct block_request *request = block_request_new(job->arena, BLOCK_RESIZE, id);
    struct block_result result;

    if (!request)
        return arena_exhausted(err);
    request->size_bytes = size_bytes;
    request->reserve = reserve;
    return backing_run(job, request, LONG_MS, &result, err);
}

static bool local_capacity(const struct backing_job *job, struct backing_capacity *out,
                           struct error *err)
{
    struct block_request *request = block_request_new(job->arena, BLOCK_CAPACITY, "");
    struct block_result result = { .size_bytes = 0 };

    if (!backing_run(job, request, BACKING_SHORT_MS, &result, err))
        return false;
    *out = (struct backing_capacity){ result.size_bytes, result.is_empty };
    return true;
}

const struct backing backing_local = {
    .name = "local",
    .kind = BACKING_FILE,
    .create = local_create,
    .remove = local_remove,
    .copy = local_copy,
    .grow = local_grow,
    .capacity = local_capacity,
};
