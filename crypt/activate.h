/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "crypt/volume.h"

/* SHA-256 of the reserved area, read through dm-crypt. */
MUST_USE bool reserved_hash(int mapping_fd, uint8_t out[static SHA256_LEN], struct error *err);
