/* SPDX-License-Identifier: Apache-2.0 */
#include "broker/service.h"
#include "broker/worker_answer.h"
#include "record/check.h"
#include "record/encoding.h"
#include "store/keyring.h"
#include "tests/unit/broker/fixture.h"

#include "keybroker.pb-c.h"

/* Whole calls: what the broker signs for a worker, and which changes it takes from whom. */

#define M(name) Tdvol__Keybroker__V1__##name

static struct fixture f;
static struct arena arena;
static struct hpke_key_pair node;
static struct secret secret;
static struct error err;
static uint8_t nonce[ANSWER_NONCE_LEN + 1] = { 7, 8, 9 };
static char driver[] = "d", vol[] = "v", n1[] = "n1", boot[] = "b1";

static const void *call(const char *method, const ProtobufCMessage *request)
{
    static char path[96];
    static uint8_t bytes[16384];
    const struct rpc_peer peer = { .certificate_pem = "node" };
    const struct rpc_limits limits = { 65536, 256, 4096 };
    struct rpc_call rpc = {
        .method = path, .arena = &arena, .peer = &peer, .deadline_ms = UINT64_MAX
    };
    const ProtobufCMethodDescriptor *d = protobuf_c_service_descriptor_get_method_by_name(
        &tdvol__keybroker__v1__key_broker__descriptor, method);
    struct rpc_bytes out = { .len = 0 };
    ProtobufCMessage *answer = NULL;
    size_t len = protobuf_c_message_pack(request, bytes);

    err = (struct error)ERROR_INIT;
    (void)snprintf(path, sizeof(path), "/tdvol.keybroker.v1.KeyBroker/%s", method);
    if (!rpc_dispatch(&broker_service, rpc_service_find(&broker_service, path), &f.broker, &rpc,
                      &limits, (struct rpc_bytes){ bytes, len }, &out, &err))
        return NULL;
    assert_true(rpc_decode(d->output, &limits, out, &arena, &answer, &err));
    return answer;
}

static ProtobufCBinaryData nonce_of(size_t len)
{
    return (ProtobufCBinaryData){ len, len > 0 ? nonce : NULL };
}

static const M(OpenVolumeResponse) * open_volume(bool read_only, size_t nonce_len)
{
    M(OpenVolumeRequest) request = TDVOL__KEYBROKER__V1__OPEN_VOLUME_REQUEST__INIT;

    request.driver = driver;
    request.volume_id = vol;
    request.node = n1;
    request.boot_id = boot;
    request.read_only = read_only;
    request.sealing_public_key = (ProtobufCBinaryData){ HPKE_PUBLIC_LEN, node.public_key };
    request.nonce = nonce_of(nonce_len);
    return call("OpenVolume", &request.base);
}

static const struct record *stored(void)
{
    const struct store_name name = { "one", driver, vol };
    static struct record r;

    assert_ok(f.broker.store->ops->get(f.broker.store, &name, &r, &err));
    return &r;
}

static int setup(void **state UNUSED)
{
    M(CreateRecordRequest) create = TDVOL__KEYBROKER__V1__CREATE_RECORD_REQUEST__INIT;
    const struct volume_spec spec = fixture_spec();
    struct store_key wrapped;

    fixture_start(&f);
    arena_init(&arena, 16 << 20);
    assert_ok(hpke_generate(&node, false, &err));
    create.driver = driver;
    create.volume_id = vol;
    create.spec = fixture_spec_bytes(&spec);
    assert_non_null(call("CreateRecord", &create.base));
    const struct record r = *stored();

    assert_ok(f.broker.store->ops->get_key(f.broker.store, &r.key, &wrapped, &err));
    assert_ok(keyring_unwrap(f.broker.keyring, "one", &wrapped, &secret, &err));
    return 0;
}

static int teardown(void **state UNUSED)
{
    secret_wipe(&secret);
    arena_wipe(&arena);
    hpke_key_pair_wipe(&node);
    fixture_stop(&f);
    return 0;
}

/* --- signatures --- */

static bool holds(const struct answer_question *question, const ProtobufCBinaryData *record,
                  const ProtobufCBinaryData *sealed, const ProtobufCBinaryData *signature,
                  const ProtobufCBinaryData *certificates)
{
    static struct answer_bytes bytes;
    static struct broker_signature given;
    auto_broker_trust struct broker_trust trust = { .names = { 1, { "localhost" } } };
    struct sealed_secret copy;

    if (signature->len > sizeof(given.bytes) || certificates->len > sizeof(given.certificates))
        return false;
    given = (struct broker_signature){ .len = (uint32_t)signature->len,
                                       .certificates_len = (uint32_t)certificates->len };
    memcpy(given.bytes, signature->data, signature->len);
    memcpy(given.certificates, certificates->data, certificates->len);
    if (sealed)
        memcpy(copy.bytes, sealed->data, sizeof(copy.bytes));
    assert_ok(broker_trust_read_ca(&trust, f.end.ca_pem, &err));
    answer_encode(question, record->data, record->len, sealed ? &copy : NULL, &bytes);
    return broker_signature_check(&trust, &given, bytes.bytes, bytes.len, NULL, &err);
}

static bool opened_holds(const M(OpenVolumeResponse) * o, enum answer_kind kind)
{
    const struct answer_question question =
        broker_end_question(kind, nonce, node.public_key, HPKE_PUBLIC_LEN);

    return holds(&question, &o->record, &o->sealed_secret, &o->signature, &o->certificates);
}

static void an_opening_is_signed_for_its_question(void **state UNUSED)
{
    const M(OpenVolumeResponse) *o = open_volume(false, ANSWER_NONCE_LEN);

    assert_non_null(o);
    assert_ok(opened_holds(o, ANSWER_OPEN));
    assert_false(opened_holds(o, ANSWER_OPEN_READ_ONLY));
    assert_false(opened_holds(o, ANSWER_CHANGE));
    nonce[5] ^= 1;
    assert_false(opened_holds(o, ANSWER_OPEN));
    nonce[5] ^= 1;
    node.public_key[0] ^= 1;
    assert_false(opened_holds(o, ANSWER_OPEN));
    node.public_key[0] ^= 1;
    o->sealed_secret.data[40] ^= 1;
    assert_false(opened_holds(o, ANSWER_OPEN));
    o->sealed_secret.data[40] ^= 1;
    o->record.data[o->record.len - 1] ^= 1;
    assert_false(opened_holds(o, ANSWER_OPEN));
}

static void a_record_is_signed_only_for_a_worker(void **state UNUSED)
{
    M(GetRecordRequest) request = TDVOL__KEYBROKER__V1__GET_RECORD_REQUEST__INIT;
    const struct answer_question question = broker_end_question(ANSWER_RECORD, nonce, NULL, 0);

    request.driver = driver;
    request.volume_id = vol;
    const M(GetRecordResponse) *plain = call("GetRecord", &request.base);
    assert_non_null(plain);
    assert_int_equal(plain->signature.len, 0);
    assert_int_equal(plain->certificates.len, 0);
    request.nonce = nonce_of(ANSWER_NONCE_LEN);
    const M(GetRecordResponse) *o = call("GetRecord", &request.base);
    assert_non_null(o);
    assert_ok(holds(&question, &o->record, NULL, &o->signature, &o->certificates));
}

/* A worker refuses a record with more time than any format may take. */
static void a_format_has_no_more_time_where_the_clock_is_behind(void **state UNUSED)
{
    M(GetRecordRequest) request = TDVOL__KEYBROKER__V1__GET_RECORD_REQUEST__INIT;
    const uint64_t day_ms = RECORD_FORMAT_MS_MAX;
    struct record r;

    fixture_now_ms += 2 * day_ms;
    assert_non_null(open_volume(false, 0));
    fixture_now_ms -= day_ms + day_ms / 2;
    request.driver = driver;
    request.volume_id = vol;
    const M(GetRecordResponse) *answer = call("GetRecord", &request.base);
    assert_non_null(answer);
    assert_ok(record_decode(answer->record.data, answer->record.len, &r, &err));
    assert_ok(record_check(&r, &err));
    assert_int_equal(r.format.remaining_ms, f.broker.format_ms);
}

static void a_nonce_has_one_length(void **state UNUSED)
{
    for (size_t len = 1; len <= ANSWER_NONCE_LEN + 1; len++) {
        if (len == ANSWER_NONCE_LEN)
            continue;
        assert_null(open_volume(false, len));
        assert_int_equal(err.code, ERROR_INVALID_ARGUMENT);
    }
    assert_int_equal(stored()->phase, RECORD_NEW); /* a refused question changes nothing */
}

static void another_certificate_brings_its_own_key(void **state UNUSED)
{
    struct broker_signer *signer = NULL;

    broker_end_free(&f.end);
    broker_end_make(&f.end, NULL);
    assert_ok(broker_signer_new(f.end.certificates_pem, &f.end.key_pem, &signer, &err));
    broker_set_signer(&f.broker, &signer);
    const M(OpenVolumeResponse) *o = open_volume(false, ANSWER_NONCE_LEN);
    assert_non_null(o);
    assert_ok(opened_holds(o, ANSWER_OPEN));
}

/* --- proofs --- */

static const M(ChangeRecordResponse) *
    change(const struct record_change *wanted, uint64_t version, const uint8_t *proof)
{
    static struct encoded encoded;
    M(ChangeRecordRequest) request = TDVOL__KEYBROKER__V1__CHANGE_RECORD_REQUEST__INIT;
    uint8_t copy[PROOF_LEN];

    record_change_encode(wanted, &encoded);
    request.driver = driver;
    request.volume_id = vol;
    request.node = n1;
    request.boot_id = boot;
    request.expected_version = version;
    request.change = (ProtobufCBinaryData){ encoded.len, encoded.bytes };
    request.nonce = nonce_of(ANSWER_NONCE_LEN);
    if (proof) {
        memcpy(copy, proof, sizeof(copy));
        request.proof = (ProtobufCBinaryData){ sizeof(copy), copy };
    }
    return call("ChangeRecord", &request.base);
}

static void expect_no_proof(const struct record_change *wanted, uint64_t version,
                            const uint8_t *proof)
{
    const struct record before = *stored();

    assert_null(change(wanted, version, proof));
    assert_int_equal(err.code, ERROR_DENIED);
    assert_string_equal(err.reason, PROOF_REASON);
    assert_int_equal(stored()->version, before.version);
}

static void prove(const struct record *r, uint64_t version, const struct record_change *wanted,
                  uint8_t out[static PROOF_LEN])
{
    assert_ok(proof_by_secret(&secret, r, version, wanted, out, &err));
}

static void prove_close(const struct record *r, const struct record_change *wanted,
                        uint8_t out[static PROOF_LEN])
{
    uint8_t key[CLOSE_KEY_LEN];

    assert_ok(close_key_derive(&secret, r, key, &err));
    assert_ok(proof_by_close_key(key, wanted, out, &err));
}

/* The volume is READY and open, its counter is 1. */
static struct record open_it(void)
{
    const struct record_change ready = { .kind = RECORD_CHANGE_READY, .attempt = 1 };
    const struct record_change opened = { .kind = RECORD_CHANGE_OPENED, .open_counter = 1 };
    uint8_t proof[PROOF_LEN];

    assert_non_null(open_volume(false, ANSWER_NONCE_LEN));
    struct record r = *stored();

    prove(&r, r.version, &ready, proof);
    assert_non_null(change(&ready, r.version, proof));
    r = *stored();
    prove(&r, r.version, &opened, proof);
    assert_non_null(change(&opened, r.version, proof));
    return *stored();
}

static void ready_and_opened_come_from_the_worker_alone(void **state UNUSED)
{
    const struct record_change ready = { .kind = RECORD_CHANGE_READY, .attempt = 1 };
    const struct record_change opened = { .kind = RECORD_CHANGE_OPENED, .open_counter = 1 };
    struct record_change other = ready;
    uint8_t proof[PROOF_LEN], wrong[PROOF_LEN];

    assert_non_null(open_volume(false, 0));
    struct record r = *stored(), twin = r;

    expect_no_proof(&ready, r.version, NULL);
    prove(&r, r.version, &ready, proof);
    memcpy(wrong, proof, sizeof(wrong));
    wrong[31] ^= 1;
    expect_no_proof(&ready, r.version, wrong);
    expect_no_proof(&ready, r.version + 1, proof); /* of another version */
    other.header_digest[0] = 1;
    expect_no_proof(&other, r.version, proof); /* of another change */
    twin.id[0] ^= 1;
    prove(&twin, r.version, &ready, wrong);
    expect_no_proof(&ready, r.version, wrong); /* of another volume with the same secret */
    prove_close(&r, &ready, wrong);
    expect_no_proof(&ready, r.version, wrong);
    assert_int_equal(stored()->phase, RECORD_FORMATTING);

    const M(ChangeRecordResponse) *o = change(&ready, r.version, proof);
    struct encoded encoded;

    assert_non_null(o);
    record_change_encode(&ready, &encoded);
    const struct answer_question question =
        broker_end_question(ANSWER_CHANGE, nonce, encoded.bytes, encoded.len);
    assert_ok(holds(&question, &o->record, NULL, &o->signature, &o->certificates));
    expect_no_proof(&opened, stored()->version, proof);
}

static void how_an_opening_ended_comes_from_that_opening_alone(void **state UNUSED)
{
    const struct record_change marked = { .kind = RECORD_CHANGE_CLOSED, .is_closed = true };
    const struct record_change hashed = { .kind = RECORD_CHANGE_CLOSED,
                                          .has_clean_hash = true,
                                          .clean_hash = { 1 } };
    uint8_t proof[PROOF_LEN];
    struct record r = open_it(), other = r;

    expect_no_proof(&marked, r.version, NULL);
    expect_no_proof(&hashed, r.version, NULL);
    other.open_counter--;
    prove_close(&other, &marked, proof);
    expect_no_proof(&marked, r.version, proof); /* of the opening before */
    other.open_counter += 2;
    prove_close(&other, &marked, proof);
    expect_no_proof(&marked, r.version, proof);
    prove(&r, r.version, &marked, proof);
    expect_no_proof(&marked, r.version, proof); /* with the key of other changes */
    prove_close(&r, &hashed, proof);
    expect_no_proof(&marked, r.version, proof);
    assert_non_null(change(&hashed, r.version, proof));
    assert_true(stored()->has_clean_hash);
}

/* While a worker still formats, a front could otherwise have another node format, too. */
static void a_format_is_given_up_by_its_worker_or_by_its_deadline(void **state UNUSED)
{
    const struct record_change closed = { .kind = RECORD_CHANGE_CLOSED };
    uint8_t proof[PROOF_LEN], wrong[PROOF_LEN];

    assert_non_null(open_volume(false, 0));
    struct record r = *stored();

    expect_no_proof(&closed, r.version, NULL);
    prove(&r, r.version, &closed, proof);
    memcpy(wrong, proof, sizeof(wrong));
    wrong[0] ^= 1;
    expect_no_proof(&closed, r.version, wrong);
    prove_close(&r, &closed, wrong);
    expect_no_proof(&closed, r.version, wrong);
    assert_non_null(open_volume(false, 0)); /* the next attempt: the proof is of the one before */
    expect_no_proof(&closed, stored()->version, proof);
    r = *stored();
    prove(&r, r.version, &closed, proof);
    assert_non_null(change(&closed, r.version, proof));
    assert_int_equal(stored()->phase, RECORD_NEW);
    assert_non_null(change(&closed, r.version, NULL)); /* the answer was lost */
    assert_non_null(open_volume(false, 0));
    fixture_now_ms = stored()->format.deadline_ms - 1;
    expect_no_proof(&closed, stored()->version, NULL);
    fixture_now_ms++;
    assert_non_null(change(&closed, stored()->version, NULL));
    assert_int_equal(stored()->phase, RECORD_NEW);
}

/* Nobody else can format it. */
static void a_format_on_the_one_node_that_has_the_space_is_given_up_without_proof(
    void **state UNUSED)
{
    const struct record_change closed = { .kind = RECORD_CHANGE_CLOSED };
    M(CreateRecordRequest) create = TDVOL__KEYBROKER__V1__CREATE_RECORD_REQUEST__INIT;
    struct volume_spec spec = fixture_spec();

    (void)snprintf(spec.location, sizeof(spec.location), "%s", n1);
    vol[0] = 'w';
    create.driver = driver;
    create.volume_id = vol;
    create.spec = fixture_spec_bytes(&spec);
    assert_non_null(call("CreateRecord", &create.base));
    assert_non_null(open_volume(false, 0));
    assert_non_null(change(&closed, stored()->version, NULL));
    assert_int_equal(stored()->phase, RECORD_NEW);
    vol[0] = 'v';
}

static void what_a_front_may_say_alone_needs_no_proof(void **state UNUSED)
{
    const struct record_change closed = { .kind = RECORD_CHANGE_CLOSED };
    struct record_change grown = { .kind = RECORD_CHANGE_GROWN };
    struct record r;

    assert_non_null(open_volume(false, 0));
    r = *stored();
    const struct record_change ready = { .kind = RECORD_CHANGE_READY, .attempt = 1 };
    uint8_t proof[PROOF_LEN];

    prove(&r, r.version, &ready, proof);
    assert_non_null(change(&ready, r.version, proof));
    grown.size_bytes = r.spec.size_bytes;
    grown.mapping_bytes = r.spec.mapping_bytes;
    grown.device_bytes = r.spec.device_bytes + 4096;
    assert_non_null(change(&grown, stored()->version, NULL));
    assert_non_null(change(&closed, stored()->version, NULL));
    r = *stored();
    assert_int_equal(r.lease.holder.node[0], 0);
    assert_false(r.is_closed || r.has_clean_hash);
}

static void a_kind_that_is_not_known_is_invalid(void **state UNUSED)
{
    struct record_change odd = { .kind = RECORD_CHANGE_KIND_COUNT };
    struct record r = open_it();

    for (int i = 0; i < 2; i++) {
        assert_null(change(&odd, r.version, NULL));
        assert_int_equal(err.code, ERROR_INVALID_ARGUMENT);
        odd.kind = 0;
    }
}

int main(void)
{
#define CASE(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    static const struct CMUnitTest tests[] = {
        CASE(an_opening_is_signed_for_its_question),
        CASE(a_record_is_signed_only_for_a_worker),
        CASE(a_format_has_no_more_time_where_the_clock_is_behind),
        CASE(a_nonce_has_one_length),
        CASE(another_certificate_brings_its_own_key),
        CASE(ready_and_opened_come_from_the_worker_alone),
        CASE(how_an_opening_ended_comes_from_that_opening_alone),
        CASE(a_format_is_given_up_by_its_worker_or_by_its_deadline),
        CASE(a_format_on_the_one_node_that_has_the_space_is_given_up_without_proof),
        CASE(what_a_front_may_say_alone_needs_no_proof),
        CASE(a_kind_that_is_not_known_is_invalid),
    };

    return RUN_TESTS(tests);
}
