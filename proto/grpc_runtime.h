/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "proto/dispatch.h"

#include <grpc/grpc.h>

/* Shared by server.c and client.c, which alone use gRPC. */

/*
 * Before anything else of gRPC; counted. TLS 1.2 cannot be switched off by the API of gRPC 1.51,
 * so its only cipher suite is set to one that our ECDSA certificates cannot serve; 1.3 has suites
 * of its own. gRPC's messages go to our log.
 */
void grpc_runtime_open(void);
void grpc_runtime_close(void);

/* The message as one piece in the arena. wipe overwrites gRPC's own copy. */
MUST_USE bool grpc_runtime_read(grpc_byte_buffer *buffer, bool wipe, struct arena *arena,
                                struct rpc_bytes *out, struct error *err);

grpc_byte_buffer *grpc_runtime_write(struct rpc_bytes message); /* copies */

/* One setting of a channel or server. gRPC copies both texts; its fields lack the const. */
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
