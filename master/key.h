/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "base/secret.h"

/* The broker's master key, which wraps all that its store keeps secret. As text it is 64 hex digits. */
#define MASTER_KEY_LEN      ((size_t)32)
#define MASTER_KEY_TEXT_MAX ((size_t)66) /* digits, and a line end */

/* A line end may follow the digits. INVALID_ARGUMENT says how to make a master key. */
MUST_USE bool master_key_parse(const struct secret *text, struct secret *out, struct error *err);

/* The same, or the 32 bytes themselves, as what keeps keys for others may have it. */
MUST_USE bool master_key_take(struct secret *plain, struct secret *out, struct error *err);
