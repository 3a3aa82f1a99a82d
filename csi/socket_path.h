/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "base/error.h"

#include <limits.h>

/* Names that the command line gives: where we listen, who we are. */

/* "unix:///run/csi.sock" or "unix:/run/csi.sock" to the path, which points into the text. */
MUST_USE bool socket_path_parse(const char *endpoint, const char **out, struct error *err);

/* A lock that guards a socket: in the state folder, since nothing may lie beside the socket. kind
 * becomes part of its name. */
#define SOCKET_LOCK_MAX PATH_MAX
MUST_USE bool socket_path_lock(const char *state_dir, const char *socket, const char *kind,
                               char out[static SOCKET_LOCK_MAX], struct error *err);

/* CSI GetPluginInfo: at most 63 bytes of letters, digits, "-", "_" and ".", beginning and ending
 * with a letter (clients check that, too). */
MUST_USE bool socket_path_check_driver(const char *name, struct error *err);
