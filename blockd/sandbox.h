/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "base/error.h"

/*
 * Gives up rights of tdvol-blockd, its workers and the programs they run, permanently: all
 * capabilities that devices, mounts and file systems do not need, system calls that have no use
 * here, and sockets to a network. A worker gives up more (blockd/worker.c).
 * *limited: the system calls are.
 */
MUST_USE bool sandbox_enter(bool *limited, struct error *err);
