/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "base/macro.h"

#include <stdbool.h>
#include <stddef.h>

/*
 * The head of one HTTP/1 request: request line and header fields (RFC 9112). Bytes come from
 * strangers. Only the method and the path matter; the fields are checked and passed over.
 */
struct http_request {
    bool is_get;
    const char *path; /* in the caller's bytes, without a query; not ended by NUL */
    size_t path_len;
};

enum http_head { HTTP_HEAD_INCOMPLETE, HTTP_HEAD_WHOLE, HTTP_HEAD_BAD };

/* Fills in *out when the head is whole. What follows the head is not looked at. */
MUST_USE enum http_head http_request_parse(const char *bytes, size_t len, struct http_request *out);
