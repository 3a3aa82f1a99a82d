/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/csi/fake.h"
#include "tests/unit/test.h"

#define GIB (1ll << 30)

#define CALLED(f, ...) fake_called((f), (const char *const[]){ __VA_ARGS__, NULL })

static struct fake *f;
static struct arena arena;
static struct error err;

static int set_up(void **state UNUSED)
{
    f = fake_new();
    arena_init(&arena, 16u << 20);
    err = (struct error)ERROR_INIT;
    return 0;
}

static int tear_down(void **state UNUSED)
{
    arena_wipe(&arena);
    fake_free(f);
    return 0;
}

static void *controller(const char *method, const void *request)
{
    return fake_call(f, &controller_service, method, request, &arena, &err);
}

static Csi__V1__Volume *create(Csi__V1__CreateVolumeRequest *request)
{
    Csi__V1__CreateVolumeResponse *response = controller("CreateVolume", request);

    if (!response)
        fail_msg("CreateVolume: %s: %s", error_code_name(err.code), err.text);
    return response->volume;
}

static Csi__V1__CreateSnapshotResponse *snap(const char *name, const char *source)
{
    Csi__V1__CreateSnapshotRequest request = CSI__V1__CREATE_SNAPSHOT_REQUEST__INIT;

    request.name = (char *)(uintptr_t)name;
    request.source_volume_id = (char *)(uintptr_t)source;
    return controller("CreateSnapshot", &request);
}

/* What becomes of raw space when no record of it was confirmed. */

static void refused_record_gives_its_space_back(void **state UNUSED)
{
    f->fault = (struct fake_fault){ .at = "CreateRecord", .code = ERROR_DENIED };
    assert_refused(ERROR_DENIED, controller("CreateVolume", fake_create("a", GIB, fake_mount(""))));
    assert_true(CALLED(f, "CREATE", "CreateRecord", "DELETE"));
}

static void lost_answer_of_the_broker_keeps_the_space_and_a_retry_finds_it(void **state UNUSED)
{
    f->fault =
        (struct fake_fault){ .at = "CreateRecord", .code = ERROR_UNAVAILABLE, .is_lost = true };
    assert_refused(ERROR_UNAVAILABLE,
                   controller("CreateVolume", fake_create("a", GIB, fake_mount(""))));
    assert_false(CALLED(f, "DELETE"));
    f->fault.at = NULL;
    Csi__V1__Volume *volume = create(fake_create("a", GIB, fake_mount("")));
    assert_true(fake_volume(f, volume->volume_id)->has_file);
    assert_int_equal(fake_count(f, "CREATE"), 1);
}

/* All codes, also those that say "no record": another broker may have made it before. */
static void each_error(void (*check)(enum error_code code))
{
    for (enum error_code code = ERROR_NONE + 1; code < ERROR_CODE_COUNT; code++)
        check(code);
}

static void check_space_of_a_made_record(enum error_code code)
{
    Csi__V1__CreateVolumeRequest *request = fake_create("a", GIB, fake_mount(""));
    Csi__V1__DeleteVolumeRequest delete = CSI__V1__DELETE_VOLUME_REQUEST__INIT;

    f->n_log = 0;
    f->fault = (struct fake_fault){ .at = "CreateRecord", .code = code, .is_lost = true };
    assert_null(controller("CreateVolume", request));
    assert_false(CALLED(f, "DELETE"));
    f->fault.at = NULL;
    Csi__V1__Volume *volume = create(request);
    assert_true(fake_volume(f, volume->volume_id)->has_file);
    assert_int_equal(fake_count(f, "CREATE"), 1);
    delete.volume_id = volume->volume_id;
    assert_non_null(controller("DeleteVolume", &delete));
}

static void no_error_takes_the_space_of_a_record_that_was_made(void **state UNUSED)
{
    each_error(check_space_of_a_made_record);
}

static char *snapshot_source;

static void check_space_of_a_made_snapshot(enum error_code code)
{
    Csi__V1__DeleteSnapshotRequest delete = CSI__V1__DELETE_SNAPSHOT_REQUEST__INIT;

    f->n_log = 0;
    f->fault = (struct fake_fault){ .at = "CopyRecord", .code = code, .is_lost = true };
    assert_null(snap("s", snapshot_source));
    assert_false(CALLED(f, "DELETE"));
    f->fault.at = NULL;
    Csi__V1__CreateSnapshotResponse *response = snap("s", snapshot_source);
    assert_non_null(response);
    assert_true(fake_volume(f, response->snapshot->snapshot_id)->has_file);
    assert_int_equal(fake_count(f, "COPY"), 1);
    delete.snapshot_id = response->snapshot->snapshot_id;
    assert_non_null(controller("DeleteSnapshot", &delete));
}

static void no_error_takes_the_space_of_a_snapshot_that_was_made(void **state UNUSED)
{
    snapshot_source = create(fake_create("a", GIB, fake_mount("")))->volume_id;
    each_error(check_space_of_a_made_snapshot);
}

static void space_stays_when_nobody_can_tell_whether_it_has_a_record(void **state UNUSED)
{
    /* From CreateRecord on: also the question for the record. */
    f->fault = (struct fake_fault){ .at = FAKE_ANY, .code = ERROR_DENIED, .after = 3 };
    assert_refused(ERROR_ABORTED,
                   controller("CreateVolume", fake_create("a", GIB, fake_mount(""))));
    assert_contains(err.text, "its space is kept for the next call (PERMISSION_DENIED)");
    assert_true(CALLED(f, "CREATE", "CreateRecord", "GetRecord"));
    assert_false(CALLED(f, "DELETE"));
}

static void sidecar_calls_again_when_the_space_is_kept(void **state UNUSED)
{
    static const enum error_code codes[] = { ERROR_INTERNAL, ERROR_RESOURCE_EXHAUSTED,
                                             ERROR_UNAUTHENTICATED, ERROR_UNIMPLEMENTED };

    for (size_t i = 0; i < ARRAY_LEN(codes); i++) {
        f->fault = (struct fake_fault){ .at = "CreateRecord", .code = codes[i] };
        assert_refused(ERROR_ABORTED,
                       controller("CreateVolume", fake_create("a", GIB, fake_mount(""))));
    }
    f->fault.at = NULL;
    create(fake_create("a", GIB, fake_mount(""))); /* over the space that was kept */
}

static void tenant_without_room_keeps_no_space(void **state UNUSED)
{
    f->fault = (struct fake_fault){ .at = "CreateRecord",
                                    .code = ERROR_RESOURCE_EXHAUSTED,
                                    .reason = RECORD_LIMIT_REASON };
    assert_refused(ERROR_RESOURCE_EXHAUSTED,
                   controller("CreateVolume", fake_create("a", GIB, fake_mount(""))));
    assert_true(CALLED(f, "CREATE", "CreateRecord", "GetRecord", "DELETE"));
}

#define T(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(refused_record_gives_its_space_back),
        T(lost_answer_of_the_broker_keeps_the_space_and_a_retry_finds_it),
        T(no_error_takes_the_space_of_a_record_that_was_made),
        T(no_error_takes_the_space_of_a_snapshot_that_was_made),
        T(space_stays_when_nobody_can_tell_whether_it_has_a_record),
        T(sidecar_calls_again_when_the_space_is_kept),
        T(tenant_without_room_keeps_no_space),
    };

    return RUN_TESTS(tests);
}
