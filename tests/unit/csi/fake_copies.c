/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/csi/fake.h"

#include <string.h>

/* Copies under way, which the fake's broker remembers. */

struct fake_copying *fake_copying(struct fake *f, const char *source,
                                  const struct keys_copy *wanted)
{
    for (size_t i = 0; i < FAKE_MAX; i++) {
        struct fake_copying *c = &f->copying[i];

        if (c->version > 0 ? strcmp(c->source, source) == 0 && c->kind == wanted->kind &&
                                 strcmp(c->name, wanted->name) == 0
                           : source[0] == '\0')
            return c;
    }
    return NULL;
}

void fake_end_copying(struct fake *f, const char *source_id, const struct keys_copy *wanted)
{
    struct fake_copying *c = fake_copying(f, source_id, wanted);

    if (c)
        c->version = 0;
}
