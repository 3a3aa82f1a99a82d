/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "blockd/request.h"

struct worker;

/* The operations of a worker, one per enum block_operation. Each may be repeated. */
typedef bool operation_fn(struct worker *worker, struct block_result *out, struct error *err);

/* stage.c */
operation_fn operation_stage, operation_unstage;
/* in_use.c */
operation_fn operation_expand, operation_rotate, operation_renew;
/* publish.c */
operation_fn operation_publish, operation_unpublish, operation_stats;
/* backing.c */
operation_fn operation_create, operation_delete, operation_copy, operation_resize,
    operation_capacity;
/* watch.c */
operation_fn operation_watch;
/* staged.c */
operation_fn operation_inspect;
/* front_socket.c */
operation_fn operation_socket, operation_unlink;
/* probe.c */
operation_fn operation_probe;
/* forward.c */
operation_fn operation_forward;
/* upstream_call.c */
operation_fn operation_upstream_read, operation_upstream_call;
/* space_device.c */
operation_fn operation_place, operation_unplace, operation_grown;
/* attest.c */
operation_fn operation_attest;
