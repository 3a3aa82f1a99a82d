/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/csi/fake_upstream_parts.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* What the driver below checks in requests. */

bool fake_require(const char *value, const char *what, struct error *err)
{
    return value[0] != '\0' || error_set(err, ERROR_INVALID_ARGUMENT, "no %s", what);
}

bool fake_not_found(const char *what, const char *id, struct error *err)
{
    return error_set(err, ERROR_NOT_FOUND, "no %s %s", what, id);
}

bool fake_check_secrets(const struct fake_upstream *u, size_t n, const void *secrets,
                        struct error *err)
{
    const entry_message *const *entries = secrets;

    for (size_t i = 0; u->secret && i < n; i++)
        if (strcmp(entries[i]->key, "token") == 0 && strcmp(entries[i]->value, u->secret) == 0)
            return true;
    return !u->secret || error_set(err, ERROR_UNAUTHENTICATED, "no secret");
}

bool fake_has(const struct fake_upstream *u, unsigned capability)
{
    return (u->lacks & 1u << capability) == 0;
}

bool fake_check_capability(const struct fake_upstream *u, const Csi__V1__VolumeCapability *c,
                           struct error *err)
{
    if (!c || c->access_type_case != CSI__V1__VOLUME_CAPABILITY__ACCESS_TYPE_BLOCK)
        return error_set(err, ERROR_INVALID_ARGUMENT, "only block volumes");
    switch ((int)(c->access_mode ? c->access_mode->mode : 0)) {
    case CSI__V1__VOLUME_CAPABILITY__ACCESS_MODE__MODE__SINGLE_NODE_WRITER:
    case CSI__V1__VOLUME_CAPABILITY__ACCESS_MODE__MODE__MULTI_NODE_READER_ONLY:
        return true;
    case CSI__V1__VOLUME_CAPABILITY__ACCESS_MODE__MODE__SINGLE_NODE_SINGLE_WRITER:
    case CSI__V1__VOLUME_CAPABILITY__ACCESS_MODE__MODE__SINGLE_NODE_MULTI_WRITER:
        if (fake_has(u,
                     CSI__V1__CONTROLLER_SERVICE_CAPABILITY__RPC__TYPE__SINGLE_NODE_MULTI_WRITER))
            return true;
        return error_set(err, ERROR_INVALID_ARGUMENT, "access mode is not known");
    default:
        return error_set(err, ERROR_INVALID_ARGUMENT, "access mode is not supported");
    }
}

bool fake_check_capabilities(const struct fake_upstream *u, size_t n,
                             Csi__V1__VolumeCapability *const *list, struct error *err)
{
    for (size_t i = 0; i < n; i++)
        if (!fake_check_capability(u, list[i], err))
            return false;
    return n > 0 || error_set(err, ERROR_INVALID_ARGUMENT, "no capabilities");
}

bool fake_check_parameters(size_t n, const void *map, const char *const *known, char *out,
                           size_t size, struct error *err)
{
    const entry_message *const *entries = map;
    size_t used = 0;

    out[0] = '\0';
    for (size_t i = 0; i < n; i++) {
        size_t k = 0;

        while (known[k] && strcmp(known[k], entries[i]->key) != 0)
            k++;
        if (!known[k])
            return error_set(err, ERROR_INVALID_ARGUMENT, "Invalid parameter key %s",
                             entries[i]->key);
        used +=
            (size_t)snprintf(out + used, size - used, "%s=%s ", entries[i]->key, entries[i]->value);
    }
    return true;
}
const char *const fake_create_keys[] = { "type", "csi.storage.k8s.io/pvc/name", NULL };
const char *const fake_mutable_keys[] = { "iops", NULL };

void fake_new_id(struct fake_upstream *u, const char *kind, char *out, size_t size)
{
    if (u->odd_id)
        (void)snprintf(out, size, "%s", u->odd_id);
    else
        (void)snprintf(out, size, "%s-%u", kind, ++u->n_made);
}

uint64_t fake_content(struct fake_upstream *u, const char *id)
{
    const struct fake_record *r = fake_record(u->fake, id);

    return r ? r->record.open_counter : 0;
}
