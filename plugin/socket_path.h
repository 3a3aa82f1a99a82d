/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "base/error.h"

#include <limits.h>

/* Names from the command line: where the plugin listens, and what its driver is called. */

/* The path in "unix:///run/csi.sock" or "unix:/run/csi.sock"; *out points into the text. */
MUST_USE bool socket_path_parse(const char *endpoint, const char **out, struct error *err);

/* Path of the lock that guards a socket. It lies in the state folder, because nothing may lie
 * beside the socket. kind becomes part of its name. */
#define SOCKET_LOCK_MAX PATH_MAX
MUST_USE bool socket_path_lock(const char *state_dir, const char *socket, const char *kind,
                               char out[static SOCKET_LOCK_MAX], struct error *err);

/* The node's id is a label of the node, so Kubernetes takes at most 63 letters, digits, "-", "_" and
 * ".", beginning and ending with a letter or digit. */
MUST_USE bool socket_path_check_node(const char *id, struct error *err);

/* CSI GetPluginInfo: at most 63 bytes of letters, digits, "-", "_" and ".", beginning and ending
 * with a letter (clients check that, too). */
MUST_USE bool socket_path_check_driver(const char *name, struct error *err);
