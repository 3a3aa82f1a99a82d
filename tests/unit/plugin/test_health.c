/* SPDX-License-Identifier: Apache-2.0 */
#include "plugin/health.h"
#include "tests/unit/test.h"

static struct health *health;
static struct error err;

static int set_up(void **state UNUSED)
{
    return health_new(&health, &err) ? 0 : -1;
}

static int tear_down(void **state UNUSED)
{
    health_free(health);
    return 0;
}

static struct health_report report_of(const char *id)
{
    struct health_report report;

    health_get(health, id, &report);
    return report;
}

static struct error failure(enum error_code code, const char *reason)
{
    struct error e = ERROR_INIT;

    error_set(&e, code, "what happened");
    error_reason(&e, reason);
    return e;
}

static void unknown_volume_is_healthy(void **state UNUSED)
{
    struct health_report report = report_of("v1");

    assert_int_equal(report.n, 0);
    assert_string_equal(report.volume_id, "v1");
    assert_false(health_next(health, "", &report));
}

static void last_failed_stage_counts_until_one_succeeds(void **state UNUSED)
{
    struct error broker = failure(ERROR_UNAVAILABLE, "BrokerUnreachable");
    struct error rolled = failure(ERROR_FAILED_PRECONDITION, "RolledBack");

    health_stage_failed(health, "v1", &broker);
    health_stage_failed(health, "v1", &rolled);
    struct health_report report = report_of("v1");
    assert_int_equal(report.n, 1);
    assert_string_equal(report.entries[0].reason, "RolledBack");
    assert_int_equal(report.entries[0].status, HEALTH_INACCESSIBLE);
    assert_string_equal(report.entries[0].message, "what happened");
    health_staged(health, "v1", true);
    assert_int_equal(report_of("v1").n, 0);
}

static void lost_data_is_said_to_be_lost(void **state UNUSED)
{
    struct error e = failure(ERROR_DATA_LOSS, "MapFailed");

    health_stage_failed(health, "v1", &e);
    assert_int_equal(report_of("v1").entries[0].status, HEALTH_DATA_LOSS);
}

static void failure_without_a_name_is_a_failed_stage(void **state UNUSED)
{
    struct error e = failure(ERROR_INTERNAL, "");

    health_stage_failed(health, "v1", &e);
    assert_string_equal(report_of("v1").entries[0].reason, "StageFailed");
}

static void retries_and_wrong_requests_are_no_news(void **state UNUSED)
{
    static const enum error_code codes[] = { ERROR_ABORTED, ERROR_INVALID_ARGUMENT, ERROR_NOT_FOUND,
                                             ERROR_ALREADY_EXISTS, ERROR_FAILED_PRECONDITION };

    for (size_t i = 0; i < ARRAY_LEN(codes); i++) {
        struct error e = failure(codes[i], "");

        health_stage_failed(health, "v1", &e);
        assert_int_equal(report_of("v1").n, 0);
    }
}

/* A report is large: each on a frame of its own. */
__attribute__((noinline)) static void expect_report(uint32_t n, uint64_t integrity_errors)
{
    struct health_report report = report_of("v1");

    assert_int_equal(report.n, n);
    assert_int_equal(report.integrity_errors, integrity_errors);
}

static void active_volume_keeps_what_is_wrong_with_it(void **state UNUSED)
{
    health_integrity_errors(health, "v1", 2);
    health_integrity_errors(health, "v1", 3);
    health_note(health, "v1", HEALTH_MAP_FAILED, "map");
    health_note(health, "v1", HEALTH_OVERLAY_FULL, "overlay");
    health_staged(health, "v1", false);
    expect_report(3, 5);
    health_unstaged(health, "v1");
    expect_report(2, 5);
    health_staged(health, "v1", true);
    expect_report(0, 5); /* a counter never goes back */
    health_forget(health, "v1");
    assert_int_equal(report_of("v1").integrity_errors, 0);
}

static void notes_of_a_failed_stage_end_with_the_unstage(void **state UNUSED)
{
    struct error damaged = failure(ERROR_FAILED_PRECONDITION, "FileSystemDamaged");
    struct error rolled = failure(ERROR_FAILED_PRECONDITION, "RolledBack");

    health_stage_failed(health, "v1", &damaged);
    assert_string_equal(report_of("v1").entries[0].reason, "StageFailed");
    health_stage_failed(health, "v1", &rolled);
    health_integrity_errors(health, "v1", 1);
    health_unstaged(health, "v1");
    struct health_report report = report_of("v1");
    assert_int_equal(report.n, 1);
    assert_string_equal(report.entries[0].reason, "IntegrityErrors");
}

static void one_note_can_be_taken_back(void **state UNUSED)
{
    health_note(health, "v1", HEALTH_LEASE_LOST, "stopped");
    health_note(health, "v1", HEALTH_WRITES_FAILED, "lost");
    health_clear(health, "v1", HEALTH_LEASE_LOST);
    struct health_report report = report_of("v1");
    assert_int_equal(report.n, 1);
    assert_string_equal(report.entries[0].reason, "WritesFailed");
    health_clear(health, "v1", HEALTH_WRITES_FAILED);
    health_clear(health, "v2", HEALTH_WRITES_FAILED);
    assert_int_equal(report_of("v1").n, 0);
}

static void a_file_system_that_works_again_is_well(void **state UNUSED)
{
    struct error e = failure(ERROR_FAILED_PRECONDITION, "FileSystemShutDown");

    health_stage_failed(health, "v1", &e);
    assert_string_equal(report_of("v1").entries[0].reason, "FileSystemShutDown");
    health_note(health, "v1", HEALTH_FILE_SYSTEM_READ_ONLY, "read-only");
    health_note(health, "v1", HEALTH_WRITES_FAILED, "lost");
    health_staged(health, "v1", false);
    struct health_report report = report_of("v1");
    assert_int_equal(report.n, 1);
    assert_string_equal(report.entries[0].reason, "WritesFailed");
}

static void no_reason_appears_twice(void **state UNUSED)
{
    health_note(health, "v1", HEALTH_OVERLAY_FULL, "first");
    health_note(health, "v1", HEALTH_OVERLAY_FULL, "second");
    struct health_report report = report_of("v1");
    assert_int_equal(report.n, 1);
    assert_string_equal(report.entries[0].message, "second");
    health_unstaged(health, "v1");
    assert_int_equal(report_of("v1").n, 0);
}

static void volumes_come_in_the_order_of_their_ids(void **state UNUSED)
{
    static const char *const ids[] = { "v2", "v9", "v1", "v5" };
    static const char *const sorted[] = { "v1", "v2", "v5", "v9" };
    struct health_report report = { .volume_id = "" };

    for (size_t i = 0; i < ARRAY_LEN(ids); i++)
        health_note(health, ids[i], HEALTH_MAP_FAILED, "x");
    for (size_t i = 0; i < ARRAY_LEN(sorted); i++) {
        assert_true(health_next(health, report.volume_id, &report));
        assert_string_equal(report.volume_id, sorted[i]);
    }
    assert_false(health_next(health, report.volume_id, &report));
}

#define T(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(unknown_volume_is_healthy),
        T(last_failed_stage_counts_until_one_succeeds),
        T(lost_data_is_said_to_be_lost),
        T(failure_without_a_name_is_a_failed_stage),
        T(retries_and_wrong_requests_are_no_news),
        T(active_volume_keeps_what_is_wrong_with_it),
        T(notes_of_a_failed_stage_end_with_the_unstage),
        T(one_note_can_be_taken_back),
        T(a_file_system_that_works_again_is_well),
        T(no_reason_appears_twice),
        T(volumes_come_in_the_order_of_their_ids),
    };

    return RUN_TESTS(tests);
}
