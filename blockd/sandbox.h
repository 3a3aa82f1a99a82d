/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "base/error.h"

/*
 * Gives up rights of tdvol-blockd, its workers and the programs they run, permanently: all
 * capabilities that devices, mounts and file systems do not need, system calls that have no use
 * here, and sockets to a network. *filtered is false when the kernel has no system call filters.
 */
MUST_USE bool sandbox_enter(bool *filtered, struct error *err);
