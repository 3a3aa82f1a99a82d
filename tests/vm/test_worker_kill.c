/* SPDX-License-Identifier: Apache-2.0 */
#include "base/file.h"
#include "record/layout.h"
#include "tests/vm/steps.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

/* Workers die at every fault point. After that a retry succeeds, data that was synced is there, and
 * nothing was formatted twice. Needs a build with -Dfaults=true. */

#define LOG_FILE   "/tmp/fault-log"
#define POINTS_MAX 128
#define NAME_MAX_  64

static char points[POINTS_MAX][NAME_MAX_];
static size_t n_points;
static unsigned n_deaths;

/* Repeats the operation when the worker died, as a CO does. */
static void retried(const struct block_request *request, struct block_result *result)
{
    static struct block_request kept;
    struct error err = ERROR_INIT;

    kept = *request;
    /* ABORTED: recovery of what the dead worker left still runs. */
    for (int i = 0; i < 100; i++) {
        if (front_call(&front, &kept, result, &err))
            return;
        if (err.code == ERROR_CANCELLED)
            n_deaths++;
        else if (err.code == ERROR_ABORTED)
            (void)usleep(100 * 1000);
        else
            break;
    }
    fail_msg("operation %u: %s: %s", kept.operation, error_code_name(err.code), err.text);
}

/* One life of a volume, with every operation that changes something. */
static void live(void)
{
    front_add(&front, "a", INTEGRITY_AEGIS128, "ext4", 32 * MIB);
    struct block_request *make = front_request(BLOCK_CREATE, "a");
    make->size_bytes = front_record(&front, "a")->spec.device_bytes;
    make->reserve = true;
    retried(make, NULL);
    retried(stage_request("a"), NULL);
    retried(publish_request("a", "mnt/target"), NULL);
    write_text("mnt/target/file", "hello");
    front_add_copy(&front, "b", "a");
    struct block_request *copy = front_request(BLOCK_COPY, "a");
    (void)snprintf(copy->copy_id, sizeof(copy->copy_id), "b");
    retried(copy, NULL);
    retried(with_path(front_request(BLOCK_UNPUBLISH, "a"), "mnt/target"), NULL);
    retried(unstage_request("a"), NULL);
    assert_true(front_record(&front, "a")->is_closed);
    retried(stage_request("a"), NULL);
    expect_text("mnt/stage-a/file", "hello");
    retried(stage_request("b"), NULL);
    expect_text("mnt/stage-b/file", "hello");
    retried(unstage_request("b"), NULL);
    retried(unstage_request("a"), NULL);
    retried(front_request(BLOCK_DELETE, "b"), NULL);
    retried(front_request(BLOCK_DELETE, "a"), NULL);
    assert_int_equal(0, count_in(front_path(&front, "local"), ""));
    expect_nothing_left();
}

/* The data as the disk has it, not the page cache. */
static void expect_stored_text(const char *text)
{
    auto_close int fd = open("/proc/sys/vm/drop_caches", O_WRONLY | O_CLOEXEC);

    sync();
    assert_int_equal(1, write(fd, "3", 1));
    expect_text("mnt/stage-a/file", text);
}

/* A worker died while the volume grew. Its pod goes on, and finds the old or the new size. */
static void use_half_grown(uint64_t old_bytes, uint64_t new_bytes)
{
    wait_for_workers();
    uint64_t shown = device_of("a").size_bytes;
    assert_true(shown == old_bytes || shown == new_bytes);
    assert_int_equal(0, loaded_layers("a"));
    expect_stored_text("hello");
    write_text("mnt/stage-a/file", "after");
    expect_stored_text("after");
    write_text("mnt/stage-a/file", "hello");
}

static void grow(uint64_t size, bool by_opening)
{
    static struct block_result result;
    struct error err = ERROR_INIT;
    struct record *record = front_record(&front, "a");
    uint64_t old_bytes = record->spec.size_bytes;

    assert_true(layout_plan_growth(&record->spec, size, &err));
    struct block_request *resize = front_request(BLOCK_RESIZE, "a");
    resize->size_bytes = record->spec.device_bytes;
    resize->reserve = true;
    retried(resize, NULL);
    struct block_request *expand = with_path(front_request(BLOCK_EXPAND, "a"), "mnt/stage-a");
    if (!front_call(&front, expand, &result, &err)) {
        assert_int_equal(ERROR_CANCELLED, err.code);
        n_deaths++;
        use_half_grown(old_bytes, size);
        if (by_opening) {
            retried(unstage_request("a"), NULL);
            retried(stage_request("a"), NULL);
            assert_int_equal(size, device_of("a").size_bytes);
        }
        retried(with_path(front_request(BLOCK_EXPAND, "a"), "mnt/stage-a"), &result);
    }
    assert_int_equal(size, result.size_bytes);
    assert_int_equal(size, device_of("a").size_bytes);
}

/* Two growths of a volume in use. */
static void live_and_grow_by(bool opening)
{
    create("a", INTEGRITY_AEGIS128, "ext4", 16 * MIB);
    must(stage_request("a"), NULL);
    write_text("mnt/stage-a/file", "hello");
    grow(32 * MIB, opening);
    grow(48 * MIB, opening);
    expect_stored_text("hello");
    must(unstage_request("a"), NULL);
    retried(stage_request("a"), NULL);
    expect_text("mnt/stage-a/file", "hello");
    must(unstage_request("a"), NULL);
    must(front_request(BLOCK_DELETE, "a"), NULL);
    expect_nothing_left();
}

static void live_and_grow(void)
{
    live_and_grow_by(false);
}

static void live_grow_and_open(void)
{
    live_and_grow_by(true);
}

/* Somebody else has the volume mounted for ever. */
static void live_with_agent(void)
{
    create("a", INTEGRITY_AEGIS128, "ext4", 16 * MIB);
    must(stage_request("a"), NULL);
    pid_t agent = start_agent();
    write_text("mnt/stage-a/file", "hello");
    retried(unstage_request("a"), NULL);
    expect_nothing_left();
    assert_true(front_record(&front, "a")->is_closed);
    must(stage_request("a"), NULL);
    expect_text("mnt/stage-a/file", "hello");
    end_agent(agent);
    must(unstage_request("a"), NULL);
    must(front_request(BLOCK_DELETE, "a"), NULL);
    expect_nothing_left();
}

static bool is_known(const char *point, size_t len)
{
    for (size_t i = 0; i < n_points; i++) {
        if (strlen(points[i]) == len && strncmp(points[i], point, len) == 0)
            return true;
    }
    return false;
}

/* Fault points are not listed by hand: a life without faults shows them. Appends those not seen
 * before. */
static void read_points(void)
{
    struct error err = ERROR_INIT;
    auto_free char *text = NULL;
    size_t len = 0;

    if (!file_read(LOG_FILE, MIB, &text, &len, &err))
        fail_msg("%s", err.text);
    for (char *rest = text, *line; (line = strsep(&rest, "\n"));) {
        size_t point_len = strcspn(line, " ");

        if (point_len == 0 || is_known(line, point_len))
            continue;
        assert_true(n_points < POINTS_MAX && point_len < NAME_MAX_);
        (void)snprintf(points[n_points++], NAME_MAX_, "%.*s", (int)point_len, line);
    }
    unlink(LOG_FILE);
}

/* One life in which the worker dies that passes the point for the n-th time. False when none did. */
static bool kill_at(const char *point, unsigned n, void (*live_once)(void))
{
    char rule[NAME_MAX_ + 16];

    (void)snprintf(rule, sizeof(rule), "%.*s:kill:%u", NAME_MAX_, point, n);
    print_message("kill at %s, time %u\n", point, n);
    steps_set_fault(rule);
    n_deaths = 0;
    front.n_volumes = 0;
    live_once();
    bool died = access(STEPS_FAULT_FILE, F_OK) != 0;
    assert_int_equal(died ? 1 : 0, n_deaths);
    steps_set_fault(NULL);
    return died;
}

/* A worker passes these points once for each layer. */
static bool is_of_layers(const char *point)
{
    return strncmp(point, "worker.table.", strlen("worker.table.")) == 0;
}

/* One life for each time that a worker passes the point. Returns their number. */
static unsigned kill_each_time(const char *point, void (*live_once)(void))
{
    unsigned n = 1;

    assert_true(kill_at(point, 1, live_once));
    while (is_of_layers(point) && kill_at(point, n + 1, live_once))
        n++;
    return n;
}

/* Lives for each fault point that this kind of life is the first to pass. */
static void kill_everywhere(void (*live_once)(void), size_t least)
{
    size_t first = n_points;

    live_once();
    read_points();
    assert_true(n_points >= first + least);
    for (size_t i = first; i < n_points; i++)
        kill_each_time(points[i], live_once);
    unlink(LOG_FILE);
}

static void a_worker_killed_at_any_point_does_no_harm(void **state)
{
    (void)state;
    kill_everywhere(live, 20);
}

static void a_worker_killed_while_growing_does_no_harm(void **state)
{
    (void)state;
    kill_everywhere(live_and_grow, 7);
    assert_true(kill_each_time("worker.table.loaded", live_grow_and_open) > 7);
}

static void a_worker_killed_while_it_takes_a_volume_away_does_no_harm(void **state)
{
    (void)state;
    static const char *const moments[] = { "worker.unstage.held",    "worker.table.loaded",
                                           "worker.table.suspended", "worker.table.renamed",
                                           "worker.unstage.stopped", "worker.unstage.kept" };

    for (size_t i = 0; i < ARRAY_LEN(moments); i++)
        kill_each_time(moments[i], live_with_agent);
}

int main(void)
{
    cmocka_set_message_output(CM_OUTPUT_TAP);
    setenv("TDVOL_FAULT", "@" STEPS_FAULT_FILE, 1);
    setenv("TDVOL_FAULT_LOG", LOG_FILE, 1);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_worker_killed_at_any_point_does_no_harm, steps_start,
                                        steps_end),
        cmocka_unit_test_setup_teardown(a_worker_killed_while_growing_does_no_harm, steps_start,
                                        steps_end),
        cmocka_unit_test_setup_teardown(a_worker_killed_while_it_takes_a_volume_away_does_no_harm,
                                        steps_start, steps_end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
