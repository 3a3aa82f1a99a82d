/* SPDX-License-Identifier: Apache-2.0 */
#include "store/store.h"

#include "base/names.h"

#include <string.h>

static const struct store_kind {
    const char *name, *spec;
    bool (*open)(const char *where, struct store **out, struct error *err);
} kinds[] = {
    { "sqlite", "sqlite:FOLDER", store_sqlite_open },
};

bool store_open(const char *spec, struct store **out, struct error *err)
{
    struct name_list known = { .text = "" };
    size_t len = strcspn(spec, ":");
    bool has_place = spec[len] == ':' && spec[len + 1] != '\0';

    for (size_t i = 0; i < ARRAY_LEN(kinds); i++) {
        if (has_place && strlen(kinds[i].name) == len && strncmp(kinds[i].name, spec, len) == 0)
            return kinds[i].open(spec + len + 1, out, err);
        name_list_add(&known, kinds[i].spec);
    }
    return error_set(err, ERROR_INVALID_ARGUMENT,
                     "store \"%s\" is not known; the known ones are %s", spec, known.text);
}

bool store_refuse(struct store *store, const char *volume_id, const char *what, struct error *err)
{
    atomic_fetch_add(&store->refused, 1);
    return error_set(err, ERROR_DATA_LOSS,
                     "the broker's store: the %s of volume %s is damaged, or was changed by "
                     "something else than the broker: restore the store from a backup",
                     what, volume_id);
}
