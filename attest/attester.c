/* SPDX-License-Identifier: Apache-2.0 */
#include "attest/attester.h"

#include "base/names.h"

#include <stdlib.h>
#include <string.h>

static const struct attester *const attesters[] = { &attester_tdx };

const struct attester *attester_find(const char *name, struct error *err)
{
    struct name_list known = { .text = "" };

    for (size_t i = 0; i < ARRAY_LEN(attesters); i++) {
        if (strcmp(attesters[i]->name, name) == 0)
            return attesters[i];
        name_list_add(&known, attesters[i]->name);
    }
    (void)error_set(err, ERROR_INVALID_ARGUMENT,
                    "tee \"%.32s\" is not known; the known ones are %s", name, known.text);
    return NULL;
}

void evidence_free(struct evidence *evidence)
{
    free(evidence->quote);
    free(evidence->event_log);
    *evidence = (struct evidence){ .quote = NULL };
}
