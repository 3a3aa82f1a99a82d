/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "blockd/client.h"
#include "keys/keys.h"

/*
 * Answers a worker's questions during one operation on one volume: reads or opens the volume's
 * record, sends changes of it to the broker, and keeps the record's version between the questions.
 */
struct worker_answers {
    struct keys *keys;
    const char *operation;
    const char *volume_id;
    bool read_only;
    bool renews;     /* a question for the record renews the lease */
    bool has_record; /* record is as the broker last sent it */
    struct record record;
};

extern const struct block_hooks worker_answers_hooks; /* cookie: struct worker_answers */
