/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "base/macro.h"

#include <stdbool.h>

/* Greets the HTTP/2 server at the other end of a fresh connection and waits for the answer to a
 * PING. That needs the server's input and output, and none of its workers. Closes nothing. */
MUST_USE bool grpc_ping(int fd, uint64_t wait_ms);
