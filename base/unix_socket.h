/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "base/error.h"

#include <limits.h>
#include <sys/types.h>

/* A listening unix socket and the file by which clients find it. */
#define UNIX_SOCKET_PATH_MAX 106 /* bytes; gRPC's limit for clients, one less than the kernel's */

struct unix_socket {
    int fd;      /* listens; non-blocking */
    int file_fd; /* O_PATH */
};
#define UNIX_SOCKET_INIT        \
    {                           \
        .fd = -1, .file_fd = -1 \
    }

/*
 * Listens at path, whose folder exists, and gives the file this mode. Only a socket that no process
 * serves is replaced: ALREADY_EXISTS when another one serves it, FAILED_PRECONDITION when the path
 * is another kind of file, which stays. INVALID_ARGUMENT when the path is too long.
 */
MUST_USE bool unix_socket_bind(const char *path, mode_t mode, struct unix_socket *out,
                               struct error *err);
void unix_socket_close(struct unix_socket *socket); /* the file stays */
#define auto_unix_socket CLEANUP(unix_socket_close)

/* As a client; the descriptor does not block. UNAVAILABLE when nobody serves it. */
MUST_USE bool unix_socket_connect(const char *path, int *out_fd, struct error *err);

/* Where the file is now, without links. False when it is nowhere. Needs no right to its folder, so
 * a process that gave up its rights can still tell whether its socket was removed or renamed. */
MUST_USE bool unix_socket_place(const struct unix_socket *socket, char out[static PATH_MAX]);
