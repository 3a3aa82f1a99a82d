/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "proto/dispatch.h"

/*
 * Hostile bytes to a message in the arena, or an error that names the field. What comes out has
 * strings of valid UTF-8 without NUL and control characters, nothing longer than the limits, and
 * maps without duplicate keys. Enums and numbers may have any value: they are the handler's.
 */
MUST_USE bool rpc_decode(const ProtobufCMessageDescriptor *type, const struct rpc_limits *limits,
                         struct rpc_bytes message, struct arena *arena, ProtobufCMessage **out,
                         struct error *err);
