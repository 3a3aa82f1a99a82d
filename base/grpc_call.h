/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "base/error.h"

#include <stddef.h>

/*
 * One unary call of gRPC over a connected socket, without gRPC's library: for processes without threads
 * that have rights, and need few calls. HTTP/2 is nghttp2's work. What the server sends is hostile: it
 * is limited in size and time, and nothing here decodes the answer.
 */
struct grpc_question {
    const char *path;       /* "/csi.v1.Node/NodeStageVolume" */
    const uint8_t *request; /* encoded; may be a secret: it is sent from where it lies */
    size_t len;
    uint64_t deadline_ms; /* clock_now_ms() scale; 0: none */
    int caller_fd;        /* the call ends when its other end is closed; -1: nobody's */
};

#define GRPC_CALL_TEXT_MAX 512
struct grpc_answer {
    uint32_t status; /* gRPC's number; 0: OK */
    char
        text[GRPC_CALL_TEXT_MAX]; /* "grpc-message" as it came: printable ASCII, %XX for the rest */
    uint8_t *bytes;               /* the caller's memory for the encoded answer */
    size_t size, len;
};

/* True when the server answered, also with a status that is not OK. Otherwise: UNAVAILABLE when the
 * connection ends before, DEADLINE_EXCEEDED, CANCELLED when the caller is gone, RESOURCE_EXHAUSTED when
 * the answer is larger than out->size, INTERNAL when it is no gRPC. */
MUST_USE bool grpc_call_run(int fd, const struct grpc_question *question, struct grpc_answer *out,
                            struct error *err);
