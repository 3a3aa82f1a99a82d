/* SPDX-License-Identifier: Apache-2.0 */
#include "addons/service.h"
#include "tests/unit/csi/fake.h"
#include "tests/unit/test.h"

#include <stdio.h>
#include <string.h>

#include "addons.pb-c.h"
#include "encryptionkeyrotation.pb-c.h"

/* What the sidecar of csi-addons asks of a node. */

static struct fake *f;
static struct arena arena;
static struct error err;
static char id[VOLUME_ID_MAX + 1], staging[] = "/stage", text[] = "a key of my own";
static char stranger[] = "no-such-volume", nothing[] = "";

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

static void stage(void)
{
    Csi__V1__NodeStageVolumeRequest request = CSI__V1__NODE_STAGE_VOLUME_REQUEST__INIT;

    request.volume_id = id;
    request.staging_target_path = staging;
    request.volume_capability = fake_mount("ext4");
    assert_non_null(fake_call(f, &node_service, "NodeStageVolume", &request, &arena, &err));
    f->n_log = 0;
}

static bool rotate(char *volume_id, char *key)
{
    Encryptionkeyrotation__EncryptionKeyRotateRequest request =
        ENCRYPTIONKEYROTATION__ENCRYPTION_KEY_ROTATE_REQUEST__INIT;

    err = (struct error)ERROR_INIT;
    request.volume_id = volume_id;
    request.encryption_key = key;
    return fake_call(f, &addons_rotation_service, "EncryptionKeyRotate", &request, &arena, &err) !=
           NULL;
}

static void a_volume_that_is_open_is_rotated_at_once(void **state UNUSED)
{
    stage();
    assert_true(rotate(id, nothing));
    assert_true(fake_called(f, (const char *const[]){ "RotateKey", "ROTATE", NULL }));
    assert_int_equal(fake_record(f, id)->record.rotation.key.generation, 2);
}

/* The answer to the first call was lost, or its worker was killed. */
static void a_repeated_call_does_the_same_rotation(void **state UNUSED)
{
    stage();
    f->fault = (struct fake_fault){ .at = "ROTATE", .code = ERROR_DATA_LOSS };
    assert_false(rotate(id, nothing));
    assert_int_equal(err.code, ERROR_DATA_LOSS);
    struct record_key next = fake_record(f, id)->record.rotation.key;

    f->fault = (struct fake_fault){ .at = NULL };
    assert_true(rotate(id, nothing));
    assert_memory_equal(&next, &fake_record(f, id)->record.rotation.key, sizeof(next));
}

static void what_this_node_cannot_do_at_once_is_not_asked_for(void **state UNUSED)
{
    assert_false(rotate(id, nothing));
    assert_int_equal(err.code, ERROR_FAILED_PRECONDITION);
    stage();
    fake_record(f, id)->record.lease.holder.node[0] = '\0';
    assert_false(rotate(id, nothing));
    assert_int_equal(err.code, ERROR_FAILED_PRECONDITION);
    assert_false(rotate(stranger, nothing));
    assert_int_equal(err.code, ERROR_NOT_FOUND);
    assert_false(rotate(nothing, nothing));
    assert_int_equal(err.code, ERROR_INVALID_ARGUMENT);
    assert_false(rotate(id, text));
    assert_int_equal(err.code, ERROR_INVALID_ARGUMENT);
    assert_contains(err.text, "makes secrets");
    assert_int_equal(fake_count(f, "RotateKey"), 0);
}

static void what_the_broker_says_is_passed_on(void **state UNUSED)
{
    stage();
    f->fault = (struct fake_fault){ .at = "RotateKey", .code = ERROR_DENIED };
    assert_false(rotate(id, nothing));
    assert_int_equal(err.code, ERROR_DENIED);
    assert_int_equal(fake_count(f, "ROTATE"), 0);
}

static void the_sidecar_learns_name_and_capabilities(void **state UNUSED)
{
    const Identity__GetIdentityRequest who = IDENTITY__GET_IDENTITY_REQUEST__INIT;
    const Identity__GetCapabilitiesRequest what = IDENTITY__GET_CAPABILITIES_REQUEST__INIT;
    const Identity__ProbeRequest health = IDENTITY__PROBE_REQUEST__INIT;
    const Identity__GetIdentityResponse *identity =
        fake_call(f, &addons_identity_service, "GetIdentity", &who, &arena, &err);

    assert_non_null(identity);
    assert_string_equal(identity->name, f->plugin.driver);
    assert_string_not_equal(identity->vendor_version, "");
    const Identity__GetCapabilitiesResponse *capabilities =
        fake_call(f, &addons_identity_service, "GetCapabilities", &what, &arena, &err);

    assert_non_null(capabilities);
    assert_int_equal(capabilities->n_capabilities, 2);
    assert_int_equal(capabilities->capabilities[0]->service->type, 2);
    assert_int_equal(capabilities->capabilities[1]->encryption_key_rotation->type, 1);
    assert_int_equal(capabilities->capabilities[1]->type_case, 6);
    assert_non_null(fake_call(f, &addons_identity_service, "Probe", &health, &arena, &err));
}

#define T(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(a_volume_that_is_open_is_rotated_at_once),
        T(a_repeated_call_does_the_same_rotation),
        T(what_this_node_cannot_do_at_once_is_not_asked_for),
        T(what_the_broker_says_is_passed_on),
        T(the_sidecar_learns_name_and_capabilities),
    };
    struct error problem = ERROR_INIT;

    if (!rpc_service_check(&addons_identity_service, &problem) ||
        !rpc_service_check(&addons_rotation_service, &problem)) {
        print_error("%s\n", problem.text);
        return 1;
    }
    return RUN_TESTS(tests);
}
