/* SPDX-License-Identifier: Apache-2.0 */
#include "record/ascii.h"

#include <stdio.h>

void ascii_put(char *out, size_t size, const char *text)
{
    (void)snprintf(out, size, "%s", text);
    for (char *c = out; *c != '\0'; c++)
        if (*c < ' ' || *c > '~')
            *c = '?';
}
