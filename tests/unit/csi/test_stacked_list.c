/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/csi/stacked_scene.h"

static const Csi__V1__ListVolumesResponse *list(int32_t max_entries, const char *token)
{
    Csi__V1__ListVolumesRequest request = CSI__V1__LIST_VOLUMES_REQUEST__INIT;

    request.max_entries = max_entries;
    request.starting_token = (char *)(uintptr_t)token;
    return controller("ListVolumes", &request);
}

static void volumes_of_others_are_left_out(void **state UNUSED)
{
    char long_id[VOLUME_ID_MAX + 2];

    scene_long_id(long_id);
    fake_foreign_disk(u, "vol-x", GIB);
    fake_foreign_disk(u, long_id, GIB);
    const char *a = scene_create("a", 64 * MIB);
    const Csi__V1__ListVolumesResponse *response = list(0, "");

    assert_int_equal(response->n_entries, 1);
    assert_string_equal(response->entries[0]->volume->volume_id, a);
    assert_int_equal(response->entries[0]->volume->capacity_bytes, 64 * MIB);
}

static void snapshot_with_the_id_of_a_listed_volume_is_not_it(void **state UNUSED)
{
    const char *a = scene_create("a", 64 * MIB);

    fake_record(f, a)->record.kind = RECORD_SNAPSHOT;
    assert_int_equal(list(0, "")->n_entries, 0);
}

static void nodes_have_our_names(void **state UNUSED)
{
    const char *a = scene_create("a", 64 * MIB), *b = scene_create("b", 64 * MIB);

    assert_true(scene_publish(a, N1, false));
    memcpy(fake_disk(u, b)->nodes[0], "i-9", 4); /* somebody did it past us */
    const Csi__V1__ListVolumesResponse *response = list(0, "");

    assert_int_equal(response->n_entries, 2);
    assert_string_equal(response->entries[0]->status->published_node_ids[0], N1);
    assert_string_equal(response->entries[1]->status->published_node_ids[0], "i-9");
}

static void pages_are_the_drivers(void **state UNUSED)
{
    assert_non_null(scene_create("a", 64 * MIB));
    fake_foreign_disk(u, "vol-x", GIB);
    assert_non_null(scene_create("b", 64 * MIB));
    const Csi__V1__ListVolumesResponse *first = list(2, "");

    assert_int_equal(first->n_entries, 1);
    assert_string_equal(first->next_token, "p-2");
    const Csi__V1__ListVolumesResponse *second = list(2, first->next_token);

    assert_int_equal(second->n_entries, 1);
    assert_string_equal(second->next_token, "");
    assert_refused(ERROR_ABORTED, list(2, "unknown"));
}

static void listing_without_volumes_is_empty(void **state UNUSED)
{
    assert_int_equal(list(0, "")->n_entries, 0);
}

static void broker_that_is_away_ends_the_listing(void **state UNUSED)
{
    assert_non_null(scene_create("a", 64 * MIB));
    f->fault = (struct fake_fault){ .at = "ListRecords", .code = ERROR_UNAVAILABLE };
    assert_refused(ERROR_UNAVAILABLE, list(0, ""));
}

static void one_volume_is_shown_as_in_the_listing(void **state UNUSED)
{
    Csi__V1__ControllerGetVolumeRequest request = CSI__V1__CONTROLLER_GET_VOLUME_REQUEST__INIT;
    const char *a = scene_create("a", 64 * MIB);
    static char foreign[] = "vol-x", unknown[] = "vol-9";

    assert_true(scene_publish(a, N1, false));
    request.volume_id = (char *)(uintptr_t)a;
    const Csi__V1__ControllerGetVolumeResponse *response =
        controller("ControllerGetVolume", &request);

    assert_int_equal(response->volume->capacity_bytes, 64 * MIB);
    assert_string_equal(response->status->published_node_ids[0], N1);
    fake_foreign_disk(u, foreign, GIB);
    request.volume_id = foreign;
    assert_refused(ERROR_FAILED_PRECONDITION, controller("ControllerGetVolume", &request));
    request.volume_id = unknown;
    assert_refused(ERROR_NOT_FOUND, controller("ControllerGetVolume", &request));
}

static const Csi__V1__ListSnapshotsResponse *list_snapshots(const char *source, const char *id)
{
    Csi__V1__ListSnapshotsRequest request = CSI__V1__LIST_SNAPSHOTS_REQUEST__INIT;

    request.source_volume_id = (char *)(uintptr_t)source;
    request.snapshot_id = (char *)(uintptr_t)id;
    return controller("ListSnapshots", &request);
}

static void snapshots_of_others_are_left_out(void **state UNUSED)
{
    const char *a = scene_create("a", 64 * MIB), *s = scene_snapshot("s", a);
    const char *t = scene_snapshot("t", a);

    fake_record(f, t)->is_present = false;
    assert_int_equal(list_snapshots("", "")->n_entries, 1);
    assert_int_equal(list_snapshots(a, "")->entries[0]->snapshot->size_bytes, 64 * MIB);
    assert_int_equal(list_snapshots("", s)->n_entries, 1);
    assert_int_equal(list_snapshots("", t)->n_entries, 0);
    assert_int_equal(list_snapshots("vol-9", "")->n_entries, 0);
}

static void health_of_others_is_left_out(void **state UNUSED)
{
    const Csi__V1__ControllerListVolumeHealthRequest request =
        CSI__V1__CONTROLLER_LIST_VOLUME_HEALTH_REQUEST__INIT;
    Csi__V1__ControllerGetVolumeHealthRequest one =
        CSI__V1__CONTROLLER_GET_VOLUME_HEALTH_REQUEST__INIT;
    const char *a = scene_create("a", 64 * MIB);
    static char foreign[] = "vol-x";

    fake_foreign_disk(u, foreign, GIB);
    const Csi__V1__ControllerListVolumeHealthResponse *response =
        controller("ControllerListVolumeHealth", &request);

    assert_int_equal(response->n_entries, 1);
    assert_string_equal(response->entries[0]->volume_id, a);
    one.volume_id = (char *)(uintptr_t)a;
    assert_non_null(controller("ControllerGetVolumeHealth", &one));
    one.volume_id = foreign;
    assert_refused(ERROR_FAILED_PRECONDITION, controller("ControllerGetVolumeHealth", &one));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        STACKED_TEST(volumes_of_others_are_left_out),
        STACKED_TEST(snapshot_with_the_id_of_a_listed_volume_is_not_it),
        STACKED_TEST(nodes_have_our_names),
        STACKED_TEST(pages_are_the_drivers),
        STACKED_TEST(listing_without_volumes_is_empty),
        STACKED_TEST(broker_that_is_away_ends_the_listing),
        STACKED_TEST(one_volume_is_shown_as_in_the_listing),
        STACKED_TEST(snapshots_of_others_are_left_out),
        STACKED_TEST(health_of_others_is_left_out),
    };

    return RUN_TESTS(tests);
}
