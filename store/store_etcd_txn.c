/* SPDX-License-Identifier: Apache-2.0 */
#include "store/store_etcd_txn.h"

#include <string.h>

/* --- building --- */

static ProtobufCBinaryData copy_bytes(struct etcd_txn *txn, const void *bytes, size_t len)
{
    ProtobufCBinaryData out = { .len = len };

    if (len > 0)
        out.data = arena_memdup(txn->arena, bytes, len);
    txn->is_full |= len > 0 && !out.data;
    if (!out.data)
        out.len = 0;
    return out;
}

static Etcdserverpb__Compare *add_compare(struct etcd_txn *txn, const struct etcd_key *key)
{
    Etcdserverpb__Compare *compare = arena_alloc(txn->arena, sizeof(*compare));

    if (!compare || txn->n_compares == ETCD_COMPARES_MAX) {
        txn->is_full = true;
        return NULL;
    }
    etcdserverpb__compare__init(compare);
    compare->result = ETCDSERVERPB__COMPARE__COMPARE_RESULT__EQUAL;
    compare->key = copy_bytes(txn, key->bytes, key->len);
    txn->compares[txn->n_compares++] = compare;
    return compare;
}

void etcd_if_revision(struct etcd_txn *txn, const struct etcd_key *key, int64_t revision)
{
    Etcdserverpb__Compare *compare = add_compare(txn, key);

    if (!compare)
        return;
    compare->target = ETCDSERVERPB__COMPARE__COMPARE_TARGET__MOD;
    compare->target_union_case = ETCDSERVERPB__COMPARE__TARGET_UNION_MOD_REVISION;
    compare->mod_revision = revision;
}

void etcd_if_value(struct etcd_txn *txn, const struct etcd_key *key, const void *value, size_t len)
{
    Etcdserverpb__Compare *compare = add_compare(txn, key);

    if (!compare)
        return;
    compare->target = ETCDSERVERPB__COMPARE__COMPARE_TARGET__VALUE;
    compare->target_union_case = ETCDSERVERPB__COMPARE__TARGET_UNION_VALUE;
    compare->value = copy_bytes(txn, value, len);
}

static Etcdserverpb__RequestOp *add_op(struct etcd_txn *txn, Etcdserverpb__RequestOp **list,
                                       size_t *n)
{
    Etcdserverpb__RequestOp *op = arena_alloc(txn->arena, sizeof(*op));

    if (!op || *n == ETCD_OPS_MAX) {
        txn->is_full = true;
        return NULL;
    }
    etcdserverpb__request_op__init(op);
    list[(*n)++] = op;
    return op;
}

void etcd_then_put(struct etcd_txn *txn, const struct etcd_key *key, const void *value, size_t len)
{
    Etcdserverpb__RequestOp *op = add_op(txn, txn->success, &txn->n_success);
    Etcdserverpb__PutRequest *put = arena_alloc(txn->arena, sizeof(*put));

    if (!op || !put) {
        txn->is_full = true;
        return;
    }
    etcdserverpb__put_request__init(put);
    put->key = copy_bytes(txn, key->bytes, key->len);
    put->value = copy_bytes(txn, value, len);
    op->request_case = ETCDSERVERPB__REQUEST_OP__REQUEST_REQUEST_PUT;
    op->request_put = put;
}

static void add_delete(struct etcd_txn *txn, const struct etcd_key *key, const struct etcd_key *end)
{
    Etcdserverpb__RequestOp *op = add_op(txn, txn->success, &txn->n_success);
    Etcdserverpb__DeleteRangeRequest *del = arena_alloc(txn->arena, sizeof(*del));

    if (!op || !del) {
        txn->is_full = true;
        return;
    }
    etcdserverpb__delete_range_request__init(del);
    del->key = copy_bytes(txn, key->bytes, key->len);
    if (end)
        del->range_end = copy_bytes(txn, end->bytes, end->len);
    op->request_case = ETCDSERVERPB__REQUEST_OP__REQUEST_REQUEST_DELETE_RANGE;
    op->request_delete_range = del;
}

void etcd_then_delete(struct etcd_txn *txn, const struct etcd_key *key)
{
    add_delete(txn, key, NULL);
}

void etcd_then_delete_all(struct etcd_txn *txn, const struct etcd_key *start)
{
    struct etcd_key end;

    etcd_key_end(start, &end);
    add_delete(txn, start, &end);
}

static void add_get(struct etcd_txn *txn, Etcdserverpb__RequestOp **list, size_t *n,
                    const struct etcd_key *key, int64_t revision)
{
    Etcdserverpb__RequestOp *op = add_op(txn, list, n);
    Etcdserverpb__RangeRequest *range = arena_alloc(txn->arena, sizeof(*range));

    if (!op || !range) {
        txn->is_full = true;
        return;
    }
    etcdserverpb__range_request__init(range);
    range->key = copy_bytes(txn, key->bytes, key->len);
    range->revision = revision;
    op->request_case = ETCDSERVERPB__REQUEST_OP__REQUEST_REQUEST_RANGE;
    op->request_range = range;
}

void etcd_then_get(struct etcd_txn *txn, const struct etcd_key *key)
{
    add_get(txn, txn->success, &txn->n_success, key, 0);
}

void etcd_then_get_at(struct etcd_txn *txn, const struct etcd_key *key, int64_t revision)
{
    add_get(txn, txn->success, &txn->n_success, key, revision);
}

void etcd_else_get(struct etcd_txn *txn, const struct etcd_key *key)
{
    add_get(txn, txn->failure, &txn->n_failure, key, 0);
}

/* --- asking --- */

static bool no_answer(const char *what, struct error *err)
{
    return error_set(err, ERROR_INTERNAL, "store: etcd: the answer is not one to the question: %s",
                     what);
}

static bool read_revision(const Etcdserverpb__ResponseHeader *header, int64_t *out,
                          struct error *err)
{
    if (!header || header->revision <= 0)
        return no_answer("it has no revision", err);
    *out = header->revision;
    return true;
}

typedef bool ask_fn(struct etcd_client *client, const struct etcd_call *call, uint64_t until_ms,
                    ProtobufCMessage **out, struct error *err);

static bool run(struct etcd_client *client, struct etcd_txn *txn, ask_fn *ask, uint64_t until_ms,
                struct etcd_result *out, struct error *err)
{
    Etcdserverpb__TxnRequest request = ETCDSERVERPB__TXN_REQUEST__INIT;
    const struct etcd_call call = { "Txn", &request.base, txn->arena };
    ProtobufCMessage *message = NULL;

    if (txn->is_full)
        return error_set(err, ERROR_RESOURCE_EXHAUSTED, "store: a request to etcd is too large");
    request.compare = txn->compares;
    request.n_compare = txn->n_compares;
    request.success = txn->success;
    request.n_success = txn->n_success;
    request.failure = txn->failure;
    request.n_failure = txn->n_failure;
    if (!ask(client, &call, until_ms, &message, err))
        return false;
    out->response = (Etcdserverpb__TxnResponse *)(void *)message;
    out->succeeded = out->response->succeeded != 0;
    if (out->response->n_responses != (out->succeeded ? txn->n_success : txn->n_failure))
        return no_answer("another number of operations", err);
    return read_revision(out->response->header, &out->revision, err);
}

bool etcd_txn_ask(struct etcd_client *client, struct etcd_txn *txn, uint64_t until_ms,
                  struct etcd_result *out, struct error *err)
{
    return run(client, txn, etcd_ask, until_ms, out, err);
}

bool etcd_txn_ask_once(struct etcd_client *client, struct etcd_txn *txn, uint64_t until_ms,
                       struct etcd_result *out, struct error *err)
{
    return run(client, txn, etcd_ask_once, until_ms, out, err);
}

static struct etcd_pair pair_of(const Etcdserverpb__KeyValue *kv)
{
    return (struct etcd_pair){ { kv->key.data, kv->key.len },
                               { kv->value.data, kv->value.len },
                               kv->mod_revision };
}

static bool check_key(const Etcdserverpb__KeyValue *kv, const struct etcd_key *key,
                      struct error *err)
{
    const struct etcd_bytes bytes = { kv->key.data, kv->key.len };

    if (!etcd_key_is(key, &bytes) || kv->mod_revision <= 0)
        return no_answer("another key", err);
    return true;
}

bool etcd_result_get(const struct etcd_result *result, size_t i, const struct etcd_key *key,
                     struct etcd_pair *out, struct error *err)
{
    const Etcdserverpb__ResponseOp *op =
        i < result->response->n_responses ? result->response->responses[i] : NULL;

    if (!op || op->response_case != ETCDSERVERPB__RESPONSE_OP__RESPONSE_RESPONSE_RANGE ||
        !op->response_range || op->response_range->n_kvs > 1)
        return no_answer("another operation", err);
    *out = (struct etcd_pair){ .revision = 0 };
    if (op->response_range->n_kvs == 0)
        return true;
    if (!check_key(op->response_range->kvs[0], key, err))
        return false;
    *out = pair_of(op->response_range->kvs[0]);
    return true;
}

/* --- ranges --- */

static int compare_bytes(const ProtobufCBinaryData *a, const uint8_t *bytes, size_t len)
{
    int order = memcmp(a->data, bytes, a->len < len ? a->len : len);

    if (order != 0)
        return order;
    return a->len < len ? -1 : a->len > len;
}

/* Each key begins with start, and comes after the one before it. */
static bool check_page(const Etcdserverpb__RangeResponse *response, const struct etcd_range *range,
                       struct error *err)
{
    const struct etcd_key *start = range->start, *from = range->from ? range->from : start;

    if (range->limit > 0 && response->n_kvs > (size_t)range->limit)
        return no_answer("more keys", err);
    for (size_t i = 0; i < response->n_kvs; i++) {
        const Etcdserverpb__KeyValue *kv = response->kvs[i],
                                     *before = i > 0 ? response->kvs[i - 1] : NULL;

        const struct etcd_bytes bytes = { kv->key.data, kv->key.len };

        if (!etcd_key_begins(start, &bytes) || bytes.len >= ETCD_KEY_MAX || kv->mod_revision <= 0 ||
            compare_bytes(&kv->key, from->bytes, from->len) < 0 ||
            (range->end && compare_bytes(&kv->key, range->end->bytes, range->end->len) >= 0) ||
            (before && compare_bytes(&kv->key, before->key.data, before->key.len) <= 0))
            return no_answer("other keys", err);
    }
    return true;
}

bool etcd_range_ask(struct etcd_client *client, const struct etcd_range *range, struct arena *arena,
                    uint64_t until_ms, struct etcd_page *out, struct error *err)
{
    Etcdserverpb__RangeRequest request = ETCDSERVERPB__RANGE_REQUEST__INIT;
    const struct etcd_call call = { "Range", &request.base, arena };
    struct etcd_key from = range->from ? *range->from : *range->start, end;
    ProtobufCMessage *message = NULL;

    etcd_key_end(range->start, &end);
    if (range->end)
        end = *range->end;
    request.key = (ProtobufCBinaryData){ from.len, from.bytes };
    request.range_end = (ProtobufCBinaryData){ end.len, end.bytes };
    request.limit = range->limit;
    request.revision = range->revision;
    request.keys_only = range->keys_only;
    if (!etcd_ask(client, &call, until_ms, &message, err))
        return false;
    Etcdserverpb__RangeResponse *response = (Etcdserverpb__RangeResponse *)(void *)message;

    if (!check_page(response, range, err) || !read_revision(response->header, &out->revision, err))
        return false;
    out->response = response;
    out->n = response->n_kvs;
    out->more = response->more != 0 && out->n > 0;
    return true;
}

struct etcd_pair etcd_page_at(const struct etcd_page *page, size_t i)
{
    return pair_of(page->response->kvs[i]);
}

bool etcd_page_next(const struct etcd_page *page, struct etcd_key *out, struct error *err)
{
    const ProtobufCBinaryData *last = &page->response->kvs[page->n - 1]->key;

    if (last->len >= sizeof(out->bytes))
        return no_answer("a long key", err);
    memcpy(out->bytes, last->data, last->len);
    out->bytes[last->len] = '\0';
    out->len = last->len + 1;
    return true;
}

bool etcd_find_revision(struct etcd_client *client, int64_t *out, struct error *err)
{
    auto_arena struct arena arena = { .limit = ETCD_ARENA_BYTES };
    struct etcd_key all;
    const struct etcd_range range = { .start = &all, .limit = 1, .keys_only = true };
    struct etcd_page page;

    etcd_key_all(&all);
    if (!etcd_range_ask(client, &range, &arena, etcd_until(client), &page, err))
        return false;
    *out = page.revision;
    return true;
}

bool etcd_each_pair(struct etcd_client *client, const struct etcd_range *range,
                    bool (*visit)(void *cookie, const struct etcd_pair *pair, struct error *err),
                    void *cookie, struct error *err)
{
    struct etcd_key from = range->from ? *range->from : *range->start;
    bool more = true;

    while (more) {
        auto_arena struct arena arena = { .limit = ETCD_ARENA_BYTES };
        struct etcd_range next = *range;
        struct etcd_page page;

        next.from = &from;
        if (!etcd_range_ask(client, &next, &arena, etcd_until(client), &page, err))
            return false;
        for (size_t i = 0; i < page.n; i++) {
            const struct etcd_pair pair = etcd_page_at(&page, i);

            if (!visit(cookie, &pair, err))
                return false;
        }
        if (page.more && !etcd_page_next(&page, &from, err))
            return false;
        more = page.more;
    }
    return true;
}

bool etcd_get(struct etcd_client *client, const struct etcd_key *key, struct arena *arena,
              uint64_t until_ms, struct etcd_pair *out, struct error *err)
{
    Etcdserverpb__RangeRequest request = ETCDSERVERPB__RANGE_REQUEST__INIT;
    const struct etcd_call call = { "Range", &request.base, arena };
    ProtobufCMessage *message = NULL;
    struct etcd_key name = *key;

    request.key = (ProtobufCBinaryData){ name.len, name.bytes };
    if (!etcd_ask(client, &call, until_ms, &message, err))
        return false;
    const Etcdserverpb__RangeResponse *response = (Etcdserverpb__RangeResponse *)(void *)message;

    *out = (struct etcd_pair){ .revision = 0 };
    if (response->n_kvs == 0)
        return true;
    if (response->n_kvs > 1)
        return no_answer("more keys", err);
    if (!check_key(response->kvs[0], key, err))
        return false;
    *out = pair_of(response->kvs[0]);
    return true;
}
