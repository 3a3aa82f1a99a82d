/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "base/error.h"

#include <grpc/grpc.h>

/* One unary call of gRPC as it goes on: link.c starts it, client.c fills it in and reads it. */
enum { EXCHANGE_ANSWER_BYTES = 16 * 1024 * 1024 /* a page of a listing */ };

struct exchange {
    grpc_completion_queue *events;
    grpc_call *call;
    grpc_byte_buffer *request, *answer;
    grpc_metadata_array initial, trailing;
    grpc_slice text;
    grpc_status_code status;
};

/* Makes the queue; the call is set by exchange_call(). The exchange owns request; NULL: empty. */
MUST_USE struct exchange exchange_begin(grpc_byte_buffer *request);
void exchange_call(struct exchange *x, grpc_channel *channel, const char *path,
                   gpr_timespec deadline);
/* Returns when the call has ended, at the latest at its deadline. False: gRPC refuses it. */
MUST_USE bool exchange_run(struct exchange *x);
void exchange_end(struct exchange *x);
#define auto_exchange CLEANUP(exchange_end)

/* The status that is not OK, as an error. */
void exchange_explain(const struct exchange *x, const char *path, struct error *err);
