/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "base/error.h"

#include <stdint.h>

/* Sizes as people write them: "1Gi", "64Mi", "4096". */

/* Digits and at most one of Ki, Mi, Gi, Ti, Pi. INVALID_ARGUMENT names the option. */
MUST_USE bool size_parse(const char *option, const char *text, int64_t *out_bytes,
                         struct error *err);

/* Exact: the largest suffix that leaves a whole number. "1Gi", "1536Mi", "4097". */
#define SIZE_TEXT_LEN 24
void size_text(uint64_t bytes, char out[SIZE_TEXT_LEN]);
