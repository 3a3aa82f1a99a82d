/* SPDX-License-Identifier: Apache-2.0 */
#include "base/process.h"
#include "tests/vm/steps.h"

#include <limits.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <unistd.h>

#include <cmocka.h>

/* A close of which the broker was not told. */

#define DISK_OF_A "local/a.img"

static void copy_file(const char *from, const char *to)
{
    char paths[2][PATH_MAX];
    struct error err = ERROR_INIT;

    (void)snprintf(paths[0], PATH_MAX, "%s", front_path(&front, from));
    (void)snprintf(paths[1], PATH_MAX, "%s", front_path(&front, to));
    const char *argv[] = { "cp", "--sparse=always", paths[0], paths[1], NULL };
    assert_true(process_must(argv, 0, 0, &err));
}

/* Leaves a copy of the disk in "open", which is older than what is written now. */
static void write_newer(void)
{
    sync();
    copy_file(DISK_OF_A, "open");
    write_text("mnt/stage-a/file", "newer");
}

/* Leaves a copy of the disk in "closed", too. */
static void close_untold(void)
{
    write_newer();
    front.broker_down = true;
    must(unstage_request("a"), NULL);
    copy_file(DISK_OF_A, "closed");
    front.broker_down = false;
    assert_false(front_record(&front, "a")->is_closed);
}

/* The disk of "closed" is the true one. Afterwards nothing of the volume is left. */
static void expect_the_closed_disk(void)
{
    copy_file("closed", DISK_OF_A);
    must(stage_request("a"), NULL);
    expect_text("mnt/stage-a/file", "newer");
    must(unstage_request("a"), NULL);
    must(front_request(BLOCK_DELETE, "a"), NULL);
    expect_nothing_left();
}

static void an_old_disk_is_refused_though_the_broker_was_not_told_of_the_close(void **state)
{
    (void)state;
    static const enum integrity modes[] = { INTEGRITY_AEGIS128, INTEGRITY_NONE };
    for (size_t i = 0; i < ARRAY_LEN(modes); i++) {
        front.n_volumes = 0;
        stage_with_file("a", modes[i]);
        close_untold();
        copy_file("open", DISK_OF_A);
        refused(stage_request("a"), ERROR_DATA_LOSS);
        assert_true(front_record(&front, "a")->is_closed); /* by the failed stage */
        refused(stage_request("a"), ERROR_DATA_LOSS);
        expect_the_closed_disk();
    }
}

static void a_kept_end_outlives_readers_and_blockd(void **state)
{
    (void)state;
    stage_with_file("a", INTEGRITY_AEGIS128);
    close_untold();
    struct block_request *reader = stage_request("a");
    reader->read_only = true;
    must(reader, NULL);
    expect_text("mnt/stage-a/file", "newer");
    front.broker_down = true;
    must(unstage_request("a"), NULL);
    assert_int_equal(0, front_stop(&front));
    front_start_again(&front);
    refused(stage_request("a"), ERROR_UNAVAILABLE);
    front.broker_down = false;
    copy_file("open", DISK_OF_A);
    refused(stage_request("a"), ERROR_DATA_LOSS);
    copy_file("closed", DISK_OF_A);
    must(stage_request("a"), NULL);
    must(unstage_request("a"), NULL);
    expect_nothing_left();
}

/* Otherwise a new volume of the same name would look as if it had been put back. */
static void a_kept_end_is_about_one_opening_of_one_volume(void **state)
{
    (void)state;
    stage_with_file("a", INTEGRITY_AEGIS128);
    close_untold();
    front_record(&front, "a")->open_counter++;    /* as if another node had opened it */
    refused(stage_request("a"), ERROR_DATA_LOSS); /* the disk is older than that */
    front_record(&front, "a")->open_counter--;
    assert_false(front_record(&front, "a")->is_closed);
    must(stage_request("a"), NULL);
    must(unstage_request("a"), NULL);
    expect_nothing_left();
}

/* --- a front that was taken over --- */

static enum error_code lie_code;
static const char *lie_reason;
static struct record before; /* as the broker opened it */

/* The front refuses the change itself: the broker never hears of it. */
static void refuse_change(struct front *f, struct block_answer *answer)
{
    struct record *record = front_record(f, "a");

    if (f->last.kind == BLOCK_ASK_OPEN)
        before = *record;
    if (f->last.kind != BLOCK_ASK_CHANGE)
        return;
    *record = before;
    answer->ok = false;
    error_set(&answer->err, lie_code, "says the front");
    error_reason(&answer->err, lie_reason);
}

static void refuse_one_change(struct front *f, struct block_answer *answer)
{
    refuse_change(f, answer);
    f->lie = NULL;
}

/* The volume's file is exchanged for the copy from before the close. */
static void expect_that_the_old_disk_is_refused(void)
{
    must(front_request(BLOCK_DELETE, "a"), NULL);
    copy_file("open", DISK_OF_A);
    refused(stage_request("a"), ERROR_DATA_LOSS);
    expect_the_closed_disk();
}

static void no_word_of_the_front_takes_an_end_away(void **state)
{
    (void)state;
    static const struct {
        enum error_code code;
        const char *reason;
        void (*lie)(struct front *f, struct block_answer *answer);
    } lies[] = {
        { ERROR_FAILED_PRECONDITION, "", refuse_change },
        { ERROR_NOT_FOUND, "", refuse_change },
        { ERROR_DENIED, PROOF_REASON, refuse_change },
        { ERROR_DENIED, PROOF_REASON,
          refuse_one_change }, /* the broker signs a close without an end */
    };
    for (size_t i = 0; i < sizeof(lies) / sizeof(lies[0]); i++) {
        front.n_volumes = 0;
        stage_with_file("a", INTEGRITY_AEGIS128);
        before = *front_record(&front, "a");
        write_newer();
        lie_code = lies[i].code;
        lie_reason = lies[i].reason;
        front.lie = lies[i].lie;
        must(unstage_request("a"), NULL);
        front.lie = NULL;
        assert_false(front_record(&front, "a")->is_closed);
        copy_file(DISK_OF_A, "closed");
        expect_that_the_old_disk_is_refused();
    }
}

static void an_opening_that_the_broker_did_not_count_takes_no_end_away(void **state)
{
    (void)state;
    stage_with_file("a", INTEGRITY_AEGIS128);
    close_untold();
    lie_code = ERROR_UNAVAILABLE;
    lie_reason = "";
    front.lie = refuse_change;
    refused(stage_request("a"), ERROR_UNAVAILABLE);
    front.lie = NULL;
    expect_that_the_old_disk_is_refused();
}

int main(void)
{
    cmocka_set_message_output(CM_OUTPUT_TAP);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(
            an_old_disk_is_refused_though_the_broker_was_not_told_of_the_close, steps_start,
            steps_end),
        cmocka_unit_test_setup_teardown(a_kept_end_outlives_readers_and_blockd, steps_start,
                                        steps_end),
        cmocka_unit_test_setup_teardown(a_kept_end_is_about_one_opening_of_one_volume, steps_start,
                                        steps_end),
        cmocka_unit_test_setup_teardown(no_word_of_the_front_takes_an_end_away, steps_start,
                                        steps_end),
        cmocka_unit_test_setup_teardown(an_opening_that_the_broker_did_not_count_takes_no_end_away,
                                        steps_start, steps_end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
