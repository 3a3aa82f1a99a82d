/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "blockd/client.h"
#include "keys/keys.h"

/*
 * Between a worker and the broker, for one operation on one volume: opens its record when the
 * worker asks, has changes recorded, and knows the record's version in between.
 */
struct worker_answers {
    const struct keys *keys;
    const char *operation;
    const char *volume_id;
    bool read_only;
    bool has_record; /* record is as it was last seen */
    struct key_record record;
};

extern const struct block_hooks worker_answers_hooks; /* cookie: struct worker_answers */
