/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "blockd/client.h"
#include "keys/keys.h"

/*
 * Answers what a worker asks during one operation on one volume: reads or opens its record, has
 * changes recorded, and knows the record's version in between.
 */
struct worker_answers {
    struct keys *keys;
    const char *operation;
    const char *volume_id;
    bool read_only;
    bool has_record; /* record is as it was last seen */
    struct record record;
};

extern const struct block_hooks worker_answers_hooks; /* cookie: struct worker_answers */
