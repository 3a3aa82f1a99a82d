/* SPDX-License-Identifier: Apache-2.0 */
#include "proto/dispatch.h"
#include "tests/unit/proto/sample.h"
#include "tests/unit/test.h"

#include <stdio.h>
#include <stdlib.h>

#include "csi.pb-c.h"

/* --- A service whose handler keeps what it saw --- */

struct seen {
    unsigned calls;
    char volume_id[256];
    size_t n_flags, n_contexts;
    bool readonly, has_capability;
    enum { SUCCEED, FAIL, FAIL_WITHOUT_REASON, RECOVER } then;
};

static bool publish(struct seen *seen, struct rpc_call *call UNUSED,
                    const Csi__V1__NodePublishVolumeRequest *request,
                    Csi__V1__NodePublishVolumeResponse *response UNUSED, struct error *err)
{
    seen->calls++;
    (void)snprintf(seen->volume_id, sizeof(seen->volume_id), "%s", request->volume_id);
    seen->n_contexts = request->n_volume_context;
    seen->readonly = request->readonly;
    seen->has_capability = request->volume_capability;
    if (request->volume_capability && request->volume_capability->access_type_case ==
                                          CSI__V1__VOLUME_CAPABILITY__ACCESS_TYPE_MOUNT)
        seen->n_flags = request->volume_capability->mount->n_mount_flags;
    if (seen->then == FAIL)
        return error_set(err, ERROR_ABORTED, "busy");
    if (seen->then == RECOVER)
        error_set(err, ERROR_INTERNAL, "tried this first");
    return seen->then != FAIL_WITHOUT_REASON;
}

static bool get_info(struct seen *seen, struct rpc_call *call,
                     const Csi__V1__NodeGetInfoRequest *request UNUSED,
                     Csi__V1__NodeGetInfoResponse *response, struct error *err UNUSED)
{
    seen->calls++;
    response->node_id = arena_strdup(call->arena, "node-7");
    response->max_volumes_per_node = 42;
    return true;
}

RPC_HANDLER(publish, struct seen, Csi__V1__NodePublishVolumeRequest,
            Csi__V1__NodePublishVolumeResponse)
RPC_HANDLER(get_info, struct seen, Csi__V1__NodeGetInfoRequest, Csi__V1__NodeGetInfoResponse)

static const struct rpc_method methods[] = {
    { "NodePublishVolume", publish_untyped, RPC_SECRET },
    { "NodeGetInfo", get_info_untyped, 0 },
};
static const struct rpc_service service = { &csi__v1__node__descriptor, methods,
                                            ARRAY_LEN(methods) };
static const struct rpc_limits limits = { 16000, 128, 4096 };

enum { VOLUME_ID = 1, STAGING_PATH = 3, TARGET_PATH = 4, CAPABILITY = 5, SECRETS = 7, CONTEXT = 8 };

/* Returns the code; seen is what the handler saw. The bytes have a block of exactly their size, so
 * that AddressSanitizer sees a read beyond them. */
static enum error_code dispatch(const struct wire *w, struct seen *seen, struct error *err)
{
    auto_arena struct arena arena = { .blocks = NULL };
    auto_free uint8_t *bytes = malloc(w->len > 0 ? w->len : 1);
    struct rpc_call call = { .method = "/csi.v1.Node/NodePublishVolume", .arena = &arena };
    struct rpc_bytes out = { .len = 77 };

    assert_non_null(bytes);
    if (w->len > 0)
        memcpy(bytes, w->bytes, w->len);
    arena_init_secret(&arena, 65536);
    *err = (struct error)ERROR_INIT;
    if (rpc_dispatch(&service, &methods[0], seen, &call, &limits,
                     (struct rpc_bytes){ bytes, w->len }, &out, err)) {
        assert_int_equal(out.len, 0); /* an empty answer */
        return ERROR_NONE;
    }
    assert_null(out.bytes);
    assert_int_equal(out.len, 77);
    assert_string_not_equal(err->text, "");
    return err->code;
}

static void assert_accepted(const struct wire *w)
{
    struct seen seen = { .calls = 0 };
    struct error err = ERROR_INIT;

    if (dispatch(w, &seen, &err) != ERROR_NONE)
        fail_msg("%s", err.text);
    assert_int_equal(seen.calls, 1);
}

static void assert_invalid(const struct wire *w, const char *field)
{
    struct seen seen = { .calls = 0 };
    struct error err = ERROR_INIT;

    assert_int_equal(dispatch(w, &seen, &err), ERROR_INVALID_ARGUMENT);
    assert_contains(err.text, field);
    assert_int_equal(seen.calls, 0);
}

/* --- What is accepted --- */

static void a_request_reaches_its_handler(void **state UNUSED)
{
    auto_wire struct wire w = { .len = 0 }, mount = { .len = 0 }, capability = { .len = 0 };
    struct seen seen = { .calls = 0 };
    struct error err = ERROR_INIT;

    wire_text(&mount, 1, "ext4");
    wire_text(&mount, 2, "noatime");
    wire_text(&mount, 2, "discard");
    wire_bytes(&capability, 2, mount.bytes, mount.len);
    wire_text(&w, VOLUME_ID, "vol-\xC3\xA4\t1");
    wire_bytes(&w, CAPABILITY, capability.bytes, capability.len);
    wire_tag(&w, 6, 0);
    wire_varint(&w, 1);
    wire_entry(&w, CONTEXT, "a", "1");
    wire_entry(&w, CONTEXT, "b", "");
    assert_int_equal(dispatch(&w, &seen, &err), ERROR_NONE);
    assert_int_equal(seen.calls, 1);
    assert_string_equal(seen.volume_id, "vol-\xC3\xA4\t1");
    assert_true(seen.readonly);
    assert_int_equal(seen.n_flags, 2);
    assert_int_equal(seen.n_contexts, 2);
}

static void an_empty_request_has_empty_fields(void **state UNUSED)
{
    auto_wire struct wire w = { .len = 0 };
    struct seen seen = { .volume_id = "x" };
    struct error err = ERROR_INIT;

    assert_int_equal(dispatch(&w, &seen, &err), ERROR_NONE);
    assert_string_equal(seen.volume_id, "");
    assert_false(seen.has_capability);
}

static void the_answer_is_packed(void **state UNUSED)
{
    auto_arena struct arena arena = { .blocks = NULL };
    struct rpc_call call = { .method = "/csi.v1.Node/NodeGetInfo", .arena = &arena };
    struct seen seen = { .calls = 0 };
    struct error err = ERROR_INIT;
    struct rpc_bytes out = { .len = 0 };

    arena_init(&arena, 65536);
    assert_ok(rpc_dispatch(&service, &methods[1], &seen, &call, &limits,
                           (struct rpc_bytes){ .len = 0 }, &out, &err));
    Csi__V1__NodeGetInfoResponse *info =
        csi__v1__node_get_info_response__unpack(NULL, out.len, out.bytes);
    assert_non_null(info);
    assert_string_equal(info->node_id, "node-7");
    assert_int_equal(info->max_volumes_per_node, 42);
    csi__v1__node_get_info_response__free_unpacked(info, NULL);
}

static void fields_of_a_newer_client_are_ignored(void **state UNUSED)
{
    auto_wire struct wire w = { .len = 0 };

    wire_text(&w, 999, "\xFF\xFE anything at all");
    wire_tag(&w, 1000, 0);
    wire_varint(&w, UINT64_MAX);
    wire_tag(&w, 1001, 1);
    wire_raw(&w, "\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF", 8);
    wire_tag(&w, 1002, 5);
    wire_raw(&w, "\xFF\xFF\xFF\xFF", 4);
    wire_text(&w, VOLUME_ID, "v");
    assert_accepted(&w);
}

static void the_last_value_of_a_field_sent_twice_counts(void **state UNUSED)
{
    auto_wire struct wire w = { .len = 0 };
    struct seen seen = { .calls = 0 };
    struct error err = ERROR_INIT;

    wire_text(&w, VOLUME_ID, "first");
    wire_text(&w, VOLUME_ID, "second");
    assert_int_equal(dispatch(&w, &seen, &err), ERROR_NONE);
    assert_string_equal(seen.volume_id, "second");

    wire_text(&w, VOLUME_ID, "bad\xFF"); /* both are checked */
    wire_text(&w, VOLUME_ID, "good");
    assert_invalid(&w, "volume_id");
}

/* --- What is refused --- */

static void text_that_is_not_utf8_is_refused(void **state UNUSED)
{
    auto_wire struct wire w = { .len = 0 }, entry = { .len = 0 }, mount = { .len = 0 },
                          cap = { .len = 0 };

    wire_text(&w, VOLUME_ID, "a\xC0\x80");
    assert_invalid(&w, "volume_id is not valid UTF-8");

    w.len = 0;
    wire_text(&entry, 1, "key\xFF");
    wire_bytes(&w, CONTEXT, entry.bytes, entry.len);
    assert_invalid(&w, "volume_context is not valid UTF-8");

    w.len = entry.len = 0;
    wire_text(&entry, 2, "value\xED\xA0\x80");
    wire_bytes(&w, SECRETS, entry.bytes, entry.len);
    assert_invalid(&w, "secrets is not valid UTF-8");

    w.len = 0;
    wire_text(&mount, 2, "\xF4\x90\x80\x80");
    wire_bytes(&cap, 2, mount.bytes, mount.len);
    wire_bytes(&w, CAPABILITY, cap.bytes, cap.len);
    assert_invalid(&w, "mount_flags is not valid UTF-8");
}

static void nul_and_control_characters_are_refused(void **state UNUSED)
{
    static const struct {
        const char *bytes;
        size_t len;
        const char *name;
    } rows[] = {
        { "a\0b", 3, "U+0000" },  { "\0", 1, "U+0000" },       { "a\x1B[31m", 6, "U+001B" },
        { "a\x7F", 2, "U+007F" }, { "\xC2\x9B", 2, "U+009B" }, { "a\v", 2, "U+000B" },
    };

    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        auto_wire struct wire w = { .len = 0 };

        wire_bytes(&w, VOLUME_ID, rows[i].bytes, rows[i].len);
        assert_invalid(&w, rows[i].name);
        assert_invalid(&w, "volume_id");
    }
}

static void an_error_does_not_repeat_the_secret(void **state UNUSED)
{
    auto_wire struct wire w = { .len = 0 };
    struct seen seen = { .calls = 0 };
    struct error err = ERROR_INIT;

    wire_entry(&w, SECRETS, "hunter2", "hunter2\x01");
    assert_int_equal(dispatch(&w, &seen, &err), ERROR_INVALID_ARGUMENT);
    assert_null(strstr(err.text, "hunter2"));
    w.len = 0;
    wire_entry(&w, SECRETS, "hunter2", "a");
    wire_entry(&w, SECRETS, "hunter2", "b");
    assert_int_equal(dispatch(&w, &seen, &err), ERROR_INVALID_ARGUMENT);
    assert_contains(err.text, "secrets has a key twice");
    assert_null(strstr(err.text, "hunter2"));
}

static void strings_are_limited_by_their_kind(void **state UNUSED)
{
    static const struct {
        unsigned field;
        size_t max;
        const char *name;
    } rows[] = {
        { VOLUME_ID, 512, "volume_id" },
        { STAGING_PATH, 4096, "staging_target_path" },
        { TARGET_PATH, 4096, "target_path" },
    };

    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        auto_wire struct wire w = { .len = 0 };

        wire_long(&w, rows[i].field, rows[i].max);
        assert_accepted(&w);
        w.len = 0;
        wire_long(&w, rows[i].field, rows[i].max + 1);
        assert_invalid(&w, rows[i].name);
    }
}

static void mount_flags_are_limited_in_all(void **state UNUSED)
{
    for (size_t over = 0; over < 2; over++) {
        auto_wire struct wire w = { .len = 0 }, mount = { .len = 0 }, capability = { .len = 0 };

        for (int i = 0; i < 4; i++)
            wire_long(&mount, 2, 1024);
        if (over)
            wire_text(&mount, 2, "x");
        wire_bytes(&capability, 2, mount.bytes, mount.len);
        wire_bytes(&w, CAPABILITY, capability.bytes, capability.len);
        if (over)
            assert_invalid(&w, "mount_flags");
        else
            assert_accepted(&w);
    }
}

static void maps_are_limited_in_all(void **state UNUSED)
{
    auto_free char *long_value = sample_text(4095), *half = sample_text(2047);
    auto_wire struct wire w = { .len = 0 };

    wire_entry(&w, CONTEXT, "k", long_value); /* beyond the 128 bytes of other strings */
    assert_accepted(&w);
    wire_entry(&w, CONTEXT, "", "x");
    assert_invalid(&w, "volume_context");

    w.len = 0;
    wire_entry(&w, SECRETS, "a", half);
    wire_entry(&w, SECRETS, "b", half);
    assert_accepted(&w);
    wire_entry(&w, SECRETS, "c", "");
    assert_invalid(&w, "secrets");
}

static void a_key_twice_is_refused(void **state UNUSED)
{
    auto_wire struct wire w = { .len = 0 };

    wire_entry(&w, CONTEXT, "a", "1");
    wire_entry(&w, CONTEXT, "A", "1");
    assert_accepted(&w);
    wire_entry(&w, CONTEXT, "a", "1");
    assert_invalid(&w, "volume_context has a key twice");

    w.len = 0;
    wire_bytes(&w, CONTEXT, "", 0); /* a missing key is the key "" */
    assert_accepted(&w);
    wire_bytes(&w, CONTEXT, "", 0);
    assert_invalid(&w, "volume_context has a key twice");
}

static void bytes_that_are_no_message_are_refused(void **state UNUSED)
{
    static const struct {
        const char *bytes;
        size_t len;
    } rows[] = {
        { "\x0A", 1 },                                             /* no length */
        { "\x0A\x05vol", 5 },                                      /* too short */
        { "\x0A\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\x01vol", 14 }, /* length 2^64 - 1 */
        { "\x0A\xFF\xFF\xFF\xFF\x0Fvol", 9 },                      /* length 2^32 - 1 */
        { "\x80", 1 },                                             /* half a tag */
        { "\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\x01", 12 },
        { "\x08\x01", 2 },     /* volume_id as a number */
        { "\x0D\1\2\3\4", 5 }, /* as four bytes */
        { "\x0B\x0C", 2 },     /* a group */
        { "\x0C", 1 },         /* end of a group */
        { "\x0E\x00", 2 },     /* no such wire type */
        { "\x02\x00", 2 },     /* field 0 */
        { "\x80\x00\x00", 3 }, /* the same in two bytes */
        { "\x30", 1 },         /* a bool without its value */
        { "\x2A\x01\x12", 3 }, /* broken inside volume_capability */
    };

    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        auto_wire struct wire w = { .len = 0 };

        wire_raw(&w, rows[i].bytes, rows[i].len);
        assert_invalid(&w, "not a well-formed message");
    }
}

static void a_message_beyond_the_limit_is_refused(void **state UNUSED)
{
    auto_wire struct wire w = { .len = 0 };

    wire_long(&w, 999, limits.message_bytes);
    assert_invalid(&w, "16000");
}

/* --- Handlers, tables, calls --- */

static void errors_of_the_handler_are_passed_on(void **state UNUSED)
{
    auto_wire struct wire w = { .len = 0 };
    struct seen seen = { .then = FAIL };
    struct error err = ERROR_INIT;

    assert_int_equal(dispatch(&w, &seen, &err), ERROR_ABORTED);
    assert_string_equal(err.text, "busy");
    seen.then = FAIL_WITHOUT_REASON;
    assert_int_equal(dispatch(&w, &seen, &err), ERROR_INTERNAL);
    assert_contains(err.text, "NodePublishVolume");
    seen.then = RECOVER;
    assert_int_equal(dispatch(&w, &seen, &err), ERROR_NONE);
}

static void secrets_never_enter_a_plain_arena(void **state UNUSED)
{
    auto_arena struct arena arena = { .blocks = NULL };
    struct rpc_call call = { .method = "/csi.v1.Node/NodePublishVolume", .arena = &arena };
    struct seen seen = { .calls = 0 };
    struct error err = ERROR_INIT;
    struct rpc_bytes out = { .len = 0 };

    arena_init(&arena, 65536);
    assert_refused(ERROR_INTERNAL, rpc_dispatch(&service, &methods[0], &seen, &call, &limits,
                                                (struct rpc_bytes){ .len = 0 }, &out, &err));
    assert_int_equal(seen.calls, 0);
}

static void a_bad_table_is_refused(void **state UNUSED)
{
    static const struct {
        struct rpc_method rows[2];
        const char *text;
    } bad[] = {
        { { { "NodeGetInfo", get_info_untyped, 0 }, { "NodeGetInfos", get_info_untyped, 0 } },
          "no method NodeGetInfos" },
        { { { "NodeGetInfo", get_info_untyped, 0 }, { "NodeGetInfo", get_info_untyped, 0 } },
          "twice" },
        { { { "NodeGetInfo", NULL, 0 }, { "NodePublishVolume", publish_untyped, RPC_SECRET } },
          "NodeGetInfo has no handler" },
        { { { "NodeGetInfo", get_info_untyped, 0 }, { "NodePublishVolume", publish_untyped, 0 } },
          "NodePublishVolume must be flagged RPC_SECRET" },
    };
    struct error err = ERROR_INIT;

    assert_ok(rpc_service_check(&service, &err));
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        struct rpc_service table = { &csi__v1__node__descriptor, bad[i].rows, 2 };

        assert_refused(ERROR_INTERNAL, rpc_service_check(&table, &err));
        assert_contains(err.text, bad[i].text);
    }
}

static void only_the_full_path_finds_a_method(void **state UNUSED)
{
    static const char *const others[] = {
        "",
        "/",
        "//",
        "NodeGetInfo",
        "/NodeGetInfo",
        "csi.v1.Node/NodeGetInfo",
        "/csi.v1.Node",
        "/csi.v1.Node/",
        "/csi.v1.Node/NodeGetInfoX",
        "/csi.v1.Node/NodeGetInf",
        "/csi.v1.Node/nodegetinfo",
        "/csi.v1.Node/NodeGetInfo/",
        "/csi.v1.NodeX/NodeGetInfo",
        "/csi.v1.Nod/NodeGetInfo",
        "/csi.v1.Node.NodeGetInfo",
        "/csi.v1.Controller/NodeGetInfo",
        "/csi.v1.Node/NodeStageVolume", /* of the service, but not in the table */
    };

    assert_ptr_equal(rpc_service_find(&service, "/csi.v1.Node/NodeGetInfo"), &methods[1]);
    assert_ptr_equal(rpc_service_find(&service, "/csi.v1.Node/NodePublishVolume"), &methods[0]);
    for (size_t i = 0; i < ARRAY_LEN(others); i++)
        assert_null(rpc_service_find(&service, others[i]));
}

static bool say_yes(void *cookie)
{
    return *(bool *)cookie;
}

static void a_call_knows_that_it_is_cancelled(void **state UNUSED)
{
    bool gone = false;
    struct rpc_call call = { .deadline_ms = UINT64_MAX };

    assert_false(rpc_call_is_cancelled(&call));
    call.is_cancelled = say_yes;
    call.cookie = &gone;
    assert_false(rpc_call_is_cancelled(&call));
    gone = true;
    assert_true(rpc_call_is_cancelled(&call));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_request_reaches_its_handler),
        cmocka_unit_test(an_empty_request_has_empty_fields),
        cmocka_unit_test(the_answer_is_packed),
        cmocka_unit_test(fields_of_a_newer_client_are_ignored),
        cmocka_unit_test(the_last_value_of_a_field_sent_twice_counts),
        cmocka_unit_test(text_that_is_not_utf8_is_refused),
        cmocka_unit_test(nul_and_control_characters_are_refused),
        cmocka_unit_test(an_error_does_not_repeat_the_secret),
        cmocka_unit_test(strings_are_limited_by_their_kind),
        cmocka_unit_test(mount_flags_are_limited_in_all),
        cmocka_unit_test(maps_are_limited_in_all),
        cmocka_unit_test(a_key_twice_is_refused),
        cmocka_unit_test(bytes_that_are_no_message_are_refused),
        cmocka_unit_test(a_message_beyond_the_limit_is_refused),
        cmocka_unit_test(errors_of_the_handler_are_passed_on),
        cmocka_unit_test(secrets_never_enter_a_plain_arena),
        cmocka_unit_test(a_bad_table_is_refused),
        cmocka_unit_test(only_the_full_path_finds_a_method),
        cmocka_unit_test(a_call_knows_that_it_is_cancelled),
    };

    return RUN_TESTS(tests);
}
