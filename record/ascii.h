/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <stddef.h>

/* Copies a text from a certificate or a policy into a field of a record: cut to the size, and with "?" in place
 * of each byte that is not printable ASCII. The encoding of records takes no broken UTF-8. */
void ascii_put(char *out, size_t size, const char *text);
