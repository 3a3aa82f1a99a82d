/* SPDX-License-Identifier: Apache-2.0 */
#include "blockd/mount.h"
#include "tests/fuzz/fuzz.h"

#include <stdlib.h>
#include <string.h>

/* Accepted options name no other device, and there are not more than the buffer holds. */

static const char *const never[] = { "source", "loop", "logdev", "rtdev", "journal_dev", "bind" };

static bool is_inside(const struct mount_options *options, const char *text)
{
    return text >= options->text && text < options->text + sizeof(options->text);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len)
{
    static struct mount_options options;
    static char text[8192];
    struct error err = ERROR_INIT;

    if (len >= sizeof(text))
        return 0;
    memcpy(text, bytes, len);
    text[len] = 0;
    if (!mount_options_parse(text, &options, &err))
        return 0;
    if (options.n > MOUNT_OPTIONS_MAX)
        abort();
    for (size_t i = 0; i < options.n; i++) {
        const struct mount_option *o = &options.items[i];

        if (!is_inside(&options, o->name) || (o->value && !is_inside(&options, o->value)))
            abort();
        for (size_t k = 0; k < ARRAY_LEN(never); k++) {
            if (strcmp(o->name, never[k]) == 0)
                abort();
        }
    }
    return 0;
}
