/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "blockd/worker.h"

/*
 * Puts in order what killed workers left: resumes suspended volumes, removes stacks that were never
 * exposed, and temporary files. Goes by this instance's state files and takes each volume's lock, so that neither
 * running workers nor other instances of the driver are touched. A volume whose mapping is gone
 * keeps its state file: closing it is still to be told to the broker. Goes on
 * after a volume that cannot be helped; the error is then the last one.
 */
MUST_USE bool recovery_run(const struct worker_config *config, struct error *err);
