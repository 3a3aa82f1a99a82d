/* SPDX-License-Identifier: Apache-2.0 */
#include "master/pair.h"

#include <stdio.h>
#include <string.h>

static bool open_current(const struct master_pair_options *o, struct master_source **out,
                         struct error *err)
{
    struct master_source_options source = o->current;
    char descriptor[32];

    if (source.spec && o->fd >= 0)
        return error_set(err, ERROR_INVALID_ARGUMENT,
                         "--master-key and --master-key-fd exclude each other: give only one");
    (void)snprintf(descriptor, sizeof(descriptor), "fd:%d", o->fd);
    if (!source.spec)
        source.spec = o->fd >= 0 ? descriptor : "unseal:";
    return master_source_new(&source, out, err) || error_wrap(err, "--master-key");
}

/* Kinds that wait for people or attest: the new key comes so, and the old one is at hand. */
static bool check_old(const struct master_pair_options *o, struct error *err)
{
    static const char *const kinds[] = { "unseal:", "peer:", "kbs:" };

    for (size_t i = 0; i < ARRAY_LEN(kinds); i++)
        if (strncmp(o->old_spec, kinds[i], strlen(kinds[i])) == 0)
            return error_set(err, ERROR_INVALID_ARGUMENT,
                             "--old-master-key does not take %s: name a file, descriptor, "
                             "credential or Vault's key",
                             kinds[i]);
    return true;
}

static bool open_old(const struct master_pair_options *o, struct master_source **out,
                     struct error *err)
{
    const struct master_source_options source = { .spec = o->old_spec,
                                                  .vault_token = o->current.vault_token,
                                                  .vault_ca = o->current.vault_ca,
                                                  .wrapped = o->old_wrapped };

    if (!o->old_spec)
        return !o->old_wrapped ||
               error_set(err, ERROR_INVALID_ARGUMENT,
                         "--old-wrapped-key has no effect without --old-master-key");
    return check_old(o, err) &&
           (master_source_new(&source, out, err) || error_wrap(err, "--old-master-key"));
}

bool master_pair_new(const struct master_pair_options *options, struct master_source **current,
                     struct master_source **old, struct error *err)
{
    auto_master_source struct master_source *first = NULL, *second = NULL;

    if (!open_current(options, &first, err) || !open_old(options, &second, err))
        return false;
    *current = TAKE_PTR(first);
    *old = TAKE_PTR(second);
    return true;
}
