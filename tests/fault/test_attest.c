/* SPDX-License-Identifier: Apache-2.0 */
#include "broker/service.h"
#include "tests/fault/nth_allocation.h"
#include "tests/unit/broker/evidence.h"

#include <jansson.h>

/*
 * The first, second, ... allocation of GetChallenge and Attest fails. Then the call fails with a clear
 * code and gives back its place among the verifications, and a try with a fresh nonce succeeds.
 */

#define M(name) Tdvol__Keybroker__V1__##name

static struct evidence_world w;
static struct evidence_client td;
static struct evidence_try try;
static uint8_t bytes[QUOTE_LEN_MAX + 4096];
static char tdx[] = "tdx";

static void *count_malloc(size_t size)
{
    return malloc(size);
}

/* Only the broker allocates in here. */
static bool call(const char *method, size_t len, struct error *err)
{
    const struct rpc_peer peer = { .certificate_pem = td.identity.certificate_pem,
                                   .address = "10.0.0.1" };
    const struct rpc_limits limits = { 65536, 256, 4096 };
    auto_arena struct arena arena = { .limit = 1 << 20 };
    struct rpc_bytes out = { .len = 0 };
    char path[96];
    struct rpc_call rpc = {
        .method = path, .arena = &arena, .peer = &peer, .deadline_ms = UINT64_MAX
    };

    (void)snprintf(path, sizeof(path), "/tdvol.keybroker.v1.KeyBroker/%s", method);
    return rpc_dispatch(&broker_service, rpc_service_find(&broker_service, path), &w.f.broker, &rpc,
                        &limits, (struct rpc_bytes){ bytes, len }, &out, err);
}

static size_t pack_attest(void)
{
    M(AttestRequest) request = TDVOL__KEYBROKER__V1__ATTEST_REQUEST__INIT;

    fixture_now_ms += 1000; /* so that the rate allows the next call */
    evidence_prepare(&w, &td, &try);
    request.tee = tdx;
    request.nonce = (ProtobufCBinaryData){ sizeof(try.nonce), try.nonce };
    request.quote = (ProtobufCBinaryData){ try.quote_len, try.quote };
    request.sealing_public_key = (ProtobufCBinaryData){ sizeof(try.sealing_key), try.sealing_key };
    assert_true(protobuf_c_message_get_packed_size(&request.base) <= sizeof(bytes));
    return protobuf_c_message_pack(&request.base, bytes);
}

static size_t pack_nothing(void)
{
    fixture_now_ms += 1000;
    return 0;
}

/* UNAVAILABLE: no line could be written to the audit log; another broker may have memory for one. */
static bool is_shortage(const struct error *err)
{
    return err->code == ERROR_RESOURCE_EXHAUSTED || err->code == ERROR_INTERNAL ||
           err->code == ERROR_UNAVAILABLE;
}

static void fail_each(const char *method, size_t (*pack)(void))
{
    for (unsigned n = 1;; n++) {
        struct error err = ERROR_INIT;
        size_t len = pack();

        nth_allocation_fails(n);
        bool is_done = call(method, len, &err);

        if (!nth_allocation_stop()) {
            if (!is_done)
                fail_msg("%s: %s: %s", method, error_code_name(err.code), err.text);
            assert_true(n > 1);
            return;
        }
        if (is_done) /* this allocation is not needed: a cache */
            continue;
        if (!is_shortage(&err))
            fail_msg("%s, allocation %u: %s: %s", method, n, error_code_name(err.code), err.text);
        assert_int_equal(atomic_load(&w.f.broker.verifications), 0);
    }
}

static void each_try_survives_each_failed_allocation(void **state)
{
    (void)state;
    fail_each("GetChallenge", pack_nothing);
    fail_each("Attest", pack_attest);
    assert_int_equal(attested_sessions_count(w.f.broker.attestations), 1);
}

static int setup(void **state)
{
    (void)state;
    json_set_alloc_funcs(count_malloc, free);
    evidence_start(&w, "");
    evidence_client_new(&td);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    assert_true(fixture_audit_lines(&w.f) > 0);
    evidence_client_wipe(&td);
    evidence_stop(&w);
    return 0;
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_try_survives_each_failed_allocation),
    };

    cmocka_set_message_output(CM_OUTPUT_TAP);
    return cmocka_run_group_tests(tests, setup, teardown);
}
