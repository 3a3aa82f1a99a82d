/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "crypt/volume.h"

/* SHA-256 of both map slots, read through dm-crypt. The state blocks have their own MAC and count. */
MUST_USE bool maps_hash(int mapping_fd, uint8_t out[static SHA256_LEN], struct error *err);
