/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/csi/stacked_scene.h"

#include <stdio.h>

static const char *id;

static int set_up(void **state)
{
    (void)scene_set_up(state);
    id = scene_create("a", 64 * MIB);
    f->n_log = 0;
    return 0;
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, set_up, scene_tear_down)

static void node_gets_the_right_and_then_the_device(void **state UNUSED)
{
    Csi__V1__ControllerPublishVolumeRequest request =
        CSI__V1__CONTROLLER_PUBLISH_VOLUME_REQUEST__INIT;
    static char node_id[] = N1;

    request.volume_id = (char *)(uintptr_t)id;
    request.node_id = node_id;
    request.volume_capability = fake_mount("ext4");
    const Csi__V1__ControllerPublishVolumeResponse *response =
        controller("ControllerPublishVolume", &request);

    assert_non_null(response);
    assert_string_equal(response->publish_context[0]->value, "/dev/xvdba");
    assert_true(CALLED("PublishRecord", "ControllerPublishVolume"));
    assert_true(scene_is_published(id, N1));
    assert_true(fake_is_attached(fake_disk(u, id), "i-1"));
    fake_upstream_check(u);
}

static void node_without_a_second_name_is_known_by_its_own(void **state UNUSED)
{
    assert_true(scene_publish(id, "i-7", false));
    assert_true(fake_is_attached(fake_disk(u, id), "i-7"));
    assert_true(scene_is_published(id, "i-7"));
    assert_true(scene_unpublish(id, "i-7"));
    assert_false(fake_is_attached(fake_disk(u, id), "i-7"));
}

static void second_node_is_refused_before_the_driver_is_asked(void **state UNUSED)
{
    assert_true(scene_publish(id, N1, false));
    u->fences_nothing = true;
    f->n_log = 0;
    assert_refused(ERROR_FAILED_PRECONDITION, scene_publish(id, N2, false));
    assert_contains(err.text, "the volume is published to node " N1 " for writing");
    assert_refused(ERROR_FAILED_PRECONDITION, scene_publish(id, N2, true));
    assert_int_equal(fake_count(f, "ControllerPublishVolume"), 0);
    assert_false(fake_is_attached(fake_disk(u, id), "i-2"));
}

static void volume_moves_after_it_is_taken_back(void **state UNUSED)
{
    assert_true(scene_publish(id, N1, false));
    assert_true(scene_unpublish(id, N1));
    assert_true(scene_publish(id, N2, false));
    assert_false(scene_is_published(id, N1));
    fake_upstream_check(u);
}

static void readers_may_be_several_and_no_writer_joins_them(void **state UNUSED)
{
    assert_true(scene_publish(id, N1, true));
    assert_true(scene_publish(id, N2, true));
    assert_refused(ERROR_FAILED_PRECONDITION, scene_publish(id, "node-3~i-3", false));
    assert_refused(ERROR_FAILED_PRECONDITION, scene_publish(id, N1, false));
    fake_upstream_check(u);
}

static void access_mode_of_readers_publishes_for_reading(void **state UNUSED)
{
    Csi__V1__ControllerPublishVolumeRequest request =
        CSI__V1__CONTROLLER_PUBLISH_VOLUME_REQUEST__INIT;
    Csi__V1__VolumeCapability *capability = fake_mount("ext4");
    static char node_id[] = N1;

    capability->access_mode->mode =
        CSI__V1__VOLUME_CAPABILITY__ACCESS_MODE__MODE__MULTI_NODE_READER_ONLY;
    request.volume_id = (char *)(uintptr_t)id;
    request.node_id = node_id;
    request.volume_capability = capability;
    assert_non_null(controller("ControllerPublishVolume", &request));
    assert_string_equal(scene_record(id)->published.nodes, "r:" N1);
    assert_true(fake_disk(u, id)->read_only);
}

static void other_mode_on_the_same_node_already_exists(void **state UNUSED)
{
    assert_true(scene_publish(id, N1, false));
    assert_refused(ERROR_ALREADY_EXISTS, scene_publish(id, N1, true));
    fake_upstream_check(u);
}

/* --- failures --- */

/* What the driver refuses for good leaves nothing: the volume can be deleted or go elsewhere. */
static void refusal_of_the_driver_takes_the_right_back(void **state UNUSED)
{
    assert_refused(ERROR_NOT_FOUND, scene_publish(id, "node-9~nobody", false));
    assert_string_equal(err.text, FAKE_UPSTREAM_NAME ": no node nobody");
    assert_false(scene_is_published(id, "node-9~nobody"));
    f->fault =
        (struct fake_fault){ .at = "ControllerPublishVolume", .code = ERROR_RESOURCE_EXHAUSTED };
    assert_refused(ERROR_RESOURCE_EXHAUSTED, scene_publish(id, N1, false));
    f->fault.at = NULL;
    assert_true(scene_publish(id, N2, false));
    assert_true(scene_unpublish(id, N2));
    assert_true(scene_delete(id));
}

/* Google's driver detaches nothing for a while after it has refused to attach. */
static void right_is_taken_back_when_the_driver_pauses(void **state UNUSED)
{
    u->driver_name = "pd.csi.storage.gke.io";
    u->attaches_nothing = true;
    u->pause_ms = 200;
    id = scene_create("a", GIB);
    assert_refused(ERROR_DENIED, scene_publish(id, N1, false));
    assert_string_equal(err.text, "pd.csi.storage.gke.io: no more disks at node i-1");
    assert_string_equal(scene_record(id)->published.nodes, "");
    assert_true(scene_delete(id));
    fake_upstream_check(u);
}

static void right_stays_while_nobody_knows_whether_the_driver_pauses(void **state UNUSED)
{
    u->attaches_nothing = true;
    fake_upstream_forget(u);
    f->fault = (struct fake_fault){ .at = "GetPluginInfo", .code = ERROR_UNAVAILABLE };
    assert_refused(ERROR_DENIED, scene_publish(id, N1, false));
    assert_contains(err.text, "stays published to node " N1);
    assert_int_equal(fake_count(f, "ControllerUnpublishVolume"), 0);
    f->fault.at = NULL;
    assert_true(scene_unpublish(id, N1));
    fake_upstream_check(u);
}

static void attach_meanwhile(const char *method)
{
    if (strcmp(method, "ControllerPublishVolume") == 0)
        (void)snprintf(fake_disk(u, id)->nodes[0], sizeof(fake_disk(u, id)->nodes[0]), "i-1");
}

/* A second controller repeats the call, finds the right that this one gave, and has the volume attached
 * before this one takes the right back. */
static void right_is_not_taken_from_a_node_that_got_the_device(void **state UNUSED)
{
    static const enum error_code codes[] = { ERROR_DENIED, ERROR_INVALID_ARGUMENT,
                                             ERROR_NOT_FOUND };

    for (size_t i = 0; i < ARRAY_LEN(codes); i++) {
        f->fault = (struct fake_fault){ .at = "ControllerPublishVolume", .code = codes[i] };
        u->served = attach_meanwhile;
        assert_refused(codes[i], scene_publish(id, N1, false));
        u->served = NULL;
        f->fault.at = NULL;
        assert_true(scene_is_published(id, N1) || !fake_is_attached(fake_disk(u, id), "i-1"));
        fake_upstream_check(u);
        assert_true(scene_unpublish(id, N1));
    }
}

/* The node was leaving: a detach had failed. */
static void right_that_a_leaving_node_got_again_is_taken_back(void **state UNUSED)
{
    assert_true(scene_publish(id, N1, false));
    f->fault = (struct fake_fault){ .at = "ControllerUnpublishVolume", .code = ERROR_INTERNAL };
    assert_refused(ERROR_INTERNAL, scene_unpublish(id, N1));
    f->fault = (struct fake_fault){ .at = "ControllerPublishVolume", .code = ERROR_DENIED };
    assert_refused(ERROR_DENIED, scene_publish(id, N1, false));
    f->fault.at = NULL;
    assert_false(scene_is_published(id, N1));
    assert_false(fake_is_attached(fake_disk(u, id), "i-1"));
    fake_upstream_check(u);
}

/* The driver may attach the volume yet: nobody else gets it until it was detached. */
static void unclear_failure_keeps_the_right(void **state UNUSED)
{
    static const enum error_code codes[] = { ERROR_UNAVAILABLE, ERROR_DEADLINE_EXCEEDED,
                                             ERROR_ABORTED, ERROR_INTERNAL, ERROR_CANCELLED };

    for (size_t i = 0; i < ARRAY_LEN(codes); i++) {
        f->fault = (struct fake_fault){ .at = "ControllerPublishVolume", .code = codes[i] };
        assert_refused(codes[i], scene_publish(id, N1, false));
        f->fault.at = NULL;
        assert_true(scene_is_published(id, N1));
        assert_refused(ERROR_FAILED_PRECONDITION, scene_publish(id, N2, false));
        assert_true(scene_unpublish(id, N1));
        assert_false(scene_is_published(id, N1));
    }
}

static void refusal_of_a_repeated_call_keeps_the_right(void **state UNUSED)
{
    assert_true(scene_publish(id, N1, false));
    f->fault = (struct fake_fault){ .at = "ControllerPublishVolume", .code = ERROR_NOT_FOUND };
    assert_refused(ERROR_NOT_FOUND, scene_publish(id, N1, false));
    assert_true(scene_is_published(id, N1));
}

static void right_that_cannot_be_taken_back_is_named(void **state UNUSED)
{
    f->fault = (struct fake_fault){ .at = "UnpublishRecord", .code = ERROR_UNAVAILABLE };
    assert_refused(ERROR_NOT_FOUND, scene_publish(id, "node-9~nobody", false));
    assert_contains(err.text, "stays published to node node-9~nobody (UnpublishRecord failed)");
}

static void volume_that_is_attached_is_not_deleted(void **state UNUSED)
{
    assert_true(scene_publish(id, N1, false));
    assert_refused(ERROR_FAILED_PRECONDITION, scene_delete(id));
    assert_int_equal(fake_count(f, "DeleteVolume"), 0);
    fake_upstream_check(u);
}

/* --- taking back --- */

static void right_goes_after_the_device(void **state UNUSED)
{
    assert_true(scene_publish(id, N1, false));
    f->n_log = 0;
    assert_true(scene_unpublish(id, N1));
    assert_true(CALLED("ControllerUnpublishVolume", "UnpublishRecord"));
    fake_upstream_check(u);
}

static void node_keeps_the_right_while_it_has_the_device(void **state UNUSED)
{
    assert_true(scene_publish(id, N1, false));
    f->fault = (struct fake_fault){ .at = "ControllerUnpublishVolume", .code = ERROR_INTERNAL };
    assert_refused(ERROR_INTERNAL, scene_unpublish(id, N1));
    assert_true(scene_is_published(id, N1));
    assert_refused(ERROR_FAILED_PRECONDITION, scene_publish(id, N2, false));
}

static void lease_of_a_dead_node_goes_with_the_right(void **state UNUSED)
{
    assert_true(scene_publish(id, N1, false));
    scene_was_used(id);
    struct record *record = &fake_record(f, id)->record;

    record->is_closed = false;
    (void)snprintf(record->lease.holder.node, sizeof(record->lease.holder.node), "node-1");
    (void)snprintf(record->lease.holder.boot_id, sizeof(record->lease.holder.boot_id), "b");
    assert_true(scene_unpublish(id, N1));
    assert_string_equal(scene_record(id)->lease.holder.node, "");
}

static void publishes_again(const char *method)
{
    struct record *record = &fake_record(f, id)->record;

    if (strcmp(method, "ControllerUnpublishVolume") == 0)
        record->published.epoch++;
}

/* A later call gave the right anew while this one detached. */
static void late_call_does_not_take_a_later_right(void **state UNUSED)
{
    assert_true(scene_publish(id, N1, false));
    u->served = publishes_again;
    assert_refused(ERROR_ABORTED, scene_unpublish(id, N1));
    assert_true(scene_is_published(id, N1));
}

/* Read by the handler at the old epoch, decided by the broker at the new one. */
static void moves_elsewhere(const char *method)
{
    struct record *record = &fake_record(f, id)->record;

    if (strcmp(method, "ControllerGetCapabilities") != 0)
        return;
    record->published.epoch += 2;
    (void)snprintf(record->published.nodes, sizeof(record->published.nodes), "w:" N2);
    (void)snprintf(fake_disk(u, id)->nodes[0], 64, "i-2");
}

/* The driver would attach it twice. */
static void late_call_does_not_attach_a_volume_that_has_moved(void **state UNUSED)
{
    f->fault = (struct fake_fault){ .at = "ListVolumes", .code = ERROR_UNAVAILABLE };
    assert_null(controller("ListVolumes",
                           &(Csi__V1__ListVolumesRequest)CSI__V1__LIST_VOLUMES_REQUEST__INIT));
    f->fault.at = NULL; /* the driver was away: its capabilities are asked for again */
    u->fences_nothing = true;
    u->served = moves_elsewhere;
    assert_refused(ERROR_FAILED_PRECONDITION, scene_publish(id, N1, false));
    assert_int_equal(fake_count(f, "ControllerPublishVolume"), 0);
    assert_false(fake_is_attached(fake_disk(u, id), "i-1"));
}

static void empty_node_means_all(void **state UNUSED)
{
    assert_true(scene_publish(id, N1, true));
    assert_true(scene_publish(id, N2, true));
    assert_true(scene_unpublish(id, ""));
    assert_string_equal(scene_record(id)->published.nodes, "");
    fake_upstream_check(u);
}

static void taking_back_what_is_not_there_succeeds(void **state UNUSED)
{
    assert_true(scene_unpublish(id, N1));
    assert_true(scene_unpublish("vol-9", N1));
    fake_upstream_check(u);
}

/* --- what is refused --- */

static void incomplete_requests_are_invalid(void **state UNUSED)
{
    Csi__V1__ControllerPublishVolumeRequest request =
        CSI__V1__CONTROLLER_PUBLISH_VOLUME_REQUEST__INIT;
    static char node_id[] = N1;

    assert_refused(ERROR_INVALID_ARGUMENT, controller("ControllerPublishVolume", &request));
    request.volume_id = (char *)(uintptr_t)id;
    assert_refused(ERROR_INVALID_ARGUMENT, controller("ControllerPublishVolume", &request));
    request.node_id = node_id;
    assert_refused(ERROR_INVALID_ARGUMENT, controller("ControllerPublishVolume", &request));
    assert_refused(ERROR_INVALID_ARGUMENT, scene_publish(id, "a node~i-1", false));
    assert_refused(ERROR_INVALID_ARGUMENT, scene_publish(id, "~i-1", false));
    assert_refused(ERROR_INVALID_ARGUMENT, scene_unpublish("", N1));
    assert_int_equal(fake_count(f, "ControllerPublishVolume"), 0);
    request.volume_capability = fake_block_reader();
    assert_refused(ERROR_FAILED_PRECONDITION, controller("ControllerPublishVolume", &request));
    assert_contains(err.text, "made as a file system");
    request.volume_capability = fake_block(); /* a writer may bring a file system along */
    assert_ok(controller("ControllerPublishVolume", &request));
}

static void unknown_volume_is_not_found_and_a_foreign_one_names_the_command(void **state UNUSED)
{
    fake_foreign_disk(u, "vol-x", GIB);
    assert_refused(ERROR_NOT_FOUND, scene_publish("vol-9", N1, false));
    assert_refused(ERROR_FAILED_PRECONDITION, scene_publish("vol-x", N1, false));
    assert_contains(err.text, "tdvolctl volume adopt vol-x");
    assert_false(fake_is_attached(fake_disk(u, "vol-x"), "i-1"));
}

static void volume_without_publication_is_only_attached(void **state UNUSED)
{
    fake_record(f, id)->record.spec.needs_publication = false;
    assert_true(scene_publish(id, N1, false));
    assert_true(scene_unpublish(id, N1));
    assert_int_equal(fake_count(f, "PublishRecord"), 0);
    assert_int_equal(fake_count(f, "UnpublishRecord"), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(node_gets_the_right_and_then_the_device),
        TEST(node_without_a_second_name_is_known_by_its_own),
        TEST(second_node_is_refused_before_the_driver_is_asked),
        TEST(volume_moves_after_it_is_taken_back),
        TEST(readers_may_be_several_and_no_writer_joins_them),
        TEST(access_mode_of_readers_publishes_for_reading),
        TEST(other_mode_on_the_same_node_already_exists),
        TEST(refusal_of_the_driver_takes_the_right_back),
        cmocka_unit_test_setup_teardown(right_is_taken_back_when_the_driver_pauses, scene_set_up,
                                        scene_tear_down),
        TEST(right_stays_while_nobody_knows_whether_the_driver_pauses),
        TEST(right_is_not_taken_from_a_node_that_got_the_device),
        TEST(right_that_a_leaving_node_got_again_is_taken_back),
        TEST(unclear_failure_keeps_the_right),
        TEST(refusal_of_a_repeated_call_keeps_the_right),
        TEST(right_that_cannot_be_taken_back_is_named),
        TEST(volume_that_is_attached_is_not_deleted),
        TEST(right_goes_after_the_device),
        TEST(node_keeps_the_right_while_it_has_the_device),
        TEST(lease_of_a_dead_node_goes_with_the_right),
        TEST(late_call_does_not_take_a_later_right),
        TEST(late_call_does_not_attach_a_volume_that_has_moved),
        TEST(empty_node_means_all),
        TEST(taking_back_what_is_not_there_succeeds),
        TEST(incomplete_requests_are_invalid),
        TEST(unknown_volume_is_not_found_and_a_foreign_one_names_the_command),
        TEST(volume_without_publication_is_only_attached),
    };

    return RUN_TESTS(tests);
}
