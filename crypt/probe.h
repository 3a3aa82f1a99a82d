/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "base/error.h"
#include "record/record.h"
#include "record/volume_name.h"

/* The device that is needed: a few MiB of memory behind a loop device. It is overwritten. */
#define VOLUME_PROBE_BYTES (4u * 1024 * 1024)

/*
 * Whether this kernel opens volumes of a mode. Loads the mode's tables and removes them again: only
 * that shows it. AF_ALG is closed in many kernels, and /proc/crypto lists only what is loaded. The
 * error says what the kernel refused. name: used for the layers, and no volume's.
 */
MUST_USE bool volume_probe(const struct volume_name *name, enum integrity integrity,
                           const char *device_path, struct error *err);
