/* SPDX-License-Identifier: Apache-2.0 */
#include "broker/copying.h"

#include "base/digest.h"

#include <assert.h>
#include <endian.h>
#include <stdio.h>
#include <string.h>

/* "copy:SOURCE:PLACE", both in hex: the id of the source's record, and the first byte of the copy's
 * digest. The mark is the version, and as much of the digest as there is room for. */
#define PREFIX_LEN   (5 + 2 * RECORD_ID_LEN + 1)
#define NAME_LEN     (PREFIX_LEN + 2)
#define VERSION_LEN  sizeof(uint64_t)
#define DIGEST_BYTES (STORE_MARK_LEN - VERSION_LEN)
static_assert(COPYING_MAX == UINT8_MAX + 1, "one byte names a place");
static_assert(DIGEST_BYTES <= SHA256_LEN && DIGEST_BYTES >= 16, "it tells copies apart");

static void make_prefix(const struct record *source, char out[static PREFIX_LEN + 1])
{
    char id[2 * RECORD_ID_LEN + 1];

    hex_encode(source->id, RECORD_ID_LEN, id);
    (void)snprintf(out, PREFIX_LEN + 1, "copy:%s:", id);
}

static bool make_name(const struct record *source, enum record_kind kind, const char *name,
                      char out[static NAME_LEN + 1], uint8_t digest[static SHA256_LEN],
                      struct error *err)
{
    char text[RECORD_NAME_MAX + 4];

    if (strlen(name) > RECORD_NAME_MAX)
        return error_set(err, ERROR_INVALID_ARGUMENT, "name is longer than %d bytes",
                         RECORD_NAME_MAX);
    (void)snprintf(text, sizeof(text), "%d:%s", (int)kind, name);
    if (!sha256(text, strlen(text), digest, err))
        return false;
    make_prefix(source, out);
    hex_encode(digest, 1, out + PREFIX_LEN);
    return true;
}

bool copying_begin(struct store *store, const struct record *source, enum record_kind kind,
                   const char *name, uint64_t *version, struct error *err)
{
    char mark_name[NAME_LEN + 1];
    uint8_t now[STORE_MARK_LEN], first[STORE_MARK_LEN], digest[SHA256_LEN];
    const uint64_t le = htole64(source->version);

    if (!make_name(source, kind, name, mark_name, digest, err))
        return false;
    memcpy(now, &le, VERSION_LEN);
    memcpy(now + VERSION_LEN, digest, DIGEST_BYTES);
    if (!store->ops->remember(store, mark_name, now, first, err))
        return false;
    if (memcmp(first + VERSION_LEN, digest, DIGEST_BYTES) != 0 &&
        (!store->ops->forget(store, mark_name, err) ||
         !store->ops->remember(store, mark_name, now, first, err)))
        return false;
    uint64_t le_first;

    memcpy(&le_first, first, VERSION_LEN);
    *version = le64toh(le_first);
    return true;
}

bool copying_end(struct store *store, const struct record *source, enum record_kind kind,
                 const char *name, struct error *err)
{
    char mark_name[NAME_LEN + 1];
    uint8_t digest[SHA256_LEN];

    return make_name(source, kind, name, mark_name, digest, err) &&
           store->ops->forget(store, mark_name, err);
}

bool copying_end_all(struct store *store, const struct record *source, struct error *err)
{
    char prefix[PREFIX_LEN + 1];

    make_prefix(source, prefix);
    return store->ops->forget(store, prefix, err);
}
