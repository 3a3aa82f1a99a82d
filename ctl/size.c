/* SPDX-License-Identifier: Apache-2.0 */
#include "ctl/size.h"

#include "base/option.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

static const struct suffix {
    const char *text;
    unsigned shift;
} suffixes[] = { { "Pi", 50 }, { "Ti", 40 }, { "Gi", 30 }, { "Mi", 20 }, { "Ki", 10 }, { "", 0 } };

struct count {
    uint64_t value;
};

bool size_parse(const char *option, const char *text, int64_t *out_bytes, struct error *err)
{
    const size_t digits = strspn(text, "0123456789");
    char number[SIZE_TEXT_LEN];

    for (size_t i = 0; digits < sizeof(number) && i < ARRAY_LEN(suffixes); i++) {
        if (strcmp(text + digits, suffixes[i].text) != 0)
            continue;
        const struct option row = OPTION_U64_ROW(
            option, struct count, value, 0, (uint64_t)INT64_MAX >> suffixes[i].shift, "SIZE", "");
        struct count count = { 0 };
        (void)snprintf(number, sizeof(number), "%.*s", (int)digits, text);
        if (!option_set(&row, 1, &count, option, number, err))
            return false;
        *out_bytes = (int64_t)(count.value << suffixes[i].shift);
        return true;
    }
    return error_set(err, ERROR_INVALID_ARGUMENT,
                     "--%s: \"%s\" is not a size: write digits, and Ki, Mi, Gi, Ti, Pi or nothing",
                     option, text);
}

void size_text(uint64_t bytes, char out[SIZE_TEXT_LEN])
{
    const struct suffix *s = suffixes;

    while (s->shift > 0 && (bytes == 0 || (bytes & ((1ull << s->shift) - 1)) != 0))
        s++;
    (void)snprintf(out, SIZE_TEXT_LEN, "%" PRIu64 "%s", bytes >> s->shift, s->text);
}
