/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "base/error.h"

/* What tdvol-blockd, its workers and the programs they run may not do: all capabilities but those
 * that devices, mounts and file systems need are given up for good. */
MUST_USE bool sandbox_enter(struct error *err);
