/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "base/error.h"

/*
 * Ids of local volumes and snapshots: a letter and 26 characters of base32(SHA-256(driver name,
 * NUL, CSI name)). They depend on the two names only, so a repeated create finds what the first one
 * made. They are safe as file names: no character has a meaning in a path.
 */
#define VOLUME_ID_LEN 27

enum volume_id_kind { VOLUME_ID_VOLUME = 'v', VOLUME_ID_SNAPSHOT = 's' };

MUST_USE bool volume_id_make(enum volume_id_kind kind, const char *driver, const char *name,
                             char out[static VOLUME_ID_LEN + 1], struct error *err);

/* False for everything that volume_id_make cannot have made: such a volume does not exist. */
bool volume_id_is(enum volume_id_kind kind, const char *id);
