/* SPDX-License-Identifier: Apache-2.0 */
#include "broker/opening.h"
#include "tests/unit/broker/fixture.h"
#include "tests/unit/broker/store_memory.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* A sealed broker gets its key while it runs. */

static struct broker broker;
static struct master_source *source;
static struct opening *opening;
static struct error err;
static char folder[] = "/tmp/tdvol-opening-XXXXXX", audit_path[64];
static int unlocks_that_fail;

static uint64_t now(void)
{
    return 1000;
}

static struct store_ops faulty;
static bool (*real_unlock)(struct store *store, struct secret *key, struct store_check *out,
                           struct error *err);

static bool unlock(struct store *store, struct secret *key, struct store_check *out,
                   struct error *e)
{
    if (unlocks_that_fail-- > 0)
        return error_set(e, ERROR_UNAVAILABLE, "the store is away");
    return real_unlock(store, key, out, e);
}

static void start(const char *spec)
{
    const struct master_source_options from = { .spec = spec };

    assert_ok(master_source_new(&from, &source, &err));
    broker.unsealing = source;
    const struct opening_options options = { .broker = &broker,
                                             .source = source,
                                             .audit_path = audit_path };
    assert_ok(opening_new(&options, &opening, &err));
}

static int set_up(void **state UNUSED)
{
    static const char text[] =
        "{\"version\":1,\"rules\":[{\"name\":\"a\",\"match\":{\"certificate.cn\":"
        "\"a\"},\"tenant\":\"t\",\"may\":[\"unseal\"],\"volumes\":[\"*\"]}]}";
    auto_policy struct policy *policy = NULL;

    broker = (struct broker){ .now_ms = now, .steady_ms = now };
    err = (struct error)ERROR_INIT;
    unlocks_that_fail = 0;
    (void)snprintf(folder, sizeof(folder), "/tmp/tdvol-opening-XXXXXX");
    assert_non_null(mkdtemp(folder));
    (void)snprintf(audit_path, sizeof(audit_path), "%s/audit", folder);
    assert_ok(broker_init(&broker, &err));
    assert_ok(store_memory_open(&broker.store, &err));
    faulty = *broker.store->ops;
    real_unlock = faulty.unlock;
    faulty.unlock = unlock;
    broker.store->ops = &faulty;
    assert_ok(policy_parse(text, sizeof(text) - 1, &policy, &err));
    broker_set_policy(&broker, &policy);
    start("unseal:");
    return 0;
}

static int tear_down(void **state UNUSED)
{
    opening_free(&opening);
    master_source_free(&source);
    store_close(&broker.store);
    broker_done(&broker);
    (void)unlink(audit_path);
    return rmdir(folder);
}

/* 64 times the same digit. */
static void bring(char digit)
{
    auto_secret struct secret text = SECRET_INIT;
    struct master_progress progress = { .have = 0 };

    assert_ok(secret_alloc(&text, 2 * MASTER_KEY_LEN, &err));
    for (size_t i = 0; i < text.len; i++)
        text.bytes[i] = (uint8_t)digit;
    assert_ok(master_source_add(source, &text, &progress, &err));
}

static void it_opens_when_the_key_comes(void **state UNUSED)
{
    assert_refused(ERROR_UNAVAILABLE, opening_try(opening, &err));
    assert_refused(ERROR_UNAVAILABLE, broker_check_open(&broker, &err));
    assert_contains(err.text, "the broker is sealed: it waits for the master key");
    assert_null(broker.audit);
    bring('a');
    assert_ok(opening_try(opening, &err));
    assert_ok(broker_check_open(&broker, &err));
    assert_non_null(broker.audit);
    assert_int_equal(audit_lines(broker.audit), 2); /* "begun", "start" */
    assert_ok(opening_try(opening, &err));          /* and stays open */
    assert_ok(opening_record(opening, "stop", broker.policy, &err));
}

/* Nobody shall have to bring it again. */
static void key_is_kept_while_the_store_is_away(void **state UNUSED)
{
    bring('a');
    unlocks_that_fail = 2;
    assert_refused(ERROR_UNAVAILABLE, opening_try(opening, &err));
    assert_refused(ERROR_UNAVAILABLE, broker_check_open(&broker, &err));
    assert_contains(err.text, "the store is away");
    assert_refused(ERROR_UNAVAILABLE, opening_try(opening, &err));
    assert_int_equal(broker_keys_refused(&broker, &err), 0);
    assert_ok(opening_try(opening, &err));
    assert_true(broker_is_open(&broker));
}

static void key_of_another_store_is_dropped_and_counted(void **state UNUSED)
{
    uint8_t mark[STORE_MARK_LEN] = { 1 }, out[STORE_MARK_LEN];
    struct error why = ERROR_INIT;

    assert_ok(broker.store->ops->remember(broker.store, "master-key", mark, out, &err));
    bring('a');
    assert_refused(ERROR_FAILED_PRECONDITION, opening_try(opening, &err));
    assert_int_equal(broker_keys_refused(&broker, &why), 1);
    assert_contains(why.text, "another master key");
    assert_refused(ERROR_UNAVAILABLE, opening_try(opening, &err)); /* it waits for the next one */
    assert_false(broker_is_open(&broker));
}

static void source_that_gives_no_key_has_refused_none(void **state UNUSED)
{
    opening_free(&opening);
    master_source_free(&source);
    start("file:/no/such/key");
    assert_refused(ERROR_NOT_FOUND, opening_try(opening, &err));
    assert_contains(err.text, "/no/such/key");
    assert_int_equal(broker_keys_refused(&broker, &err), 0);
}

static void audit_log_that_cannot_be_written_keeps_it_sealed(void **state UNUSED)
{
    assert_int_equal(symlink("/no/such/folder/audit", audit_path), 0);
    bring('a');
    assert_false(opening_try(opening, &err));
    assert_false(broker_is_open(&broker));
    assert_null(broker.audit);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(it_opens_when_the_key_comes, set_up, tear_down),
        cmocka_unit_test_setup_teardown(key_is_kept_while_the_store_is_away, set_up, tear_down),
        cmocka_unit_test_setup_teardown(key_of_another_store_is_dropped_and_counted, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(source_that_gives_no_key_has_refused_none, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(audit_log_that_cannot_be_written_keeps_it_sealed, set_up,
                                        tear_down),
    };

    return RUN_TESTS(tests);
}
