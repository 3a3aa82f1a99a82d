/* SPDX-License-Identifier: Apache-2.0 */
#include "audit/audit_head.h"

#include "base/reader.h"
#include "store/seal.h"

#include <assert.h>
#include <string.h>

#define AAD_LEN  (8 + AUDIT_CHAIN_ID_LEN + 8 + SHA256_LEN)
#define HEAD_LEN (AUDIT_CHAIN_ID_LEN + 8 + SHA256_LEN + SEAL_WRAPPED_LEN)

static_assert(HEAD_LEN <= STORE_HEAD_MAX, "the head fits into the store");

static void put_u64(uint8_t *out, uint64_t value)
{
    for (int i = 0; i < 8; i++)
        out[i] = (uint8_t)(value >> (8 * i));
}

/* id, number of the chain's first line, hash, wrapped key. The key is bound to the other three and
 * to the number of the last line. */
static struct byte_range bind_head(const struct store_head *head, uint8_t out[static AAD_LEN])
{
    put_u64(out, head->seq);
    memcpy(out + 8, head->bytes, AAD_LEN - 8);
    return (struct byte_range){ out, AAD_LEN };
}

bool audit_head_make(const struct secret *key, const struct audit_chain *chain,
                     struct store_head *out, struct error *err)
{
    struct store_head head = { .seq = chain->seq, .len = HEAD_LEN };
    uint8_t *hash = head.bytes + AUDIT_CHAIN_ID_LEN + 8, bytes[AAD_LEN];

    memcpy(head.bytes, chain->id, AUDIT_CHAIN_ID_LEN);
    put_u64(head.bytes + AUDIT_CHAIN_ID_LEN, chain->first);
    if (!hex_decode(chain->hash, hash, SHA256_LEN))
        return error_set(err, ERROR_INTERNAL, "the last hash is not hex");
    const struct byte_range aad = bind_head(&head, bytes);

    if (!seal_wrap(key, &aad, &chain->key, hash + SHA256_LEN, err))
        return false;
    *out = head;
    return true;
}

bool audit_head_open(const struct secret *key, const struct store_head *head,
                     struct audit_chain *out, bool *found, struct error *err)
{
    struct error why = ERROR_INIT;
    uint8_t bytes[AAD_LEN];

    *found = false;
    if (head->seq == 0 || head->len != HEAD_LEN)
        return true;
    const struct byte_range aad = bind_head(head, bytes);
    const uint8_t *hash = head->bytes + AUDIT_CHAIN_ID_LEN + 8;

    *found = seal_open(key, &aad, hash + SHA256_LEN, &out->key, &why);
    if (!*found) {
        if (why.code == ERROR_DATA_LOSS)
            return true;
        *err = why;
        return false;
    }
    out->seq = head->seq;
    memcpy(out->id, head->bytes, AUDIT_CHAIN_ID_LEN);
    out->first = u64le(head->bytes + AUDIT_CHAIN_ID_LEN);
    hex_encode(hash, SHA256_LEN, out->hash);
    return true;
}

/* --- the heads of all brokers of a store --- */

struct heads_walk {
    const struct secret *key;
    const struct audit_head_visitor *visitor;
    struct error *err;
    bool failed;
};

static bool visit_head(void *cookie, const char *replica, const struct store_head *head)
{
    struct heads_walk *walk = cookie;
    auto_audit_chain struct audit_chain chain = audit_chain_none();
    bool found = false;

    if (head->seq == 0)
        return true;
    walk->failed = !audit_head_open(walk->key, head, &chain, &found, walk->err);
    if (!walk->failed && !found)
        walk->failed = !error_set(walk->err, ERROR_DATA_LOSS,
                                  "the audit head of replica \"%s\" in the store is not the "
                                  "broker's: something else has changed the store",
                                  replica);
    return !walk->failed && walk->visitor->visit(walk->visitor->cookie, replica, &chain);
}

bool audit_heads_each(struct store *store, const struct secret *key,
                      const struct audit_head_visitor *visitor, struct error *err)
{
    struct heads_walk walk = { .key = key, .visitor = visitor, .err = err };
    struct store_head own;

    if (store->ops->each_head)
        return store->ops->each_head(store, visit_head, &walk, err) && !walk.failed;
    if (!store->ops->get_head(store, &own, err))
        return false;
    (void)visit_head(&walk, "", &own);
    return !walk.failed;
}
