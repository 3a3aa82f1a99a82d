/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "base/error.h"

/*
 * What tdvol-blockd, its workers and the programs they run may not do: all capabilities but those
 * that devices, mounts and file systems need are given up for good, and so are system calls of no
 * use here and sockets to a network. *filtered is false on a kernel without system call filters.
 */
MUST_USE bool sandbox_enter(bool *filtered, struct error *err);
