/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "base/arena.h"
#include "base/error.h"

#include <protobuf-c/protobuf-c.h>

/* Limits checked on every request before a handler sees it. */
struct rpc_limits {
    size_t message_bytes; /* of the encoded request, unless its method has its own limit */
    size_t string_bytes;  /* of each string, unless decode.c has an exception for its field */
    size_t map_bytes;     /* of each map<string,string> in total */
};

/* An encoded message. */
struct rpc_bytes {
    const uint8_t *bytes;
    size_t len;
};

/*
 * Decodes hostile bytes to a message in the arena, or fails with an error that names the field. The
 * message has strings of valid UTF-8 without NUL and control characters, nothing longer than the
 * limits, and maps without duplicate keys. Enums and numbers may have any value: the handler checks
 * them.
 */
MUST_USE bool rpc_decode(const ProtobufCMessageDescriptor *type, const struct rpc_limits *limits,
                         struct rpc_bytes message, struct arena *arena, ProtobufCMessage **out,
                         struct error *err);
