/* SPDX-License-Identifier: Apache-2.0 */
#include "base/hpke.h"
#include "broker/service.h"
#include "record/encoding.h"
#include "store/keyring.h"
#include "tests/fault/nth_allocation.h"
#include "tests/unit/broker/fixture.h"

#include <jansson.h>

#include "keybroker.pb-c.h"

/*
 * The first, second, ... allocation of each broker handler fails, also jansson's for the audit line.
 * The call fails with a clear code, and the same call then succeeds.
 */

#define M(name) Tdvol__Keybroker__V1__##name

static struct fixture f;
static struct hpke_key_pair node;
static char driver[] = "d", vol[] = "v", copy_id[] = "s", n1[] = "n1", boot[] = "b1";

static void *count_malloc(size_t size)
{
    return malloc(size);
}

static bool call(const char *cn, const char *method, const ProtobufCMessage *request,
                 struct error *err)
{
    const struct rpc_peer peer = { .certificate_pem = cn };
    const struct rpc_limits limits = { 65536, 256, 4096 };
    auto_arena struct arena arena = { .limit = 1 << 20 };
    uint8_t bytes[2048];
    struct rpc_bytes out = { .len = 0 };
    size_t len = protobuf_c_message_get_packed_size(request);
    char path[96];
    struct rpc_call rpc = {
        .method = path, .arena = &arena, .peer = &peer, .deadline_ms = UINT64_MAX
    };

    assert_true(len <= sizeof(bytes));
    protobuf_c_message_pack(request, bytes);
    (void)snprintf(path, sizeof(path), "/tdvol.keybroker.v1.KeyBroker/%s", method);
    return rpc_dispatch(&broker_service, rpc_service_find(&broker_service, path), &f.broker, &rpc,
                        &limits, (struct rpc_bytes){ bytes, len }, &out, err);
}

/* The secret that the broker released for the record. */
static void open_secret(const struct record *r, const ProtobufCMessage *request, struct secret *out)
{
    struct error err = ERROR_INIT;
    struct store_key wrapped;

    assert_ok(call("node", "OpenVolume", request, &err));
    assert_ok(f.broker.store->ops->get_key(f.broker.store, &r->key, &wrapped, &err));
    assert_ok(keyring_unwrap(f.broker.keyring, "one", &wrapped, out, &err));
}

/* UNAVAILABLE: no line could be written to the audit log; another broker may have memory for one. */
static bool is_shortage(const struct error *err)
{
    return err->code == ERROR_RESOURCE_EXHAUSTED || err->code == ERROR_INTERNAL ||
           err->code == ERROR_UNAVAILABLE;
}

static void fail_each(const char *cn, const char *method, const ProtobufCMessage *request)
{
    for (unsigned n = 1;; n++) {
        struct error err = ERROR_INIT;

        nth_allocation_fails(n);
        bool is_done = call(cn, method, request, &err);

        if (!nth_allocation_stop()) {
            if (!is_done)
                fail_msg("%s: %s: %s", method, error_code_name(err.code), err.text);
            assert_true(n > 1);
            return;
        }
        if (is_done) /* this allocation is not needed: a larger block */
            continue;
        if (!is_shortage(&err))
            fail_msg("%s, allocation %u: %s: %s", method, n, error_code_name(err.code), err.text);
    }
}

static void each_handler_survives_each_failed_allocation(void **state)
{
    M(CreateRecordRequest) create = TDVOL__KEYBROKER__V1__CREATE_RECORD_REQUEST__INIT;
    M(GetStatusRequest) status = TDVOL__KEYBROKER__V1__GET_STATUS_REQUEST__INIT;
    M(GetRecordRequest) get = TDVOL__KEYBROKER__V1__GET_RECORD_REQUEST__INIT;
    M(ListRecordsRequest) list = TDVOL__KEYBROKER__V1__LIST_RECORDS_REQUEST__INIT;
    M(OpenVolumeRequest) open = TDVOL__KEYBROKER__V1__OPEN_VOLUME_REQUEST__INIT;
    M(ChangeRecordRequest) change = TDVOL__KEYBROKER__V1__CHANGE_RECORD_REQUEST__INIT;
    M(TakeOverLeaseRequest) take_over = TDVOL__KEYBROKER__V1__TAKE_OVER_LEASE_REQUEST__INIT;
    M(CopyRecordRequest) copy = TDVOL__KEYBROKER__V1__COPY_RECORD_REQUEST__INIT;
    M(DeleteRequest) deletion = TDVOL__KEYBROKER__V1__DELETE_REQUEST__INIT;
    M(ReleaseLeaseRequest) release = TDVOL__KEYBROKER__V1__RELEASE_LEASE_REQUEST__INIT;
    const struct store_name name = { "one", driver, vol };
    const struct volume_spec s = fixture_spec();
    struct record r;
    struct record_change ready = { .kind = RECORD_CHANGE_READY, .header_digest = { 1 } };
    auto_secret struct secret secret = SECRET_INIT;
    uint8_t nonce[ANSWER_NONCE_LEN] = { 1 }, proof[PROOF_LEN];
    struct encoded encoded;
    struct error err = ERROR_INIT;

    (void)state;
    create.driver = get.driver = open.driver = change.driver = copy.driver = deletion.driver =
        release.driver = list.driver = driver;
    create.volume_id = get.volume_id = open.volume_id = change.volume_id = release.volume_id =
        copy.source_volume_id = vol;
    create.spec = fixture_spec_bytes(&s);
    open.node = change.node = take_over.node = n1;
    open.boot_id = change.boot_id = take_over.boot_id = boot;
    take_over.driver = driver;
    take_over.volume_id = vol;
    get.nonce = open.nonce = change.nonce = (ProtobufCBinaryData){ sizeof(nonce), nonce };
    open.sealing_public_key = (ProtobufCBinaryData){ HPKE_PUBLIC_LEN, node.public_key };

    fail_each("node", "GetStatus", &status.base);
    fail_each("node", "CreateRecord", &create.base);
    fail_each("node", "GetRecord", &get.base);
    fail_each("node", "ListRecords", &list.base);
    fail_each("node", "OpenVolume", &open.base);

    assert_ok(f.broker.store->ops->get(f.broker.store, &name, &r, &err));
    open_secret(&r, &open.base, &secret);
    assert_ok(f.broker.store->ops->get(f.broker.store, &name, &r, &err));
    ready.attempt = r.format.attempt;
    assert_ok(proof_by_secret(&secret, &r, r.version, &ready, proof, &err));
    change.proof = (ProtobufCBinaryData){ sizeof(proof), proof };
    record_change_encode(&ready, &encoded);
    change.change = (ProtobufCBinaryData){ encoded.len, encoded.bytes };
    change.expected_version = r.version;
    fail_each("node", "ChangeRecord", &change.base);
    fail_each("node", "TakeOverLease", &take_over.base);
    fail_each("admin", "ReleaseLease", &release.base);

    assert_ok(f.broker.store->ops->get(f.broker.store, &name, &r, &err));
    assert_int_equal(r.phase, RECORD_READY);
    copy.volume_id = copy_id;
    copy.name = copy_id;
    copy.kind = TDVOL__KEYBROKER__V1__KIND__KIND_SNAPSHOT;
    copy.source_version = r.version;
    fail_each("node", "CopyRecord", &copy.base);

    deletion.volume_id = copy_id;
    fail_each("node", "BeginDelete", &deletion.base);
    fail_each("node", "CancelDelete", &deletion.base);
    assert_ok(call("node", "BeginDelete", &deletion.base, &err));
}

/* A case of its own, because after the record is erased the same request finds nothing. */
static void finish_delete_survives_each_failed_allocation(void **state)
{
    M(DeleteRequest) deletion = TDVOL__KEYBROKER__V1__DELETE_REQUEST__INIT;
    const struct store_name name = { "one", driver, copy_id };
    struct record r;
    struct error err = ERROR_INIT;

    (void)state;
    deletion.driver = driver;
    deletion.volume_id = copy_id;
    for (unsigned n = 1; n < 100; n++) {
        nth_allocation_fails(n);
        bool is_done = call("node", "FinishDelete", &deletion.base, &err);
        bool has_failed = nth_allocation_stop();

        if (is_done || err.code == ERROR_NOT_FOUND) /* done, only the answer was lost */
            break;
        assert_true(has_failed);
        assert_true(is_shortage(&err));
    }
    assert_ok(f.broker.store->ops->get(f.broker.store, &name, &r, &err));
    assert_int_equal(r.phase, RECORD_ERASED);
}

static int setup(void **state)
{
    struct error err = ERROR_INIT;

    (void)state;
    json_set_alloc_funcs(count_malloc, free);
    fixture_start(&f);
    assert_ok(hpke_generate(&node, false, &err));
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    assert_true(fixture_audit_lines(&f) > 0);
    hpke_key_pair_wipe(&node);
    fixture_stop(&f);
    return 0;
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_handler_survives_each_failed_allocation),
        cmocka_unit_test(finish_delete_survives_each_failed_allocation),
    };

    cmocka_set_message_output(CM_OUTPUT_TAP);
    return cmocka_run_group_tests(tests, setup, teardown);
}
