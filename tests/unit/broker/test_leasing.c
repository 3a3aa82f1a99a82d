/* SPDX-License-Identifier: Apache-2.0 */
#include "attest/broker_signature.h"
#include "base/hpke.h"
#include "broker/leasing.h"
#include "record/answer.h"
#include "record/encoding.h"
#include "record/publication.h"
#include "tests/unit/broker/fixture.h"

#include <stdio.h>

#include "keybroker.pb-c.h"

/* Whole calls: who has a volume with fencing=suspend, and when the next one gets it. Also as two replicas of
 * the broker over one store see it. */

#define M(name) Tdvol__Keybroker__V1__##name
#define LEASE   60000ull

static struct fixture f;
static struct arena arena;
static struct hpke_key_pair node;
static struct error err;
static char driver[] = "d", vol[] = "v", n1[] = "n1", n2[] = "n2", boot[] = "b1";

static const char policy_text[] =
    "{\"version\":1,\"leases\":{\"seconds\":60},\"rules\":["
    "{\"name\":\"nodes\",\"match\":{\"certificate.cn\":\"node\"},\"tenant\":\"one\","
    " \"may\":[\"create\",\"open\",\"publish\"],\"without_attestation\":true,\"volumes\":[\"*\"],"
    " \"nodes\":[\"n?\"]},"
    "{\"name\":\"one\",\"match\":{\"certificate.cn\":\"n1\"},\"tenant\":\"one\","
    " \"may\":[\"open\"],\"without_attestation\":true,\"volumes\":[\"*\"],"
    " \"nodes\":[\"${certificate.cn}\"]},"
    "{\"name\":\"deleters\",\"match\":{\"certificate.cn\":\"deleter\"},\"tenant\":\"one\","
    " \"may\":[\"delete\"],\"volumes\":[\"*\"],\"nodes\":[\"*\"]}]}";

static const void *call(const char *client, const char *method, const ProtobufCMessage *request)
{
    err = (struct error)ERROR_INIT;
    return fixture_call(&f, &arena, client, method, request, &err);
}

static struct record stored(void)
{
    const struct store_name names = { "one", driver, vol };
    struct record r;

    assert_ok(f.broker.store->ops->get(f.broker.store, &names, &r, &err));
    return r;
}

static void store_again(struct record *r)
{
    const struct store_change swap = { .next = r, .expected_version = r->version };

    r->version++;
    assert_ok(f.broker.store->ops->swap(f.broker.store, &swap, &err));
}

static bool open_by(char *name)
{
    M(OpenVolumeRequest) request = TDVOL__KEYBROKER__V1__OPEN_VOLUME_REQUEST__INIT;

    request.driver = driver;
    request.volume_id = vol;
    request.node = name;
    request.boot_id = boot;
    request.sealing_public_key = (ProtobufCBinaryData){ HPKE_PUBLIC_LEN, node.public_key };
    return call("node", "OpenVolume", &request.base) != NULL;
}

static void expect_held(char *name)
{
    assert_false(open_by(name));
    assert_int_equal(err.code, ERROR_ABORTED);
    assert_string_equal(err.reason, LEASE_HELD_REASON);
}

static const M(RenewLeaseResponse) * renew(const char *client, char *name, uint8_t first)
{
    uint8_t nonce[ANSWER_NONCE_LEN] = { first };
    M(RenewLeaseRequest) request = TDVOL__KEYBROKER__V1__RENEW_LEASE_REQUEST__INIT;

    request.driver = driver;
    request.volume_id = vol;
    request.node = name;
    request.boot_id = boot;
    request.nonce = (ProtobufCBinaryData){ first ? sizeof(nonce) : 0, nonce };
    return call(client, "RenewLease", &request.base);
}

static bool unpublish(char *node_id, bool retire)
{
    M(UnpublishRecordRequest) request = TDVOL__KEYBROKER__V1__UNPUBLISH_RECORD_REQUEST__INIT;

    request.driver = driver;
    request.volume_id = vol;
    request.node_id = node_id;
    request.expected_epoch = stored().published.epoch;
    request.retire = retire;
    return call("node", "UnpublishRecord", &request.base) != NULL;
}

/* The volume is READY, and open on n1. */
static int setup(void **state UNUSED)
{
    M(CreateRecordRequest) request = TDVOL__KEYBROKER__V1__CREATE_RECORD_REQUEST__INIT;
    auto_policy struct policy *policy = NULL;
    struct volume_spec spec = fixture_spec();

    fixture_start(&f);
    arena_init(&arena, 16 << 20);
    assert_ok(policy_parse(policy_text, sizeof(policy_text) - 1, &policy, &err));
    broker_set_policy(&f.broker, &policy);
    assert_ok(hpke_generate(&node, false, &err));
    spec.fencing = FENCING_SUSPEND;
    request.driver = driver;
    request.volume_id = vol;
    request.spec = fixture_spec_bytes(&spec);
    assert_non_null(call("node", "CreateRecord", &request.base));
    struct record r = stored();
    r.phase = RECORD_READY;
    r.n_header_digests = 1;
    r.header_digests[0][0] = 1;
    store_again(&r);
    assert_true(open_by(n1));
    assert_int_equal(stored().lease.lease_ms, LEASE);
    return 0;
}

static int teardown(void **state UNUSED)
{
    arena_wipe(&arena);
    hpke_key_pair_wipe(&node);
    fixture_stop(&f);
    return 0;
}

static void a_silent_node_loses_the_volume_when_its_lease_is_over(void **state UNUSED)
{
    const uint64_t wait_ms = leasing_wait_ms(LEASE);

    fixture_now_ms += 10 * wait_ms; /* that nobody asked for it counts for nothing */
    expect_held(n2);
    fixture_now_ms += wait_ms - 1;
    expect_held(n2);
    assert_string_equal(stored().lease.holder.node, n1);
    fixture_now_ms++;
    assert_true(open_by(n2));
    assert_string_equal(stored().lease.holder.node, n2);
    assert_null(renew("node", n1, 0));
    assert_string_equal(err.reason, LEASE_LOST_REASON);
    assert_non_null(renew("node", n2, 0));
}

static void a_node_that_renews_keeps_the_volume(void **state UNUSED)
{
    for (int i = 0; i < 10; i++) {
        fixture_now_ms += LEASE - 1;
        expect_held(n2);
        assert_int_not_equal(stored().lease.contested, 0);
        assert_non_null(renew("node", n1, 0));
        assert_int_equal(stored().lease.contested, 0);
    }
    assert_string_equal(stored().lease.holder.node, n1);
}

static void a_renewal_changes_nothing_unless_somebody_waits(void **state UNUSED)
{
    const struct record before = stored();
    const uint64_t lines = fixture_audit_lines(&f);

    for (int i = 0; i < 3; i++)
        assert_non_null(renew("node", n1, 0));
    const struct record after = stored();
    assert_memory_equal(&before, &after, sizeof(before));
    assert_int_equal(fixture_audit_lines(&f), lines);
    expect_held(n2); /* the mark, and the refusal */
    assert_int_equal(fixture_audit_lines(&f), lines + 2);
    assert_non_null(renew("node", n1, 0));
    assert_int_equal(fixture_audit_lines(&f), lines + 3);
}

/* A replica has seen nothing but what is in the store, and has a clock of its own. */
static void another_replica_measures_for_itself(void **state UNUSED)
{
    struct sightings *const here = f.broker.leases;
    struct sightings *other = NULL;
    const uint64_t wait_ms = leasing_wait_ms(LEASE);

    assert_ok(sightings_new(f.broker.steady_ms, &other, &err));
    expect_held(n2);
    fixture_now_ms += wait_ms;
    f.broker.leases = other;
    fixture_now_ms += 1000 * wait_ms; /* its clock is far ahead */
    expect_held(n2);
    fixture_now_ms -= 1000 * wait_ms;
    f.broker.leases = here;
    assert_true(open_by(n2));
    sightings_free(&other);
}

static void the_lease_counts_as_it_is_now(void **state UNUSED)
{
    struct record r;

    expect_held(n2);
    fixture_now_ms += leasing_wait_ms(LEASE);
    r = stored();
    r.lease.lease_ms = 2 * LEASE;
    store_again(&r);
    expect_held(n2);
    fixture_now_ms += leasing_wait_ms(2 * LEASE) - leasing_wait_ms(LEASE);
    assert_true(open_by(n2));
}

static void a_lease_without_end_is_never_over(void **state UNUSED)
{
    struct record r = stored();

    r.lease.lease_ms = 0;
    store_again(&r);
    for (int i = 0; i < 2; i++) {
        assert_false(open_by(n2));
        assert_int_equal(err.code, ERROR_FAILED_PRECONDITION);
        fixture_now_ms += 100 * LEASE;
    }
    assert_true(leasing_wait_ms(LEASE) >= LEASE + LEASE / 20 + 5000);
}

static void a_mark_that_was_taken_away_between_two_looks_does_not_count(void **state UNUSED)
{
    const uint64_t wait_ms = leasing_wait_ms(LEASE);

    expect_held(n2);
    fixture_now_ms += wait_ms - 1;
    assert_non_null(renew("node", n1, 0));
    fixture_now_ms++;
    expect_held(n2);
    fixture_now_ms += wait_ms - 1;
    expect_held(n2);
    fixture_now_ms++;
    assert_true(open_by(n2));
}

static void a_detach_waits_for_the_lease(void **state UNUSED)
{
    const uint64_t wait_ms = leasing_wait_ms(LEASE);
    struct record r = stored();

    r.spec.backing = BACKING_DEVICE;
    r.spec.needs_publication = true;
    memcpy(r.published.nodes, "w:n1", sizeof("w:n1"));
    store_again(&r);
    assert_true(unpublish(n1, true));
    assert_null(renew("node", n1, 0));
    assert_string_equal(err.reason, PUBLICATION_REASON);
    assert_false(unpublish(n1, false));
    assert_string_equal(err.reason, LEASE_HELD_REASON);
    fixture_now_ms += wait_ms;
    assert_true(unpublish(n1, false));
    assert_int_equal(stored().lease.holder.node[0], 0);
}

static void only_the_node_itself_renews(void **state UNUSED)
{
    static uint8_t nonce[ANSWER_NONCE_LEN];
    M(RenewLeaseRequest) request = TDVOL__KEYBROKER__V1__RENEW_LEASE_REQUEST__INIT;

    assert_non_null(renew("n1", n1, 1));
    assert_null(renew("n1", n2, 1));
    assert_int_equal(err.code, ERROR_DENIED);
    assert_null(renew("deleter", n1, 1));
    assert_int_equal(err.code, ERROR_DENIED);
    request.driver = driver;
    request.volume_id = vol;
    request.node = n1;
    assert_null(call("n1", "RenewLease", &request.base));
    assert_int_equal(err.code, ERROR_INVALID_ARGUMENT);
    request.boot_id = boot;
    request.nonce = (ProtobufCBinaryData){ 1, nonce };
    assert_null(call("n1", "RenewLease", &request.base));
    assert_int_equal(err.code, ERROR_INVALID_ARGUMENT);
}

static bool is_signed(const M(RenewLeaseResponse) * answer, enum answer_kind kind,
                      const uint8_t *nonce)
{
    static struct answer_bytes bytes;
    static struct broker_signature given;
    auto_broker_trust struct broker_trust trust = { .names = { 1, { "localhost" } } };
    struct answer_question question = { .kind = kind };

    assert_in_range(answer->signature.len, 1, sizeof(given.bytes));
    assert_in_range(answer->certificates.len, 1, sizeof(given.certificates));
    given = (struct broker_signature){ .len = (uint32_t)answer->signature.len,
                                       .certificates_len = (uint32_t)answer->certificates.len };
    memcpy(given.bytes, answer->signature.data, answer->signature.len);
    memcpy(given.certificates, answer->certificates.data, answer->certificates.len);
    memcpy(question.nonce, nonce, ANSWER_NONCE_LEN);
    assert_ok(broker_trust_read_ca(&trust, f.end.ca_pem, &err));
    answer_encode(&question, answer->record.data, answer->record.len, NULL, &bytes);
    return broker_signature_check(&trust, &given, bytes.bytes, bytes.len, NULL, &err);
}

/* The front must not be able to give an answer twice, or one to GetRecord. */
static void the_answer_is_signed_for_this_question(void **state UNUSED)
{
    static uint8_t first[ANSWER_NONCE_LEN] = { 1 }, second[ANSWER_NONCE_LEN] = { 2 };
    const M(RenewLeaseResponse) *answer = renew("node", n1, first[0]);
    struct record r;

    assert_non_null(answer);
    assert_true(is_signed(answer, ANSWER_RENEW, first));
    assert_false(is_signed(answer, ANSWER_RENEW, second));
    assert_false(is_signed(answer, ANSWER_RECORD, first));
    assert_ok(record_decode(answer->record.data, answer->record.len, &r, &err));
    assert_int_equal(r.lease.lease_ms, LEASE);
}

int main(void)
{
#define CASE(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    static const struct CMUnitTest tests[] = {
        CASE(a_silent_node_loses_the_volume_when_its_lease_is_over),
        CASE(a_node_that_renews_keeps_the_volume),
        CASE(a_renewal_changes_nothing_unless_somebody_waits),
        CASE(another_replica_measures_for_itself),
        CASE(the_lease_counts_as_it_is_now),
        CASE(a_lease_without_end_is_never_over),
        CASE(a_mark_that_was_taken_away_between_two_looks_does_not_count),
        CASE(a_detach_waits_for_the_lease),
        CASE(only_the_node_itself_renews),
        CASE(the_answer_is_signed_for_this_question),
    };

    return RUN_TESTS(tests);
}
