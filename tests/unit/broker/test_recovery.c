/* SPDX-License-Identifier: Apache-2.0 */
#include "base/hpke.h"
#include "broker/service.h"
#include "record/encoding.h"
#include "tests/unit/broker/fixture.h"
#include "tests/unit/record/made_certificate.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>

#include "keybroker.pb-c.h"

/* Who gets the recovery certificate, and when: it is in the signed record, for whoever formats. */

#define M(name) Tdvol__Keybroker__V1__##name

struct world {
    struct fixture f;
    struct arena arena;
    struct hpke_key_pair node;
    struct made_certificate made;
};

static char driver[] = "d", vol[] = "v", n1[] = "n1", boot[] = "b1";

/* The fixture's policy with a certificate for all tenants but "two". */
static void set_policy(struct world *w)
{
    static const char rule[] = "{s:s, s:{s:s}, s:s, s:[s,s], s:b, s:[s], s:[s]}";
    auto_policy struct policy *policy = NULL;
    struct error err = ERROR_INIT;
    json_t *rules = json_array(), *json = NULL;

    for (int i = 0; i < 2; i++) {
        const char *name = i == 0 ? "node" : "other";
        json_t *one = json_pack(rule, "name", name, "match", "certificate.cn", name, "tenant",
                                i == 0 ? "one" : "two", "may", "create", "open",
                                "without_attestation", 1, "volumes", "*", "nodes", "*");

        assert_int_equal(json_array_append_new(rules, one), 0);
    }
    json = json_pack("{s:i, s:{s:s, s:{s:b}}, s:o}", "version", 1, "recovery", "certificate",
                     w->made.pem, "tenants", "two", 0, "rules", rules);
    auto_free char *text = json_dumps(json, 0);

    json_decref(json);
    assert_non_null(text);
    assert_ok(policy_parse(text, strlen(text), &policy, &err));
    broker_set_policy(&w->f.broker, &policy);
}

static int setup(void **state)
{
    static struct world world;
    struct error err = ERROR_INIT;

    fixture_start(&world.f);
    arena_init(&world.arena, 16 << 20);
    assert_ok(hpke_generate(&world.node, false, &err));
    world.made = make_certificate(&(struct certificate_wish){ .kind = "P-256" });
    *state = &world;
    return 0;
}

static int teardown(void **state)
{
    struct world *world = *state;

    made_certificate_free(&world->made);
    arena_wipe(&world->arena);
    hpke_key_pair_wipe(&world->node);
    fixture_stop(&world->f);
    return 0;
}

/* A call that must succeed, by the client with that name. The record in the answer. */
static struct record call(struct world *w, const char *cn, const char *method,
                          const ProtobufCMessage *request)
{
    const struct rpc_peer peer = { .certificate_pem = cn };
    const struct rpc_limits limits = { 65536, 256, 4096 };
    char path[96];
    struct rpc_call rpc = {
        .method = path, .arena = &w->arena, .peer = &peer, .deadline_ms = UINT64_MAX
    };
    size_t len = protobuf_c_message_get_packed_size(request);
    uint8_t *bytes = arena_alloc(&w->arena, len + 1);
    struct rpc_bytes out = { .len = 0 };
    struct error err = ERROR_INIT;
    struct record r;

    (void)snprintf(path, sizeof(path), "/tdvol.keybroker.v1.KeyBroker/%s", method);
    protobuf_c_message_pack(request, bytes);
    assert_ok(rpc_dispatch(&broker_service, rpc_service_find(&broker_service, path), &w->f.broker,
                           &rpc, &limits, (struct rpc_bytes){ bytes, len }, &out, &err));
    /* field 1 of all these answers */
    M(GetRecordResponse) *answer =
        tdvol__keybroker__v1__get_record_response__unpack(NULL, out.len, out.bytes);
    assert_non_null(answer);
    assert_ok(record_decode(answer->record.data, answer->record.len, &r, &err));
    tdvol__keybroker__v1__get_record_response__free_unpacked(answer, NULL);
    return r;
}

static void create(struct world *w, const char *cn)
{
    const struct volume_spec spec = fixture_spec();
    M(CreateRecordRequest) request = TDVOL__KEYBROKER__V1__CREATE_RECORD_REQUEST__INIT;

    request.driver = driver;
    request.volume_id = vol;
    request.spec = fixture_spec_bytes(&spec);
    assert_int_equal(call(w, cn, "CreateRecord", &request.base).recovery.certificate_len, 0);
}

static struct record opened(struct world *w, const char *cn)
{
    M(OpenVolumeRequest) request = TDVOL__KEYBROKER__V1__OPEN_VOLUME_REQUEST__INIT;

    request.driver = driver;
    request.volume_id = vol;
    request.node = n1;
    request.boot_id = boot;
    request.sealing_public_key.data = w->node.public_key;
    request.sealing_public_key.len = HPKE_PUBLIC_LEN;
    return call(w, cn, "OpenVolume", &request.base);
}

static struct record got(struct world *w, const char *cn)
{
    M(GetRecordRequest) request = TDVOL__KEYBROKER__V1__GET_RECORD_REQUEST__INIT;

    request.driver = driver;
    request.volume_id = vol;
    return call(w, cn, "GetRecord", &request.base);
}

static void who_formats_gets_the_certificate_of_the_tenant(void **state)
{
    struct world *w = *state;

    create(w, "node");
    assert_int_equal(opened(w, "node").recovery.certificate_len, 0); /* the policy has none */
    set_policy(w);
    const struct record r = opened(w, "node");

    assert_int_equal(r.phase, RECORD_FORMATTING);
    assert_int_equal(r.recovery.certificate_len, w->made.der_len);
    assert_memory_equal(r.recovery.certificate, w->made.der, w->made.der_len);
    assert_int_equal(got(w, "node").recovery.certificate_len, 0);
}

static void a_tenant_that_declines_gets_none(void **state)
{
    struct world *w = *state;

    set_policy(w);
    create(w, "other");
    assert_int_equal(opened(w, "other").recovery.certificate_len, 0);
}

static void a_ready_volume_keeps_what_it_was_formatted_with(void **state)
{
    struct world *w = *state;
    struct record r;
    struct error err = ERROR_INIT;
    const struct store_name name = { "one", driver, vol };

    create(w, "node");
    set_policy(w);
    (void)opened(w, "node");
    assert_ok(w->f.broker.store->ops->get(w->f.broker.store, &name, &r, &err));
    assert_int_equal(r.recovery.certificate_len, 0); /* the store has none */
    r.phase = RECORD_READY;
    r.n_header_digests = 1;
    r.header_digests[0][0] = r.recovery.sha256[0] = 5; /* not of the policy's certificate */
    r.lease.holder = r.format.holder;
    r.format.holder = (struct record_holder){ .node = "" };
    r.version++;
    const struct store_change change = { .next = &r, .expected_version = r.version - 1 };
    assert_ok(w->f.broker.store->ops->swap(w->f.broker.store, &change, &err));
    r = opened(w, "node");
    assert_int_equal(r.recovery.certificate_len, 0);
    assert_int_equal(r.recovery.sha256[0], 5);
}

int main(void)
{
#define CASE(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    static const struct CMUnitTest tests[] = {
        CASE(who_formats_gets_the_certificate_of_the_tenant),
        CASE(a_tenant_that_declines_gets_none),
        CASE(a_ready_volume_keeps_what_it_was_formatted_with),
    };

    return RUN_TESTS(tests);
}
