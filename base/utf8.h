/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "base/macro.h"

#include <stdbool.h>

#define UTF8_BYTES_MAX 4 /* of one character */

/* The length in bytes (1 to 4) of the UTF-8 character at the start of text; *out is its number.
 * 0 for invalid UTF-8: cut off, overlong, a surrogate or beyond U+10FFFF. len must not be 0. */
size_t utf8_next(const uint8_t *text, size_t len, uint32_t *out);

/* Characters that CSI forbids in names: U+0000 to 1F except tab and line ends, U+007F to 9F. */
bool utf8_is_control(uint32_t character);
