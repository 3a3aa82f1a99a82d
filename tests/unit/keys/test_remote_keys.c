/* SPDX-License-Identifier: Apache-2.0 */
#include "keys/remote_keys.h"
#include "record/encoding.h"
#include "tests/unit/record/sample.h"
#include "tests/unit/test.h"

#include <stdlib.h>

#include "keybroker.pb-c.h"

/* What the broker is asked, and which of its answers are accepted. */

#define M(name) Tdvol__Keybroker__V1__##name

static struct error err;

/* A broker that answers each call with one record, and remembers what it was asked. */
static struct {
    struct record record;
    struct encoded encoded; /* the answer's record, which a test may replace */
    size_t secret_len, signature_len, certificates_len;
    uint64_t source_version;
    char token[KEYS_TOKEN_MAX + 3];
    const char *method;
    struct arena arena; /* holds the request */
    ProtobufCMessage *request;
} broker;

static ProtobufCBinaryData bytes_of(struct arena *arena, size_t len, uint8_t fill)
{
    uint8_t *bytes = arena_alloc(arena, len + 1);

    for (size_t i = 0; i < len; i++)
        bytes[i] = fill;
    return (ProtobufCBinaryData){ len, bytes };
}

/* All answers of one record have the same shape. */
static ProtobufCMessage *one_record(struct arena *arena)
{
    M(GetRecordResponse) *m = arena_alloc(arena, sizeof(*m));

    tdvol__keybroker__v1__get_record_response__init(m);
    m->record = (ProtobufCBinaryData){ broker.encoded.len, broker.encoded.bytes };
    m->signature = bytes_of(arena, broker.signature_len, 's');
    m->certificates = bytes_of(arena, broker.certificates_len, 'c');
    return &m->base;
}

static ProtobufCMessage *opened(struct arena *arena)
{
    M(OpenVolumeResponse) *m = arena_alloc(arena, sizeof(*m));

    tdvol__keybroker__v1__open_volume_response__init(m);
    m->record = (ProtobufCBinaryData){ broker.encoded.len, broker.encoded.bytes };
    m->sealed_secret.len = broker.secret_len;
    m->sealed_secret.data = arena_alloc(arena, broker.secret_len);
    m->signature = bytes_of(arena, broker.signature_len, 's');
    m->certificates = bytes_of(arena, broker.certificates_len, 'c');
    return &m->base;
}

static ProtobufCMessage *begun(struct arena *arena)
{
    M(BeginCopyResponse) *m = arena_alloc(arena, sizeof(*m));

    tdvol__keybroker__v1__begin_copy_response__init(m);
    m->record = (ProtobufCBinaryData){ broker.encoded.len, broker.encoded.bytes };
    m->source_version = broker.source_version;
    return &m->base;
}

static ProtobufCMessage *listed(struct arena *arena)
{
    M(ListRecordsResponse) *m = arena_alloc(arena, sizeof(*m));

    tdvol__keybroker__v1__list_records_response__init(m);
    m->records = arena_alloc(arena, sizeof(*m->records));
    m->records[0] = (ProtobufCBinaryData){ broker.encoded.len, broker.encoded.bytes };
    m->n_records = 1;
    m->next_page_token = broker.token;
    return &m->base;
}

static bool answer(void *cookie UNUSED, const char *operation, const char *method,
                   const ProtobufCMessage *request, struct arena *arena,
                   ProtobufCMessage **response, struct error *call_err UNUSED)
{
    size_t len = protobuf_c_message_get_packed_size(request);
    uint8_t *bytes = arena_alloc(&broker.arena, len + 1);

    assert_string_equal(operation, "Test");
    protobuf_c_message_pack(request, bytes);
    if (broker.request)
        protobuf_c_message_free_unpacked(broker.request, NULL);
    broker.request = protobuf_c_message_unpack(request->descriptor, NULL, len, bytes);
    broker.method = method;
    *response = strcmp(method, "OpenVolume") == 0    ? opened(arena)
                : strcmp(method, "ListRecords") == 0 ? listed(arena)
                : strcmp(method, "BeginCopy") == 0   ? begun(arena)
                                                     : one_record(arena);
    return true;
}

static struct remote_keys keys;

static int setup(void **state UNUSED)
{
    broker.record = sample_record();
    record_encode(&broker.record, &broker.encoded);
    broker.secret_len = SEALED_SECRET_LEN;
    broker.signature_len = broker.certificates_len = 0;
    arena_init(&broker.arena, 1u << 20);
    remote_keys_init(&keys, (struct broker_transport){ .call = answer }, "driver.example",
                     "node-9");
    return 0;
}

static int teardown(void **state UNUSED)
{
    arena_wipe(&broker.arena);
    if (broker.request)
        protobuf_c_message_free_unpacked(broker.request, NULL);
    broker.request = NULL;
    return 0;
}

static bool get(struct record *out)
{
    return keys.keys.ops->get(&keys.keys, "Test", "volume-1", NULL, out, &err);
}

static void a_good_record_is_taken_whole(void **state UNUSED)
{
    static struct record out;
    const M(GetRecordRequest) *asked = NULL;

    assert_ok(get(&out));
    assert_memory_equal(&out, &broker.record, sizeof(out));
    assert_string_equal(broker.method, "GetRecord");
    asked = (const void *)broker.request;
    assert_string_equal(asked->driver, "driver.example");
    assert_string_equal(asked->volume_id, "volume-1");
}

static void what_is_not_a_sound_record_of_this_volume_is_refused(void **state UNUSED)
{
    static struct record bad[7], out;

    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        bad[i] = broker.record;
    bad[0].driver[0] = 'D';
    bad[1].volume_id[0] = 'V';
    bad[2].version = 0;
    bad[3].spec.mapping_bytes += 4096;
    bad[4].spec.integrity = 4;
    bad[5].n_header_digests = 0;
    bad[6].key.generation = 0;
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        record_encode(&bad[i], &broker.encoded);
        assert_refused(ERROR_INTERNAL, get(&out));
        assert_contains(err.text, "the key broker's answer is not usable");
    }
    record_encode(&broker.record, &broker.encoded);
    broker.encoded.len--;
    assert_refused(ERROR_INTERNAL, get(&out));
    broker.encoded.len = 0;
    assert_refused(ERROR_INTERNAL, get(&out));
}

static void unknown_versions_name_the_one_that_is_known(void **state UNUSED)
{
    static struct record out;

    broker.encoded.bytes[1] = 2;
    assert_refused(ERROR_FAILED_PRECONDITION, get(&out));
    assert_contains(err.text, "this is 1");
    broker.record.spec.layout_version = 2;
    record_encode(&broker.record, &broker.encoded);
    assert_refused(ERROR_FAILED_PRECONDITION, get(&out));
    assert_contains(err.text, "this is version 1");
}

static void an_erased_record_is_not_found(void **state UNUSED)
{
    static struct record out;

    broker.record.phase = RECORD_ERASED;
    broker.record.key = (struct record_key){ .generation = 0 };
    broker.record.n_header_digests = 0;
    record_encode(&broker.record, &broker.encoded);
    assert_refused(ERROR_NOT_FOUND, get(&out));
}

static void a_creation_sends_the_spec_and_a_change_itself(void **state UNUSED)
{
    static struct record out;
    static struct record_change change = { .kind = RECORD_CHANGE_OPENED, .open_counter = 7 };
    static struct record_change sent_change;
    struct volume_spec sent;

    assert_ok(
        keys.keys.ops->create(&keys.keys, "Test", "volume-1", &broker.record.spec, &out, &err));
    const M(CreateRecordRequest) *made = (const void *)broker.request;
    assert_ok(volume_spec_decode(made->spec.data, made->spec.len, &sent, &err));
    assert_memory_equal(&sent, &broker.record.spec, sizeof(sent));

    assert_ok(keys.keys.ops->change(&keys.keys, "Test", NULL, &change, &out, &err));
    const M(ChangeRecordRequest) *changed = (const void *)broker.request;
    assert_int_equal(changed->expected_version, broker.record.version);
    assert_string_equal(changed->node, "node-9");
    assert_string_equal(changed->boot_id, keys.boot_id);
    assert_ok(record_change_decode(changed->change.data, changed->change.len, &sent_change, &err));
    assert_memory_equal(&sent_change, &change, sizeof(change));
}

static void a_copy_has_the_version_of_its_first_request(void **state UNUSED)
{
    static struct record source;
    static const struct keys_copy copy = { .kind = RECORD_SNAPSHOT, .name = "snapshot-1" };

    broker.source_version = broker.record.version + 3;
    assert_ok(keys.keys.ops->begin_copy(&keys.keys, "Test", "volume-1", &copy, &source, &err));
    assert_int_equal(source.version, broker.record.version + 3);
    const M(BeginCopyRequest) *asked = (const void *)broker.request;
    assert_string_equal(asked->volume_id, "volume-1");
    assert_string_equal(asked->name, "snapshot-1");
    assert_int_equal(asked->kind, RECORD_SNAPSHOT);
    broker.source_version = 0;
    assert_refused(ERROR_INTERNAL,
                   keys.keys.ops->begin_copy(&keys.keys, "Test", "volume-1", &copy, &source, &err));
    assert_ok(keys.keys.ops->end_copy(&keys.keys, "Test", "volume-1", &copy, &err));
    assert_string_equal(broker.method, "EndCopy");
}

static void a_take_over_asks_for_no_key(void **state UNUSED)
{
    static struct record out;

    assert_ok(keys.keys.ops->take_over(&keys.keys, "Test", "volume-1", &out, &err));
    assert_string_equal(broker.method, "TakeOverLease");
    const M(TakeOverLeaseRequest) *asked = (const void *)broker.request;
    assert_string_equal(asked->node, "node-9");
    assert_string_equal(asked->boot_id, keys.boot_id);
}

static void a_renewal_names_this_boot(void **state UNUSED)
{
    static struct record out;

    assert_ok(keys.keys.ops->renew(&keys.keys, "Test", "volume-1", NULL, &out, &err));
    assert_string_equal(broker.method, "RenewLease");
    const M(RenewLeaseRequest) *asked = (const void *)broker.request;
    assert_string_equal(asked->volume_id, "volume-1");
    assert_string_equal(asked->node, "node-9");
    assert_string_equal(asked->boot_id, keys.boot_id);
}

static void a_sealed_secret_has_one_length(void **state UNUSED)
{
    static const uint8_t key[HPKE_PUBLIC_LEN] = { 3 };
    static struct record out;
    struct sealed_secret secret;

    const struct keys_open open = { .volume_id = "volume-1", .public_key = key };

    assert_ok(keys.keys.ops->open(&keys.keys, "Test", &open, &out, &secret, &err));
    broker.secret_len--;
    assert_refused(ERROR_INTERNAL,
                   keys.keys.ops->open(&keys.keys, "Test", &open, &out, &secret, &err));
}

/* The three questions of a worker. */
static bool relay_one(size_t i, const struct relay *relay)
{
    static const uint8_t key[HPKE_PUBLIC_LEN] = { 3 };
    static const struct record_change change = { .kind = RECORD_CHANGE_OPENED };
    static struct record out;
    struct keys_open open = { .volume_id = "volume-1", .public_key = key, .relay = relay };
    struct sealed_secret secret;

    out = broker.record;
    if (i == 0)
        return keys.keys.ops->get(&keys.keys, "Test", "volume-1", relay, &out, &err);
    if (i == 1)
        return keys.keys.ops->open(&keys.keys, "Test", &open, &out, &secret, &err);
    return keys.keys.ops->change(&keys.keys, "Test", relay, &change, &out, &err);
}

static ProtobufCBinaryData nonce_sent(size_t i)
{
    if (i == 0)
        return ((const M(GetRecordRequest) *)(const void *)broker.request)->nonce;
    if (i == 1)
        return ((const M(OpenVolumeRequest) *)(const void *)broker.request)->nonce;
    return ((const M(ChangeRecordRequest) *)(const void *)broker.request)->nonce;
}

static void what_worker_and_broker_tell_each_other_passes_unread(void **state UNUSED)
{
    static const struct relay_question question = { .nonce = { 1, 2, 3 },
                                                    .has_proof = true,
                                                    .proof = { 4, 5, 6 } };
    static struct broker_signature signature;
    const struct relay relay = { &question, &signature };

    broker.signature_len = 70;
    broker.certificates_len = BROKER_CERTIFICATES_MAX;
    for (size_t i = 0; i < 3; i++) {
        signature = (struct broker_signature){ .len = 0 };
        assert_ok(relay_one(i, &relay));
        assert_int_equal(nonce_sent(i).len, ANSWER_NONCE_LEN);
        assert_memory_equal(nonce_sent(i).data, question.nonce, ANSWER_NONCE_LEN);
        assert_int_equal(signature.len, 70);
        assert_int_equal(signature.bytes[69], 's');
        assert_int_equal(signature.certificates_len, BROKER_CERTIFICATES_MAX);
        assert_int_equal(signature.certificates[BROKER_CERTIFICATES_MAX - 1], 'c');
    }
    const M(ChangeRecordRequest) *changed = (const void *)broker.request;
    assert_int_equal(changed->proof.len, PROOF_LEN);
    assert_memory_equal(changed->proof.data, question.proof, PROOF_LEN);
    /* The plugin's own questions have neither. */
    for (size_t i = 0; i < 3; i++) {
        assert_ok(relay_one(i, NULL));
        assert_int_equal(nonce_sent(i).len, 0);
    }
    assert_int_equal(((const M(ChangeRecordRequest) *)(const void *)broker.request)->proof.len, 0);
}

static void a_signature_has_its_bounds(void **state UNUSED)
{
    static const struct relay_question question = { .nonce = { 1 } };
    static struct broker_signature signature;
    const struct relay relay = { &question, &signature };

    for (size_t i = 0; i < 3; i++) {
        broker.signature_len = BROKER_SIGNATURE_MAX + 1;
        broker.certificates_len = 0;
        assert_refused(ERROR_INTERNAL, relay_one(i, &relay));
        broker.signature_len = BROKER_SIGNATURE_MAX;
        assert_ok(relay_one(i, &relay));
        broker.certificates_len = BROKER_CERTIFICATES_MAX + 1;
        assert_refused(ERROR_INTERNAL, relay_one(i, &relay));
    }
}

static bool count(void *cookie, const struct record *record UNUSED, struct error *each_err UNUSED)
{
    ++*(unsigned *)cookie;
    return true;
}

static void a_page_token_is_bounded(void **state UNUSED)
{
    unsigned n = 0;
    const struct keys_list list = {
        .kind = RECORD_VOLUME, .source_id = "", .token = "", .each = count, .cookie = &n
    };
    char next[KEYS_TOKEN_MAX + 1];

    for (size_t i = 0; i < KEYS_TOKEN_MAX + 1; i++)
        broker.token[i] = 't';
    assert_refused(ERROR_INTERNAL, keys.keys.ops->list(&keys.keys, "Test", &list, next, &err));
    broker.token[KEYS_TOKEN_MAX] = '\0';
    assert_ok(keys.keys.ops->list(&keys.keys, "Test", &list, next, &err));
    assert_string_equal(next, broker.token);
    assert_int_equal(n, 2);
    broker.token[0] = '\0';
}

static void a_publication_expects_the_epoch_that_was_read(void **state UNUSED)
{
    static struct record out;
    const struct keys_ops *ops = keys.keys.ops;

    out = broker.record;
    out.published.epoch = 14;
    assert_ok(ops->publish(&keys.keys, "Test", "n1~i", true, &out, &err));
    assert_string_equal(broker.method, "PublishRecord");
    const M(PublishRecordRequest) *asked = (const void *)broker.request;

    assert_string_equal(asked->driver, "driver.example");
    assert_string_equal(asked->volume_id, "volume-1");
    assert_string_equal(asked->node_id, "n1~i");
    assert_true(asked->read_only);
    assert_int_equal(asked->expected_epoch, 14);
    assert_memory_equal(&out, &broker.record, sizeof(out)); /* the record after the change */
    assert_ok(ops->unpublish(&keys.keys, "Test", "", &out, &err));
    assert_string_equal(broker.method, "UnpublishRecord");
    const M(UnpublishRecordRequest) *back = (const void *)broker.request;

    assert_string_equal(back->volume_id, "volume-1");
    assert_string_equal(back->node_id, "");
    assert_int_equal(back->expected_epoch, 15);
    assert_false(back->retire);
    assert_ok(ops->retire(&keys.keys, "Test", "n1~i", &out, &err));
    back = (const void *)broker.request;
    assert_string_equal(broker.method, "UnpublishRecord");
    assert_string_equal(back->node_id, "n1~i");
    assert_true(back->retire);
    broker.record.volume_id[0] = 'V';
    record_encode(&broker.record, &broker.encoded);
    assert_refused(ERROR_INTERNAL, ops->unpublish(&keys.keys, "Test", "", &out, &err));
    assert_refused(ERROR_INTERNAL, ops->publish(&keys.keys, "Test", "n1", false, &out, &err));
}

static void records_are_found_in_calls_that_the_broker_takes(void **state UNUSED)
{
    static const char *ids[1000];
    unsigned n = 0;

    for (size_t i = 0; i < ARRAY_LEN(ids); i++)
        ids[i] = i < 900 ? "volume-1" : "volume-2";
    assert_ok(keys.keys.ops->find(&keys.keys, "Test", ids, ARRAY_LEN(ids), count, &n, &err));
    assert_int_equal(n, 5); /* this broker gives one record for each call */
    const M(ListRecordsRequest) *asked = (const void *)broker.request;

    assert_string_equal(asked->driver, "driver.example");
    assert_int_equal(asked->n_volume_ids, 200);
    assert_string_equal(asked->volume_ids[199], "volume-2");
    broker.method = "none";
    assert_ok(keys.keys.ops->find(&keys.keys, "Test", ids, 0, count, &n, &err));
    assert_string_equal(broker.method, "none");
    broker.record.driver[0] = 'D';
    record_encode(&broker.record, &broker.encoded);
    assert_refused(ERROR_INTERNAL,
                   keys.keys.ops->find(&keys.keys, "Test", ids, 1, count, &n, &err));
}

int main(void)
{
#define CASE(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        CASE(a_good_record_is_taken_whole),
        CASE(what_is_not_a_sound_record_of_this_volume_is_refused),
        CASE(unknown_versions_name_the_one_that_is_known),
        CASE(an_erased_record_is_not_found),
        CASE(a_creation_sends_the_spec_and_a_change_itself),
        CASE(a_copy_has_the_version_of_its_first_request),
        CASE(a_take_over_asks_for_no_key),
        CASE(a_renewal_names_this_boot),
        CASE(a_sealed_secret_has_one_length),
        CASE(what_worker_and_broker_tell_each_other_passes_unread),
        CASE(a_signature_has_its_bounds),
        CASE(a_page_token_is_bounded),
        CASE(a_publication_expects_the_epoch_that_was_read),
        CASE(records_are_found_in_calls_that_the_broker_takes),
    };

    return RUN_TESTS(tests);
}
