/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "base/macro.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/*
 * The parts of gRPC over HTTP/2 that are texts and bytes, as gRPC's PROTOCOL-HTTP2.md has them.
 * Pure functions over hostile input.
 */

/* Each message has a prefix: one byte that says whether it is compressed, and four for its length,
 * the highest first. */
#define GRPC_WIRE_PREFIX_LEN 5
struct grpc_wire_prefix {
    bool is_compressed; /* the byte is not 0 */
    size_t len;         /* of the message, in bytes */
};
struct grpc_wire_prefix grpc_wire_read_prefix(const uint8_t bytes[static GRPC_WIRE_PREFIX_LEN]);
void grpc_wire_write_prefix(size_t len, uint8_t out[static GRPC_WIRE_PREFIX_LEN]);

/* The header "grpc-timeout": 1 to 8 digits and a unit. Rounds up to whole milliseconds. False for
 * any other text. */
MUST_USE bool grpc_wire_read_timeout(const char *text, size_t len, uint64_t *out_ms);

/* Whether a content-type is "application/grpc", alone or followed by "+format" or ";parameter". */
bool grpc_wire_is_content_type(const char *text, size_t len);

/* Writes "grpc-message": printable ASCII except "%" as it is, other bytes as %XX. Returns the
 * length; no NUL follows. */
#define GRPC_WIRE_ESCAPED_MAX(len) (3 * (len))
size_t grpc_wire_escape(const char *text, size_t len, char *out);

/* Reads "grpc-message" back. What is no escape stays. out has room for len + 1 bytes; a NUL ends it, and
 * an escaped NUL becomes '?'. */
void grpc_wire_unescape(const char *text, size_t len, char *out);
