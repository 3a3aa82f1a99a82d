/* SPDX-License-Identifier: Apache-2.0 */
#include "base/hpke.h"
#include "broker/restored.h"
#include "tests/unit/broker/fixture.h"

#include "keybroker.pb-c.h"

/* Whole calls to a broker whose store was restored from a backup. */

#define M(name) Tdvol__Keybroker__V1__##name

#define EPOCH 1800000000000ull /* ms */

static struct fixture f;
static struct arena arena;
static struct error err;
static char driver[] = "d", vol[] = "v", fresh[] = "fresh", n1[] = "n1", n1_id[] = "n1~i",
            boot[] = "b1", snap[] = "snap";

static const void *call(const char *client, const char *method, const ProtobufCMessage *request)
{
    err = (struct error)ERROR_INIT;
    return fixture_call(&f, &arena, client, method, request, &err);
}

static struct record stored(const char *id)
{
    const struct store_name names = { "one", driver, id };
    struct record r;

    assert_ok(f.broker.store->ops->get(f.broker.store, &names, &r, &err));
    return r;
}

static void put(const struct record *r, uint64_t expected)
{
    const struct store_change change = { .next = r, .expected_version = expected };

    assert_ok(f.broker.store->ops->swap(f.broker.store, &change, &err));
}

static const void *create(const char *client, char *id)
{
    M(CreateRecordRequest) request = TDVOL__KEYBROKER__V1__CREATE_RECORD_REQUEST__INIT;
    const struct volume_spec spec = fixture_spec();

    request.driver = driver;
    request.volume_id = id;
    request.spec = fixture_spec_bytes(&spec);
    return call(client, "CreateRecord", &request.base);
}

/* The volume exists, in this phase, in a store that was just restored. */
static void begin(enum record_phase phase)
{
    assert_non_null(create("node", vol));
    struct record r = stored(vol);
    uint64_t version = r.version;

    r.phase = phase;
    r.format.attempt = 1;
    if (phase == RECORD_READY || phase == RECORD_DELETING)
        r.n_header_digests = 1;
    assert_ok(record_restore(&r, EPOCH, &err));
    put(&r, version);
    f.broker.restored_ms = EPOCH;
}

static int setup(void **state UNUSED)
{
    fixture_start(&f);
    arena_init(&arena, 16 << 20);
    return 0;
}

static int teardown(void **state UNUSED)
{
    arena_wipe(&arena);
    fixture_stop(&f);
    return 0;
}

static void set_text(void *message, const ProtobufCMessageDescriptor *d, const char *field,
                     char *value)
{
    const ProtobufCFieldDescriptor *found =
        protobuf_c_message_descriptor_get_field_by_name(d, field);

    if (found)
        memcpy((char *)message + found->offset, &value, sizeof(value));
}

/* Calls a method with all names that it takes. */
static const void *call_plainly(const char *client, const char *method)
{
    const ProtobufCMethodDescriptor *m = protobuf_c_service_descriptor_get_method_by_name(
        &tdvol__keybroker__v1__key_broker__descriptor, method);
    uint8_t public_key[HPKE_PUBLIC_LEN] = { 9 };
    union {
        ProtobufCMessage base;
        M(OpenVolumeRequest) open;
        M(ChangeRecordRequest) change;
        M(CopyRecordRequest) copy;
        M(BeginCopyRequest) begin_copy;
        uint8_t room[512];
    } request = { .room = { 0 } };
    struct record_change closed = { .kind = RECORD_CHANGE_CLOSED };
    struct encoded encoded;

    assert_non_null(m);
    assert_true(m->input->sizeof_message <= sizeof(request));
    protobuf_c_message_init(m->input, &request);
    set_text(&request, m->input, "driver", driver);
    set_text(&request, m->input, "volume_id", vol);
    set_text(&request, m->input, "node", n1);
    set_text(&request, m->input, "boot_id", boot);
    set_text(&request, m->input, "node_id", n1_id);
    set_text(&request, m->input, "name", snap);
    if (strcmp(method, "OpenVolume") == 0)
        request.open.sealing_public_key = (ProtobufCBinaryData){ HPKE_PUBLIC_LEN, public_key };
    if (strcmp(method, "BeginCopy") == 0)
        request.begin_copy.kind = TDVOL__KEYBROKER__V1__KIND__KIND_SNAPSHOT;
    if (strcmp(method, "CopyRecord") == 0) {
        request.copy.volume_id = fresh;
        request.copy.source_volume_id = vol;
        request.copy.source_version = stored(vol).version;
        request.copy.kind = TDVOL__KEYBROKER__V1__KIND__KIND_SNAPSHOT;
    }
    if (strcmp(method, "ChangeRecord") == 0) {
        record_change_encode(&closed, &encoded);
        request.change.change = (ProtobufCBinaryData){ encoded.len, encoded.bytes };
        request.change.expected_version = stored(vol).version;
    }
    return call(client, method, &request.base);
}

/* A controller must not take it for a decision that there is no record: it would delete the disk. */
static enum error_code code_of(const char *method)
{
    return strcmp(method, "BeginCopy") == 0 || strcmp(method, "CopyRecord") == 0
               ? ERROR_UNAVAILABLE
               : ERROR_FAILED_PRECONDITION;
}

static void assert_restored(const char *client, const char *method)
{
    if (call_plainly(client, method))
        fail_msg("%s by %s was not refused", method, client);
    if (err.code != code_of(method) || strcmp(err.reason, RESTORED_REASON) != 0)
        fail_msg("%s by %s: %s", method, client, err.text);
}

static const struct {
    const char *client, *method;
} refused[] = {
    { "node", "OpenVolume" },
    { "node", "ChangeRecord" },
    { "node", "RenewLease" },
    { "node", "TakeOverLease" },
    { "node", "BeginDelete" },
    { "node", "CancelDelete" },
    { "node", "FinishDelete" },
    { "node", "BeginCopy" },
    { "node", "CopyRecord" },
    { "controller", "PublishRecord" },
    { "controller", "UnpublishRecord" },
    { "controller", "BeginDelete" },
    { "rotator", "RotateKey" },
};

static void a_record_that_nobody_adopted_serves_for_nothing(void **state UNUSED)
{
    static const enum record_phase phases[] = { RECORD_NEW, RECORD_FORMATTING, RECORD_READY };

    for (size_t i = 0; i < ARRAY_LEN(phases); i++) {
        begin(phases[i]);
        struct record before = stored(vol), after;

        for (size_t j = 0; j < ARRAY_LEN(refused); j++)
            assert_restored(refused[j].client, refused[j].method);
        assert_null(create("node", vol)); /* not even "it is there already" */
        assert_string_equal(err.reason, RESTORED_REASON);
        after = stored(vol);
        assert_memory_equal(&before, &after, sizeof(before));
        assert_non_null(call_plainly("node", "GetRecord"));
        (void)teardown(NULL);
        (void)setup(NULL);
    }
}

/* The list above leaves out no call that names a record, but those that read or are an admin's. */
static void the_list_of_refused_calls_is_whole(void **state UNUSED)
{
    static const char *const others[] = { "GetRecord",      "EndCopy",       "CreateRecord",
                                          "AdoptRecord",    "AdoptRestored", "ReleaseLease",
                                          "DescribeRecord", "EraseRecord",   "UndeleteRecord" };
    const ProtobufCServiceDescriptor *d = &tdvol__keybroker__v1__key_broker__descriptor;

    for (unsigned i = 0; i < d->n_methods; i++) {
        bool known =
            !protobuf_c_message_descriptor_get_field_by_name(d->methods[i].input, "driver") ||
            strcmp(d->methods[i].name, "ListRecords") == 0;

        for (size_t j = 0; j < ARRAY_LEN(others); j++)
            known |= strcmp(d->methods[i].name, others[j]) == 0;
        for (size_t j = 0; j < ARRAY_LEN(refused); j++)
            known |= strcmp(d->methods[i].name, refused[j].method) == 0;
        if (!known)
            fail_msg("%s is not looked at", d->methods[i].name);
    }
}

static void only_an_admin_adopts(void **state UNUSED)
{
    static const char *const others[] = { "node", "controller", "rotator", "few", "other", "self" };

    begin(RECORD_READY);
    for (size_t i = 0; i < ARRAY_LEN(others); i++) {
        assert_null(call_plainly(others[i], "AdoptRestored"));
        assert_null(call_plainly(others[i], "EndRestore"));
    }
    assert_false(stored(vol).restored.is_adopted);
    assert_non_null(call_plainly("admin", "AdoptRestored"));
    assert_true(stored(vol).restored.is_adopted);
    assert_non_null(call_plainly("node", "OpenVolume"));
    assert_string_equal(stored(vol).lease.holder.node, "n1");
    assert_non_null(call_plainly("admin", "AdoptRestored"));
    assert_string_equal(stored(vol).lease.holder.node, "n1");
}

static void an_adopted_new_volume_is_formatted(void **state UNUSED)
{
    begin(RECORD_FORMATTING);
    assert_restored("node", "OpenVolume");
    assert_non_null(call_plainly("admin", "AdoptRestored"));
    assert_non_null(call_plainly("node", "OpenVolume"));
    assert_int_equal(stored(vol).phase, RECORD_FORMATTING);
    assert_int_equal(stored(vol).format.attempt, 2);
}

/* What was erased after the backup has its key again, until an administrator erases it again. */
static void an_admin_deletes_without_adopting(void **state UNUSED)
{
    begin(RECORD_READY);
    assert_non_null(call_plainly("admin", "BeginDelete"));
    assert_non_null(call_plainly("admin", "CancelDelete"));
    assert_restored("node", "OpenVolume");
    assert_non_null(call_plainly("admin", "BeginDelete"));
    assert_restored("node", "FinishDelete");
    assert_non_null(call_plainly("admin", "FinishDelete"));
    assert_int_equal(stored(vol).phase, RECORD_ERASED);
}

static const M(GetStatusResponse) * status(const char *client)
{
    return call_plainly(client, "GetStatus");
}

static void no_tenant_gets_new_records_before_its_restore_is_ended(void **state UNUSED)
{
    begin(RECORD_READY);
    assert_null(create("node", fresh));
    assert_int_equal(err.code, ERROR_UNAVAILABLE);
    assert_string_equal(err.reason, RESTORED_REASON);
    assert_contains(err.text, "tdvolctl volume adopt --restored --all");
    assert_non_null(call_plainly("admin", "AdoptRestored"));
    assert_restored("node", "CopyRecord");
    assert_true(status("node")->restored_ms == EPOCH);
    uint64_t lines = fixture_audit_lines(&f);
    assert_non_null(call_plainly("admin", "EndRestore"));
    assert_int_equal(fixture_audit_lines(&f), lines + 1);
    assert_true(status("node")->restored_ms == 0);
    assert_non_null(create("node", fresh));
    assert_null(create("other", fresh)); /* of another tenant */
    assert_string_equal(err.reason, RESTORED_REASON);
    f.broker.restored_ms = EPOCH + 1;       /* restored once more, from a backup of this store */
    assert_non_null(create("node", fresh)); /* is there */
    assert_null(create("node", snap));
    assert_string_equal(err.reason, RESTORED_REASON);
}

int main(void)
{
#define CASE(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    static const struct CMUnitTest tests[] = {
        CASE(a_record_that_nobody_adopted_serves_for_nothing),
        CASE(the_list_of_refused_calls_is_whole),
        CASE(only_an_admin_adopts),
        CASE(an_adopted_new_volume_is_formatted),
        CASE(an_admin_deletes_without_adopting),
        CASE(no_tenant_gets_new_records_before_its_restore_is_ended),
    };

    return RUN_TESTS(tests);
}
