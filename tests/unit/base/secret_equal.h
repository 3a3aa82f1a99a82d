/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "base/secret.h"

static inline bool secret_is_equal(const struct secret *a, const struct secret *b)
{
    return a->len == b->len && bytes_are_equal(a->bytes, b->bytes, a->len);
}
