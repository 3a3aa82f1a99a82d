/* SPDX-License-Identifier: Apache-2.0 */
#include "attest/verifier.h"

#include "base/names.h"

#include <string.h>

static const struct verifier *const verifiers[] = { &verifier_tdx };

const struct verifier *verifier_find(const char *name, struct error *err)
{
    struct name_list known = { .text = "" };

    for (size_t i = 0; i < ARRAY_LEN(verifiers); i++) {
        if (strcmp(verifiers[i]->name, name) == 0)
            return verifiers[i];
        name_list_add(&known, verifiers[i]->name);
    }
    (void)error_set(err, ERROR_INVALID_ARGUMENT,
                    "tee \"%.32s\" is not known; the known ones are %s", name, known.text);
    return NULL;
}
