/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "base/error.h"
#include "base/secret.h"

#include <stddef.h>

/*
 * A client for HTTPS, over libcurl: TLS 1.2 or later, the server's certificate and name checked, no
 * redirects, bounded time and answers. Plain http goes to loopback addresses alone. Not thread-safe: one
 * client for one thread at a time.
 */
struct https;

struct https_options {
    const char *ca_file; /* PEM; only these CAs are trusted then. NULL: the system's */
    uint32_t timeout_ms; /* of one request; 0: ten seconds */
    size_t body_max;     /* bytes of an answer */
    bool is_secret;      /* answers are kept in locked memory; body_max < SECRET_LEN_MAX */
    bool (*is_cancelled)(void *cookie); /* NULL: never */
    void *cookie;
};

/* Once per process, before threads start. */
MUST_USE bool https_init(struct error *err);
void https_done(void);

/* INVALID_ARGUMENT for anything but an https address, and http to 127.0.0.0/8 or [::1]. */
MUST_USE bool https_check_url(const char *url, struct error *err);
/* The same, and without user, password, query and fragment. */
MUST_USE bool https_check_base(const char *url, struct error *err);

/* Copies nothing: options must outlive the client. */
MUST_USE bool https_new(const struct https_options *options, struct https **out, struct error *err);
void https_free(struct https **https);
#define auto_https CLEANUP(https_free)

struct https_call {
    const char *url;
    const void *body; /* NULL: GET; otherwise POST, as JSON; not copied */
    size_t body_len;
    const char *const *headers; /* lines "Name: value"; libcurl keeps copies until the call ends */
    size_t n_headers;
};

/* False when there is no whole answer: UNAVAILABLE, naming the cause; FAILED_PRECONDITION when it is too
 * large; CANCELLED. With an answer the status may be any. */
MUST_USE bool https_send(struct https *https, const struct https_call *call, struct error *err);

/* Of the last answer; until the next call. status is 0 when there was none. */
long https_status(const struct https *https);
const uint8_t *https_body(const struct https *https, size_t *len); /* a NUL follows */
/* NULL unless the answer has exactly one header of this name. */
const char *https_header(const struct https *https, const char *name);
