/* SPDX-License-Identifier: Apache-2.0 */
#include "audit/audit_verify.h"
#include "tests/unit/audit/logs.h"

#include <stdio.h>
#include <stdlib.h>

static struct logs logs;
static struct audit_files set;
static struct audit_verification v;
static struct audit_known_head heads[2];

static int setup(void **state)
{
    (void)state;
    logs_setup(&logs);
    set = (struct audit_files){ .n = 0 };
    v = (struct audit_verification){ .n_roots = 0 };
    return 0;
}

static void forget(void)
{
    audit_verification_done(&v);
    audit_files_close(&set);
}

static int teardown(void **state)
{
    (void)state;
    forget();
    logs_teardown(&logs);
    return 0;
}

static void tell_nothing(void *cookie, const char *text)
{
    (void)cookie;
    fail_msg("%s", text);
}

/* Reads the folder anew. */
static const struct audit_log_report *verify(size_t n_roots, size_t n_heads)
{
    const struct audit_teller teller = { .tell = tell_nothing };
    struct error err = ERROR_INIT;

    forget();
    v = (struct audit_verification){
        .roots = &logs.key, .n_roots = n_roots, .heads = heads, .n_heads = n_heads
    };
    assert_ok(audit_files_add(&set, logs.dir, &err));
    assert_ok(audit_files_order(&set, &teller, &err));
    assert_ok(audit_verify(&v, &set, &err));
    assert_int_equal(v.n_logs, set.n_logs);
    return v.logs;
}

static const char *const lines[] = { "one", "two", "|", "three" };

static void know(size_t i, const struct audit_chain *head)
{
    heads[i] = (struct audit_known_head){ .seq = head->seq };
    memcpy(heads[i].id, head->id, sizeof(head->id));
    memcpy(heads[i].hash, head->hash, sizeof(head->hash));
}

/* begun, one, two; rotated, three */
static struct audit_chain write_log(const char *name)
{
    struct audit_chain head = audit_chain_none();

    logs_write(&logs, name, lines, ARRAY_LEN(lines), &head);
    return head;
}

static void a_good_log_is_described(void **state UNUSED)
{
    const struct audit_chain head = write_log("r1");

    know(0, &head);
    const struct audit_log_report *log = verify(1, 1);

    assert_int_equal(v.n_logs, 1);
    assert_int_equal(log->problem.code, ERROR_NONE);
    assert_string_equal(log->replica, "r1");
    assert_int_equal(log->n_files, 2);
    assert_int_equal(log->lines, 5);
    assert_int_equal(log->first_seq, 1);
    assert_int_equal(log->last_seq, 5);
    assert_true(log->has_macs && log->has_start && log->has_id);
    assert_memory_equal(log->id, head.id, AUDIT_CHAIN_ID_LEN);
    assert_int_equal(log->head, 0);
    assert_int_equal(log->after_head, 0);
    assert_int_equal(heads[0].log, 0);
    assert_int_equal(log->torn + log->restarts, 0);
}

/* Each byte of each file, changed: the hashes, or the MACs, or the head tell it. */
static void each_changed_byte_is_noticed(void **state UNUSED)
{
    static const char *const names[] = { "r1.1", "r1" };
    const struct audit_chain head = write_log("r1");

    know(0, &head);
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        size_t len = 0;
        auto_free char *text = logs_read(&logs, names[i], &len);

        for (size_t at = 0; at < len; at += 3) {
            text[at] ^= 1;
            logs_put(&logs, names[i], text, len);
            const struct audit_log_report *log = verify(1, 1);

            bool is_bad = v.n_logs != 1 || heads[0].log == AUDIT_NO_FILE || log->torn > 0 ||
                          log->problem.code != ERROR_NONE;
            if (!is_bad && !(i == 1 && at == len - 1)) /* the last line end is not in the chain */
                fail_msg("byte %zu of %s", at, names[i]);
            text[at] ^= 1;
        }
        logs_put(&logs, names[i], text, len);
    }
}

static void a_head_that_is_older_leaves_lines_unproven(void **state UNUSED)
{
    struct audit_chain head = write_log("r1");
    size_t len = 0;
    auto_free char *text = logs_read(&logs, "r1.1", &len);
    struct error err = ERROR_INIT;
    size_t begin = logs_line(text, 1), end = logs_line(text, 2);

    assert_ok(audit_line_hash(text + begin, end - begin - 1, head.hash, &err));
    head.seq = 2;
    know(0, &head);
    const struct audit_log_report *log = verify(0, 1);

    assert_int_equal(log->head, 0);
    assert_int_equal(log->after_head, 3);
    assert_false(log->has_macs);
}

static void of_two_heads_the_later_counts(void **state UNUSED)
{
    struct audit_chain head = write_log("r1");
    size_t len = 0;
    auto_free char *text = logs_read(&logs, "r1.1", &len);
    struct error err = ERROR_INIT;

    know(0, &head);
    assert_ok(audit_line_hash(text, logs_line(text, 1) - 1, head.hash, &err));
    know(1, &head);
    const struct audit_log_report *log = verify(0, 2);

    assert_int_equal(log->head, 0);
    assert_int_equal(log->after_head, 0);
    assert_int_equal(heads[1].log, 0);
}

static void a_log_cut_at_its_end_has_no_head(void **state UNUSED)
{
    const struct audit_chain head = write_log("r1");
    size_t len = 0;
    auto_free char *text = logs_read(&logs, "r1", &len);

    know(0, &head);
    logs_put(&logs, "r1", text, logs_line(text, 1));
    const struct audit_log_report *log = verify(1, 1);

    assert_int_equal(log->problem.code, ERROR_NONE);
    assert_int_equal(log->head, SIZE_MAX);
    assert_int_equal(heads[0].log, AUDIT_NO_FILE);
    logs_put(&logs, "r1", text, len - 5); /* torn */
    log = verify(1, 1);
    assert_true(log->ends_torn);
    assert_int_equal(log->torn, 1);
    assert_int_equal(heads[0].log, AUDIT_NO_FILE);
}

static void a_problem_is_named_with_its_place(void **state UNUSED)
{
    size_t len = 0;

    (void)write_log("r1");
    auto_free char *text = logs_read(&logs, "r1", &len);
    size_t second = logs_line(text, 1);

    text[second + 20] ^= 1; /* its time */
    logs_put(&logs, "r1", text, len);
    const struct audit_log_report *log = verify(1, 0);

    assert_int_equal(log->problem.code, ERROR_DATA_LOSS);
    assert_int_equal(log->problem_number, 2);
    assert_string_equal(log->problem_path, logs_path(&logs, "r1"));
}

static void the_key_that_fits_is_found(void **state UNUSED)
{
    struct secret keys[2] = { SECRET_INIT, SECRET_INIT };
    const struct audit_teller teller = { .tell = tell_nothing };
    struct error err = ERROR_INIT;

    (void)write_log("r1");
    assert_ok(secret_random(&keys[0], 32, &err));
    assert_ok(secret_alloc(&keys[1], 32, &err));
    memcpy(keys[1].bytes, logs.key.bytes, 32);
    v = (struct audit_verification){ .roots = keys, .n_roots = 2 };
    assert_ok(audit_files_add(&set, logs.dir, &err));
    assert_ok(audit_files_order(&set, &teller, &err));
    assert_ok(audit_verify(&v, &set, &err));
    assert_int_equal(v.logs->problem.code, ERROR_NONE);
    assert_true(v.logs->has_macs);
    audit_verification_done(&v);
    v.n_roots = 1;
    assert_ok(audit_verify(&v, &set, &err));
    assert_contains(v.logs->problem.text, "MAC");
    secret_wipe(&keys[0]);
    secret_wipe(&keys[1]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_good_log_is_described, setup, teardown),
        cmocka_unit_test_setup_teardown(each_changed_byte_is_noticed, setup, teardown),
        cmocka_unit_test_setup_teardown(a_head_that_is_older_leaves_lines_unproven, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(of_two_heads_the_later_counts, setup, teardown),
        cmocka_unit_test_setup_teardown(a_log_cut_at_its_end_has_no_head, setup, teardown),
        cmocka_unit_test_setup_teardown(a_problem_is_named_with_its_place, setup, teardown),
        cmocka_unit_test_setup_teardown(the_key_that_fits_is_found, setup, teardown),
    };

    return RUN_TESTS(tests);
}
