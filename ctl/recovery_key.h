/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "crypt/recovery_token.h"

/* Reads an offline recovery key from a file that is closed to group and others. The passphrase of an
 * encrypted key comes from the descriptor, its first line, or from the terminal when passphrase_fd is
 * -1: never from an argument or the environment. */
MUST_USE bool recovery_key_load(const char *path, int passphrase_fd, struct recovery_key **out,
                                struct error *err);
