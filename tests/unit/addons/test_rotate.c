/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/csi/fake.h"
#include "tests/unit/test.h"

#include <stdio.h>
#include <string.h>

/* A volume in use gets another secret when kubelet asks for its statistics. */

static struct fake *f;
static struct arena arena;
static struct error err;
static char id[VOLUME_ID_MAX + 1];
static char name[2] = "a"; /* each test has another volume, because each is looked at seldom */
static char staging[] = "/stage", pod[] = "/pod";

static int set_up(void **state UNUSED)
{
    f = fake_new();
    name[0]++;
    arena_init(&arena, 16u << 20);
    err = (struct error)ERROR_INIT;
    Csi__V1__CreateVolumeResponse *response =
        fake_call(f, &controller_service, "CreateVolume",
                  fake_create(name, 64ll << 20, fake_mount("ext4")), &arena, &err);
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

static void stage(void)
{
    Csi__V1__NodeStageVolumeRequest request = CSI__V1__NODE_STAGE_VOLUME_REQUEST__INIT;

    request.volume_id = id;
    request.staging_target_path = staging;
    request.volume_capability = fake_mount("ext4");
    assert_non_null(fake_call(f, &node_service, "NodeStageVolume", &request, &arena, &err));
}

static bool was_called(const char *what)
{
    bool found = false;

    for (size_t i = 0; i < f->n_log; i++)
        found = found || strcmp(f->log[i], what) == 0;
    f->n_log = 0;
    return found;
}

static void ask_for_statistics(void)
{
    Csi__V1__NodeGetVolumeStatsRequest request = CSI__V1__NODE_GET_VOLUME_STATS_REQUEST__INIT;

    f->n_log = 0;
    request.volume_id = id;
    request.volume_path = pod;
    assert_non_null(fake_call(f, &node_service, "NodeGetVolumeStats", &request, &arena, &err));
}

static void mark(void)
{
    fake_record(f, id)->record.rotation.key.generation = 2;
}

static void a_marked_volume_is_rotated(void **state UNUSED)
{
    stage();
    mark();
    ask_for_statistics();
    assert_true(was_called("ROTATE"));
}

static void the_broker_is_not_asked_each_time(void **state UNUSED)
{
    stage();
    ask_for_statistics();
    assert_true(was_called("GetRecord"));
    mark();
    ask_for_statistics();
    assert_false(was_called("GetRecord"));
}

static void a_volume_that_is_not_marked_is_left_alone(void **state UNUSED)
{
    stage();
    ask_for_statistics();
    assert_false(was_called("ROTATE"));
}

static void a_volume_without_lease_is_left_alone(void **state UNUSED)
{
    stage();
    mark();
    fake_record(f, id)->record.lease.holder.node[0] = '\0'; /* an admin took it away */
    ask_for_statistics();
    assert_false(was_called("ROTATE"));
}

/* The last test: nobody asks for ten minutes. */
static void a_broker_that_is_away_is_asked_for_one_volume_only(void **state UNUSED)
{
    stage();
    mark();
    f->fault = (struct fake_fault){ .at = "GetRecord", .code = ERROR_UNAVAILABLE };
    ask_for_statistics();
    assert_true(was_called("GetRecord"));
    tear_down(NULL);
    set_up(NULL); /* another volume */
    stage();
    mark();
    ask_for_statistics();
    assert_false(was_called("GetRecord"));
}

static void a_rotation_that_fails_fails_alone(void **state UNUSED)
{
    stage();
    mark();
    f->fault = (struct fake_fault){ .at = "ROTATE", .code = ERROR_DATA_LOSS };
    ask_for_statistics();
    assert_true(was_called("ROTATE"));
}

#define T(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(a_marked_volume_is_rotated),
        T(the_broker_is_not_asked_each_time),
        T(a_volume_that_is_not_marked_is_left_alone),
        T(a_volume_without_lease_is_left_alone),
        T(a_rotation_that_fails_fails_alone),
        T(a_broker_that_is_away_is_asked_for_one_volume_only),
    };

    return RUN_TESTS(tests);
}
