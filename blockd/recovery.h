/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "blockd/worker.h"

/*
 * Puts in order what killed workers left: resumes suspended volumes, drops tables that were loaded
 * and never used, and removes temporary files and stacks of layers that were never exposed. It works
 * from this instance's state files and local folder, and takes each volume's lock. So it touches
 * neither running workers nor other instances of the driver. A volume whose mapping is gone keeps
 * its state file, because the broker must still be told that it was closed, and how. After an error it goes
 * on with the other volumes; *err is the last error.
 */
MUST_USE bool recovery_run(const struct worker_config *config, struct error *err);
