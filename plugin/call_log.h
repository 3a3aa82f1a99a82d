/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "proto/dispatch.h"

/* One line in the log, and one observation in the metrics, for each call that the plugin served. */

/* An observer of struct server_options; the cookie is the struct metrics. */
void call_log_write(void *cookie, const struct rpc_call *call, const struct error *err,
                    uint64_t elapsed_ms);

/* How many calls there were. */
uint64_t call_log_count(void);
