/* SPDX-License-Identifier: Apache-2.0 */
#include "base/clock.h"
#include "crypt/layer.h"
#include "record/layout.h"
#include "tests/vm/steps.h"

#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

/* The front, tdvol-blockd or a caller goes away at the worst moment. Needs a build with
 * -Dfaults=true. */

/* Sends the request and answers the worker until it passes the fault point for the n-th time, and
 * sleeps there. */
static int run_to_sleep(const char *point, unsigned n, const struct block_request *request)
{
    char rule[80];

    (void)snprintf(rule, sizeof(rule), "%.64s:sleep:%u", point, n);
    steps_set_fault(rule);
    int fd = front_send(&front, request);
    while (access(STEPS_FAULT_FILE, F_OK) == 0) {
        struct pollfd wait = { .fd = fd, .events = POLLIN };

        if (poll(&wait, 1, 10) == 0)
            continue;
        assert_true(front_receive(&front, fd, 1000));
        assert_true(front.last.kind != BLOCK_DONE);
        front_answer(&front, fd, request->volume_id);
    }
    return fd;
}

static void expect_death(pid_t pid)
{
    int status = 0;

    assert_int_equal(pid, waitpid(pid, &status, 0));
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
}

/* Stops everything while a worker sleeps at this fault point of a first stage. Then goes on. */
static void die_at(const char *point, bool by_front)
{
    front.n_volumes = 0;
    create("a", INTEGRITY_AEGIS128, "ext4", 32 * MIB);
    auto_close int fd = run_to_sleep(point, 1, stage_request("a"));
    pid_t worker = front_worker(&front), blockd = front.blockd;
    assert_true(fd >= 0 && worker > 0);
    if (by_front) {
        assert_int_equal(0, front_stop(&front));
    } else {
        assert_int_equal(0, kill(blockd, SIGKILL));
        assert_int_equal(128 + SIGKILL, front_stop(&front));
    }
    expect_death(worker);
    front_start_again(&front);
    must(stage_request("a"), NULL);
    write_text("mnt/stage-a/file", "hello");
    must(unstage_request("a"), NULL);
    must(front_request(BLOCK_DELETE, "a"), NULL);
    expect_nothing_left();
}

static void workers_die_with_blockd_and_with_the_front(void **state)
{
    (void)state;
    static const char *const at[] = { "worker.stage.attached", "worker.stage.activated",
                                      "worker.stage.made", "worker.stage.mounted" };
    for (size_t i = 0; i < sizeof(at) / sizeof(at[0]); i++) {
        die_at(at[i], false);
        die_at(at[i], true);
    }
}

/* The caller goes away at the n-th question. False when there was no such question. */
static bool cancel_at(unsigned n, const struct block_request *request)
{
    auto_close int fd = front_send(&front, request);

    for (unsigned i = 1; front_receive(&front, fd, 60000); i++) {
        if (front.last.kind == BLOCK_DONE)
            return false;
        if (i == n)
            return true;
        front_answer(&front, fd, request->volume_id);
    }
    fail();
    return false;
}

static void a_cancelled_stage_leaves_nothing_open(void **state)
{
    (void)state;
    unsigned n = 1;
    create("a", INTEGRITY_AEGIS128, "ext4", 32 * MIB);
    for (; cancel_at(n, stage_request("a")); n++) {
        wait_for_workers();
        assert_int_equal(0, count_in("/dev/mapper", "tdvol-"));
    }
    assert_true(n > 3);
    must(unstage_request("a"), NULL);
    expect_nothing_left();
}

static void a_worker_does_not_outlive_its_deadline(void **state)
{
    (void)state;
    create("a", INTEGRITY_AEGIS128, "ext4", 32 * MIB);
    struct block_request *stage = stage_request("a");
    uint64_t start_ms = clock_now_ms();
    stage->deadline_ms = start_ms + 2500;
    auto_close int fd = run_to_sleep("worker.stage.activated", 1, stage);
    assert_false(front_receive(&front, fd, 10000));
    assert_true(clock_now_ms() < start_ms + 6000);
    stage->deadline_ms = 0;
    must(stage, NULL);
    must(unstage_request("a"), NULL);
    expect_nothing_left();
}

static void what_a_dead_worker_suspended_is_resumed(void **state)
{
    (void)state;
    static struct block_result result;
    create("a", INTEGRITY_AEGIS128, "ext4", 32 * MIB);
    must(stage_request("a"), NULL);
    write_text("mnt/stage-a/file", "hello");
    for (int again = 0; again < 2; again++) {
        struct block_request *copy = front_request(BLOCK_COPY, "a");

        (void)snprintf(copy->copy_id, sizeof(copy->copy_id), "b");
        auto_close int fd = run_to_sleep("worker.copy.suspended", 1, copy);
        pid_t worker = front_worker(&front);
        assert_true(fd >= 0 && worker > 0);
        must(front_request(BLOCK_INSPECT, "a"), &result);
        assert_true(result.status.is_suspended);
        if (again) {
            /* blockd goes away first. The worker stays until its copy is finished. */
            kill(front.blockd, SIGKILL);
            front_stop(&front);
            assert_int_equal(0, waitpid(worker, NULL, WNOHANG));
            kill(worker, SIGKILL);
            expect_death(worker);
            front_start_again(&front);
        } else {
            kill(worker, SIGKILL);
        }
        write_text("mnt/stage-a/file", "later"); /* waits until the volume is resumed */
        for (int i = 0; i < 100 && count_in(front_path(&front, "local"), "b"); i++)
            usleep(20000);
        assert_int_equal(0, count_in(front_path(&front, "local"), "b"));
    }
    must(unstage_request("a"), NULL);
    expect_nothing_left();
}

/* The table of dm-crypt holds the volume key. */
static void a_table_that_a_dead_worker_loaded_is_dropped(void **state)
{
    (void)state;
    struct error err = ERROR_INIT;
    stage_with_file("a", INTEGRITY_AEGIS128);
    struct record *record = front_record(&front, "a");
    assert_true(layout_plan_growth(&record->spec, 64 * MIB, &err));
    struct block_request *resize = front_request(BLOCK_RESIZE, "a");
    resize->size_bytes = record->spec.device_bytes;
    must(resize, NULL);
    for (int again = 0; again < 2; again++) {
        struct block_request *expand = with_path(front_request(BLOCK_EXPAND, "a"), "mnt/stage-a");

        /* What lies below dm-crypt comes first, and is long enough the second time. */
        auto_close int fd = run_to_sleep("worker.table.loaded", again ? 1 : 3, expand);
        pid_t worker = front_worker(&front);
        assert_true(fd >= 0 && worker > 0);
        assert_int_equal(1u << LAYER_CRYPT, loaded_layers("a"));
        if (again) {
            kill(front.blockd, SIGKILL);
            front_stop(&front);
            expect_death(worker);
            assert_int_equal(1u << LAYER_CRYPT, loaded_layers("a"));
            front_start_again(&front);
            must(front_request(BLOCK_INSPECT, "a"), NULL); /* recovery comes before it */
        } else {
            kill(worker, SIGKILL);
            assert_false(front_receive(&front, fd, 10000));
            wait_for_workers();
        }
        assert_int_equal(0, loaded_layers("a"));
    }
    expect_text("mnt/stage-a/file", "hello");
    simple(BLOCK_EXPAND, "a", "mnt/stage-a");
    assert_int_equal(64 * MIB, device_of("a").size_bytes);
    must(unstage_request("a"), NULL);
    expect_nothing_left();
}

int main(void)
{
    cmocka_set_message_output(CM_OUTPUT_TAP);
    setenv("TDVOL_FAULT", "@" STEPS_FAULT_FILE, 1);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(workers_die_with_blockd_and_with_the_front, steps_start,
                                        steps_end),
        cmocka_unit_test_setup_teardown(a_cancelled_stage_leaves_nothing_open, steps_start,
                                        steps_end),
        cmocka_unit_test_setup_teardown(a_worker_does_not_outlive_its_deadline, steps_start,
                                        steps_end),
        cmocka_unit_test_setup_teardown(what_a_dead_worker_suspended_is_resumed, steps_start,
                                        steps_end),
        cmocka_unit_test_setup_teardown(a_table_that_a_dead_worker_loaded_is_dropped, steps_start,
                                        steps_end),
    };
    /* Make this process the parent of orphans, to see when they end. */
    if (prctl(PR_SET_CHILD_SUBREAPER, 1) != 0)
        return 1;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
