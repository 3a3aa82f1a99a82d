/* SPDX-License-Identifier: Apache-2.0 */
#include "base/clock.h"
#include "blockd/stage_file.h"
#include "crypt/layer.h"
#include "crypt/withhold.h"
#include "tests/vm/steps.h"

#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

/* Leases that are over: the watcher has the volume stopped, and BLOCK_RENEW lets it go on. Each of both dies at
 * each of its steps. The test turns the end of the lease in the state folder forward, and so need not wait for it. */

#define LEASE_MS 30000u

static int watch = -1;
static char state_dir[128];

static struct volume_name name_of(const char *volume_id)
{
    struct volume_name name;
    struct error err = ERROR_INIT;

    assert_true(volume_name_make("test.tdvol", volume_id, &name, &err));
    return name;
}

static bool is_withheld(const char *volume_id)
{
    const struct volume_name name = name_of(volume_id);
    struct error err = ERROR_INIT;
    bool out = false;

    assert_true(volume_find_withheld(&name, &out, &err));
    return out;
}

static void start_watcher(void)
{
    close_at(&watch);
    watch = front_send(&front, front_request(BLOCK_WATCH, ""));
}

/* The front sees that it is gone. */
static void kill_watcher(void)
{
    assert_int_equal(0, kill(front_worker(&front), SIGKILL));
    while (front_receive(&front, watch, 20000))
        continue;
}

static void end_lease(const char *volume_id)
{
    const struct volume_name name = name_of(volume_id);
    struct lease_file lease;
    struct error err = ERROR_INIT;
    bool found = false;

    assert_true(lease_file_read(state_dir, &name, &found, &lease, &err) && found);
    assert_int_equal(LEASE_MS, lease.lease_ms);
    assert_true(lease.until_ms > clock_boottime_ms());
    lease.until_ms = clock_boottime_ms();
    assert_true(lease_file_write(state_dir, &name, &lease, &err));
}

static void stage_with_lease(const char *volume_id)
{
    char path[64];

    (void)snprintf(path, sizeof(path), "mnt/stage-%s/file", volume_id);
    (void)snprintf(state_dir, sizeof(state_dir), "%s", front_path(&front, "state"));
    front.lease_ms = LEASE_MS;
    create(volume_id, INTEGRITY_AEGIS128, "ext4", 32 * MIB);
    front_record(&front, volume_id)->spec.fencing = FENCING_SUSPEND;
    must(stage_request(volume_id), NULL);
    write_text(path, "hello");
}

/* A volume with a lease, staged, with a watcher. */
static void stage(void)
{
    stage_with_lease("a");
    start_watcher();
}

static void expect_event(enum block_event_kind kind)
{
    for (int i = 0; i < 200; i++) {
        assert_true(front_receive(&front, watch, 20000));
        assert_int_equal(BLOCK_EVENT, front.last.kind);
        if (front.last.event == kind)
            return;
    }
    fail();
}

static bool is_withheld_soon(const char *volume_id)
{
    for (int i = 0; i < 200; i++) {
        if (is_withheld(volume_id))
            return true;
        usleep(50 * 1000);
    }
    return false;
}

/* Goes on where it was, is closed cleanly, and has its file. */
static void expect_good_end(void)
{
    expect_text("mnt/stage-a/file", "hello");
    close_at(&watch);
    must(unstage_request("a"), NULL);
    assert_true(front_record(&front, "a")->is_closed);
    front.lease_ms = 0;
    must(stage_request("a"), NULL);
    expect_text("mnt/stage-a/file", "hello");
    must(unstage_request("a"), NULL);
    expect_nothing_left();
}

static void hold_back(struct front *f, struct block_answer *answer)
{
    (void)answer;
    if (f->last.kind == BLOCK_ASK_OPEN)
        usleep((LEASE_MS - 4000) * 1000);
}

/* The broker was slow, or the machine stood still: when the key comes, its lease is over again. Somebody else
 * may have the volume by then. */
static void a_key_that_comes_after_its_lease_starts_nothing(void **state)
{
    (void)state;
    struct error err = ERROR_INIT;

    stage();
    end_lease("a");
    expect_event(BLOCK_EVENT_LEASE_OVER);
    assert_true(is_withheld("a"));
    front.lie = hold_back;
    assert_false(front_call(&front, front_request(BLOCK_RENEW, "a"), NULL, &err));
    front.lie = NULL;
    assert_string_equal("ABORTED", error_code_name(err.code));
    assert_true(is_withheld("a"));
    must(front_request(BLOCK_RENEW, "a"), NULL);
    assert_false(is_withheld("a"));
    expect_good_end();
}

/* The lease was kept in time, and the worker gave the key so late that the watcher did not see the time in
 * between. What it stopped once it must look at again. */
static void a_volume_that_runs_though_its_lease_is_over_is_stopped_again(void **state)
{
    (void)state;

    stage();
    end_lease("a");
    expect_event(BLOCK_EVENT_LEASE_OVER); /* the worker that staged the volume has ended by then */
    const pid_t watcher = front_worker(&front);
    assert_int_equal(0, kill(watcher, SIGSTOP));
    must(front_request(BLOCK_RENEW, "a"), NULL);
    assert_false(is_withheld("a"));
    end_lease("a");
    assert_int_equal(0, kill(watcher, SIGCONT));
    assert_true(is_withheld_soon("a"));
    must(front_request(BLOCK_RENEW, "a"), NULL);
    expect_good_end();
}

static pid_t start_writer(const char *volume_id)
{
    char path[64];
    pid_t pid = fork();

    assert_true(pid >= 0);
    if (pid > 0)
        return pid;
    (void)snprintf(path, sizeof(path), "mnt/stage-%s/more", volume_id);
    int fd = open(front_path(&front, path), O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    _exit(fd >= 0 && write(fd, "more", 4) == 4 && fsync(fd) == 0 ? 0 : 1);
}

/* The disk of one volume hangs with a write on its way, as storage does that is cut off with the node. */
static void a_disk_that_hangs_does_not_keep_other_volumes_running(void **state)
{
    (void)state;
    /* The kernel lists volumes by their names, and the one that comes first hangs. */
    const bool a_is_first = strcmp(name_of("a").text, name_of("b").text) < 0;
    const char *hung = a_is_first ? "a" : "b", *other = a_is_first ? "b" : "a";
    const struct volume_name name = name_of(hung);
    const struct layer_name bottom = layer_name(&name, LAYER_BOTTOM);
    struct error err = ERROR_INIT;
    int status = -1;

    stage_with_lease("a");
    stage_with_lease("b");
    assert_true(table_suspend(bottom.text, TABLE_NO_FLUSH, &err));
    const pid_t writer = start_writer(hung);
    usleep(1000 * 1000);
    end_lease("a");
    end_lease("b");
    start_watcher();
    assert_true(is_withheld_soon(other));
    assert_false(is_withheld(hung));
    assert_int_equal(0, waitpid(writer, &status, WNOHANG));
    kill_watcher();
    start_watcher();
    expect_event(BLOCK_EVENT_LEASE_OVER);
    assert_true(table_resume(bottom.text, &err)); /* the disk is back */
    assert_true(is_withheld_soon(hung));
    must(front_request(BLOCK_RENEW, other), NULL);
    /* The process of the first watcher and that of the second one: the later one may stop it once more. */
    must(front_request(BLOCK_RENEW, hung), NULL);
    for (int i = 0; i < 200 && waitpid(writer, &status, WNOHANG) == 0; i++) {
        expect_event(BLOCK_EVENT_LEASE_DUE);
        must(front_request(BLOCK_RENEW, front.last.volume_id), NULL);
    }
    assert_int_equal(0, status);
    usleep(1000 * 1000);
    must(front_request(BLOCK_RENEW, hung), NULL);
    expect_text("mnt/stage-b/file", "hello");
    must(unstage_request("b"), NULL);
    expect_good_end();
}

/* The layers are suspended from the top: so many passings of a point. */
static void a_process_that_dies_while_it_stops_a_volume_is_followed_by_one_that_does(void **state)
{
    (void)state;
    static const char *const faults[] = { "worker.withhold.suspend:kill:1",
                                          "worker.withhold.suspend:kill:2",
                                          "worker.withhold.suspend:kill:3",
                                          "worker.withhold.suspend:kill:4",
                                          "worker.withhold.key:kill" };

    stage();
    for (size_t i = 0; i < sizeof(faults) / sizeof(faults[0]); i++) {
        print_message("# %s\n", faults[i]);
        steps_set_fault(faults[i]);
        end_lease("a");
        expect_event(BLOCK_EVENT_LEASE_OVER);
        assert_int_not_equal(0, access(STEPS_FAULT_FILE, F_OK));
        assert_true(is_withheld("a"));
        must(front_request(BLOCK_RENEW, "a"), NULL);
        assert_false(is_withheld("a"));
        expect_text("mnt/stage-a/file", "hello");
    }
    expect_good_end();
}

static void a_new_watcher_keeps_stopped_what_the_last_one_stopped(void **state)
{
    (void)state;

    stage();
    end_lease("a");
    expect_event(BLOCK_EVENT_LEASE_OVER);
    kill_watcher();
    start_watcher();
    expect_event(BLOCK_EVENT_LEASE_OVER);
    assert_true(is_withheld("a"));
    expect_event(BLOCK_EVENT_LEASE_DUE);
    must(front_request(BLOCK_RENEW, "a"), NULL);
    expect_good_end();
}

static void an_agent_does_not_keep_a_volume_that_lost_its_lease(void **state)
{
    (void)state;

    stage();
    const pid_t agent = start_agent();
    end_lease("a");
    expect_event(BLOCK_EVENT_LEASE_OVER);
    assert_true(is_withheld("a"));
    close_at(&watch);
    must(unstage_request("a"), NULL);
    expect_nothing_left();
    end_agent(agent);
}

static void a_renewal_that_dies_leaves_a_volume_that_the_next_one_lets_go_on(void **state)
{
    (void)state;
    static const char *const faults[] = { "worker.renew.keep:kill", "worker.renew.give:kill",
                                          "worker.withhold.given:kill" };
    struct error err = ERROR_INIT;

    stage();
    for (size_t i = 0; i < sizeof(faults) / sizeof(faults[0]); i++) {
        print_message("# %s\n", faults[i]);
        end_lease("a");
        expect_event(BLOCK_EVENT_LEASE_OVER);
        assert_true(is_withheld("a"));
        steps_set_fault(faults[i]);
        assert_false(front_call(&front, front_request(BLOCK_RENEW, "a"), NULL, &err));
        assert_string_equal("CANCELLED", error_code_name(err.code));
        assert_int_not_equal(0, access(STEPS_FAULT_FILE, F_OK));
        must(front_request(BLOCK_RENEW, "a"), NULL);
        assert_false(is_withheld("a"));
        expect_text("mnt/stage-a/file", "hello");
    }
    expect_good_end();
}

int main(void)
{
    setenv("TDVOL_FAULT", "@" STEPS_FAULT_FILE, 1);
    cmocka_set_message_output(CM_OUTPUT_TAP);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_key_that_comes_after_its_lease_starts_nothing,
                                        steps_start, steps_end),
        cmocka_unit_test_setup_teardown(
            a_volume_that_runs_though_its_lease_is_over_is_stopped_again, steps_start, steps_end),
        cmocka_unit_test_setup_teardown(a_disk_that_hangs_does_not_keep_other_volumes_running,
                                        steps_start, steps_end),
        cmocka_unit_test_setup_teardown(
            a_process_that_dies_while_it_stops_a_volume_is_followed_by_one_that_does, steps_start,
            steps_end),
        cmocka_unit_test_setup_teardown(an_agent_does_not_keep_a_volume_that_lost_its_lease,
                                        steps_start, steps_end),
        cmocka_unit_test_setup_teardown(a_new_watcher_keeps_stopped_what_the_last_one_stopped,
                                        steps_start, steps_end),
        cmocka_unit_test_setup_teardown(
            a_renewal_that_dies_leaves_a_volume_that_the_next_one_lets_go_on, steps_start,
            steps_end),
    };
    cmocka_set_test_filter(getenv("TDVOL_TEST"));
    return cmocka_run_group_tests(tests, NULL, NULL);
}
