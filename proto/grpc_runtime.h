/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "proto/dispatch.h"

#include <grpc/grpc.h>

/* Shared by the files of proto/ that use gRPC. */

/*
 * Call it before any other function of gRPC. Calls are counted: each needs a grpc_runtime_close().
 *
 * The API of gRPC 1.51 cannot switch off TLS 1.2 in a client. So TLS 1.2 gets only one cipher suite,
 * which our ECDSA certificates cannot serve. TLS 1.3 has its own suites. gRPC's messages go to our log.
 */
void grpc_runtime_open(void);
void grpc_runtime_close(void);

/* Copies the message into the arena as one piece. wipe overwrites gRPC's copy. */
MUST_USE bool grpc_runtime_read(grpc_byte_buffer *buffer, bool wipe, struct arena *arena,
                                struct rpc_bytes *out, struct error *err);

grpc_byte_buffer *grpc_runtime_write(struct rpc_bytes message); /* copies */

/* One setting of a channel or server. gRPC copies both texts, but its fields are not const. */
static inline grpc_arg grpc_runtime_int(const char *name, int value)
{
    return (grpc_arg){ GRPC_ARG_INTEGER, (char *)(uintptr_t)name, { .integer = value } };
}
static inline grpc_arg grpc_runtime_text(const char *name, const char *value)
{
    return (grpc_arg){ GRPC_ARG_STRING,
                       (char *)(uintptr_t)name,
                       { .string = (char *)(uintptr_t)value } };
}
