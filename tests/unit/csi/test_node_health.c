/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/csi/fake.h"
#include "tests/unit/test.h"

#include <stdio.h>

static struct fake *f;
static struct arena arena;
static struct error err;
static char id[VOLUME_ID_MAX + 1];
static char staging[] = "/stage";

static int set_up(void **state UNUSED)
{
    f = fake_new();
    arena_init(&arena, 16u << 20);
    err = (struct error)ERROR_INIT;
    Csi__V1__CreateVolumeResponse *response =
        fake_call(f, &controller_service, "CreateVolume",
                  fake_create("a", 64ll << 20, fake_mount("ext4")), &arena, &err);
    assert_non_null(response);
    (void)snprintf(id, sizeof(id), "%s", response->volume->volume_id);
    return 0;
}

static int tear_down(void **state UNUSED)
{
    arena_wipe(&arena);
    fake_free(f);
    return 0;
}

static void stage(bool is_reader)
{
    Csi__V1__NodeStageVolumeRequest request = CSI__V1__NODE_STAGE_VOLUME_REQUEST__INIT;

    request.volume_id = id;
    request.staging_target_path = staging;
    request.volume_capability = fake_mount("ext4");
    if (is_reader)
        request.volume_capability->access_mode->mode =
            CSI__V1__VOLUME_CAPABILITY__ACCESS_MODE__MODE__SINGLE_NODE_READER_ONLY;
    assert_non_null(fake_call(f, &node_service, "NodeStageVolume", &request, &arena, &err));
}

static void unstage(void)
{
    Csi__V1__NodeUnstageVolumeRequest request = CSI__V1__NODE_UNSTAGE_VOLUME_REQUEST__INIT;

    request.volume_id = id;
    request.staging_target_path = staging;
    assert_non_null(fake_call(f, &node_service, "NodeUnstageVolume", &request, &arena, &err));
}

/* reason: the only note about the volume; "": there is none. */
static void expect_note(const char *reason)
{
    struct health_report report;

    health_get(f->plugin.health, id, &report);
    assert_string_equal(report.n > 0 ? report.entries[0].reason : "", reason);
    assert_true(report.n <= 1);
}

static void a_close_on_record_is_well(void **state UNUSED)
{
    stage(false);
    unstage();
    expect_note("");
    unstage();
    expect_note("");
}

static void a_close_of_which_the_broker_was_not_told_is_noted(void **state UNUSED)
{
    static const char *const methods[] = { "GetRecord", "ChangeRecord" };

    for (size_t i = 0; i < ARRAY_LEN(methods); i++) {
        f->fault.at = NULL;
        stage(false);
        expect_note("");
        f->fault = (struct fake_fault){ .at = methods[i], .code = ERROR_UNAVAILABLE };
        unstage();
        expect_note("CloseNotRecorded");
    }
}

static void a_close_that_the_disk_does_not_show_is_noted(void **state UNUSED)
{
    f->takes_no_mark = true;
    stage(false);
    unstage();
    expect_note("CloseNotMarked");
    f->takes_no_mark = false;
    stage(false);
    expect_note("");
    unstage();
    expect_note("");
}

static void a_reader_s_close_has_nothing_to_tell(void **state UNUSED)
{
    stage(false);
    unstage();
    stage(true);
    f->fault = (struct fake_fault){ .at = "ChangeRecord", .code = ERROR_UNAVAILABLE };
    unstage();
    expect_note("");
}

/* This node would not hear that the volume is well elsewhere, or deleted: an alert would never end. */
static void damage_of_a_volume_that_can_move_is_forgotten_when_it_is_unstaged(void **state UNUSED)
{
    stage(false);
    health_integrity_errors(f->plugin.health, id, 3);
    unstage();
    expect_note("IntegrityErrors");
    stage(false);
    expect_note("");
    health_integrity_errors(f->plugin.health, id, 3);
    f->plugin.upstream = (struct upstream *)f; /* that there is one */
    unstage();
    expect_note("");
    f->plugin.upstream = NULL;
}

#define T(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(a_close_on_record_is_well),
        T(a_close_of_which_the_broker_was_not_told_is_noted),
        T(a_close_that_the_disk_does_not_show_is_noted),
        T(a_reader_s_close_has_nothing_to_tell),
        T(damage_of_a_volume_that_can_move_is_forgotten_when_it_is_unstaged),
    };

    return RUN_TESTS(tests);
}
