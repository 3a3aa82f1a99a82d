/* SPDX-License-Identifier: Apache-2.0 */
#include "audit/audit_head.h"
#include "store/seal.h"
#include "tests/unit/broker/store_memory.h"
#include "tests/unit/test.h"

static struct secret master, key;
static struct audit_chain chain;

static int setup(void **state)
{
    static const uint8_t id[AUDIT_CHAIN_ID_LEN] = { 1, 2, 3 };
    struct error err = ERROR_INIT;

    (void)state;
    chain = audit_chain_none();
    assert_ok(secret_random(&master, 32, &err));
    assert_ok(seal_derive(&master, SEAL_AUDIT_HEAD, &key, &err));
    assert_ok(audit_chain_begin(&chain, &master, id, 5, &err));
    chain.seq = 9;
    chain.hash[0] = 'a';
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    audit_chain_wipe(&chain);
    secret_wipe(&master);
    secret_wipe(&key);
    return 0;
}

static void a_head_is_what_was_made(void **state UNUSED)
{
    auto_audit_chain struct audit_chain out = audit_chain_none();
    struct store_head head;
    struct error err = ERROR_INIT;
    bool found = false;

    assert_ok(audit_head_make(&key, &chain, &head, &err));
    assert_int_equal(head.seq, 9);
    assert_ok(audit_head_open(&key, &head, &out, &found, &err));
    assert_true(found);
    assert_int_equal(out.seq, 9);
    assert_int_equal(out.first, 5);
    assert_string_equal(out.hash, chain.hash);
    assert_memory_equal(out.id, chain.id, sizeof(out.id));
    assert_memory_equal(out.key.bytes, chain.key.bytes, chain.key.len);
}

static void assert_not_found(const struct secret *with, const struct store_head *head)
{
    auto_audit_chain struct audit_chain out = audit_chain_none();
    struct error err = ERROR_INIT;
    bool found = true;

    assert_ok(audit_head_open(with, head, &out, &found, &err));
    assert_false(found);
    assert_null(out.key.bytes);
}

static void no_changed_head_is_taken(void **state UNUSED)
{
    struct store_head head;
    struct error err = ERROR_INIT;

    assert_ok(audit_head_make(&key, &chain, &head, &err));
    for (size_t i = 0; i < head.len; i++) {
        head.bytes[i] ^= 1;
        assert_not_found(&key, &head);
        head.bytes[i] ^= 1;
    }
    head.seq++;
    assert_not_found(&key, &head);
    head.seq--;
    head.len--;
    assert_not_found(&key, &head);
    head.len++;
    assert_not_found(&master, &head);
    head.seq = 0;
    assert_not_found(&key, &head);
}

static bool count(void *cookie, const char *replica, const struct audit_chain *head)
{
    unsigned *n = cookie;

    assert_string_equal(replica, "");
    assert_int_equal(head->seq, 9);
    ++*n;
    return true;
}

static void a_store_of_one_broker_has_one_head_or_none(void **state UNUSED)
{
    auto_store struct store *store = NULL;
    struct store_head head;
    struct error err = ERROR_INIT;
    unsigned n = 0;
    const struct audit_head_visitor visitor = { .visit = count, .cookie = &n };

    assert_ok(store_memory_open(&store, &err));
    assert_ok(audit_heads_each(store, &key, &visitor, &err));
    assert_int_equal(n, 0);
    assert_ok(audit_head_make(&key, &chain, &head, &err));
    assert_ok(store->ops->put_head(store, &head, &err));
    assert_ok(audit_heads_each(store, &key, &visitor, &err));
    assert_int_equal(n, 1);
    head.seq++;
    assert_ok(store->ops->put_head(store, &head, &err)); /* not the number that was sealed */
    assert_refused(ERROR_DATA_LOSS, audit_heads_each(store, &key, &visitor, &err));
    assert_int_equal(n, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_head_is_what_was_made, setup, teardown),
        cmocka_unit_test_setup_teardown(no_changed_head_is_taken, setup, teardown),
        cmocka_unit_test_setup_teardown(a_store_of_one_broker_has_one_head_or_none, setup,
                                        teardown),
    };

    return RUN_TESTS(tests);
}
