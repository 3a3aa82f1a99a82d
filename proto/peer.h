/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "proto/dispatch.h"

#include <grpc/grpc.h>

/*
 * What gRPC knows of the other end of a call, and the reason that travels with a status. Only
 * server.c and client.c include it.
 */

/* The certificate of the other end, copied into the arena. */
MUST_USE bool peer_read(grpc_call *call, struct arena *arena, struct rpc_peer *out,
                        struct error *err);

/* By clock_now_ms(); UINT64_MAX: no deadline. */
uint64_t peer_deadline_ms(const grpc_call_details *details);

/* Trailing metadata with the error's reason. The caller owns the slice. */
#define PEER_REASON_KEY "tdvol-reason"
grpc_slice peer_reason_slice(const struct error *err);

/* Sets the reason when the other end sent a valid one; otherwise err stays unchanged. */
void peer_reason_take(const grpc_metadata_array *trailing, struct error *err);
