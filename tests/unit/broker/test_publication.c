/* SPDX-License-Identifier: Apache-2.0 */
#include "base/file.h"
#include "record/encoding.h"
#include "record/layout.h"
#include "record/old_key.h"
#include "record/publication.h"
#include "record/sealing.h"
#include "tests/unit/broker/fixture.h"

#include <stdio.h>

#include "keybroker.pb-c.h"

/* Whole calls about volumes that move: who may make them, and what the audit log has of them. */

#define M(name) Tdvol__Keybroker__V1__##name

static struct fixture f;
static struct arena arena;
static struct error err;
static char driver[] = "d", vol[] = "v", n1[] = "n1", n2[] = "n2", n1_id[] = "n1~i-1",
            n2_id[] = "n2~i-2", boot[] = "b1";

static const void *call(const char *client, const char *method, const ProtobufCMessage *request)
{
    return fixture_call(&f, &arena, client, method, request, &err);
}

static struct record decode(const ProtobufCBinaryData *bytes)
{
    struct record r;

    assert_ok(record_decode(bytes->data, bytes->len, &r, &err));
    return r;
}

static bool create(const char *cn, char *id)
{
    M(CreateRecordRequest) request = TDVOL__KEYBROKER__V1__CREATE_RECORD_REQUEST__INIT;
    struct volume_spec spec = fixture_spec();

    spec.backing = BACKING_DEVICE;
    spec.needs_publication = true;
    request.driver = driver;
    request.volume_id = id;
    request.spec = fixture_spec_bytes(&spec);
    return call(cn, "CreateRecord", &request.base);
}

static bool publish(const char *cn, char *node_id, uint64_t epoch)
{
    M(PublishRecordRequest) request = TDVOL__KEYBROKER__V1__PUBLISH_RECORD_REQUEST__INIT;

    request.driver = driver;
    request.volume_id = vol;
    request.node_id = node_id;
    request.expected_epoch = epoch;
    return call(cn, "PublishRecord", &request.base);
}

static bool unpublish(const char *cn, char *node_id, uint64_t epoch)
{
    M(UnpublishRecordRequest) request = TDVOL__KEYBROKER__V1__UNPUBLISH_RECORD_REQUEST__INIT;

    request.driver = driver;
    request.volume_id = vol;
    request.node_id = node_id;
    request.expected_epoch = epoch;
    return call(cn, "UnpublishRecord", &request.base);
}

static bool open_by(char *node)
{
    static struct hpke_key_pair pair;
    M(OpenVolumeRequest) request = TDVOL__KEYBROKER__V1__OPEN_VOLUME_REQUEST__INIT;

    assert_ok(hpke_generate(&pair, false, &err));
    request.driver = driver;
    request.volume_id = vol;
    request.node = node;
    request.boot_id = boot;
    request.sealing_public_key = (ProtobufCBinaryData){ HPKE_PUBLIC_LEN, pair.public_key };
    bool opened = call("node", "OpenVolume", &request.base);
    hpke_key_pair_wipe(&pair);
    return opened;
}

static struct record stored(const char *id)
{
    const struct store_name name = { "one", driver, id };
    struct record r;
    struct error why = ERROR_INIT;

    assert_ok(f.broker.store->ops->get(f.broker.store, &name, &r, &why));
    return r;
}

static const char *last_audit_line(void)
{
    static char *text;
    size_t len = 0;

    free_at(&text);
    assert_ok(file_read(f.audit_path, 1 << 20, &text, &len, &err));
    return strrchr(text, '{');
}

static int setup(void **state UNUSED)
{
    fixture_start(&f);
    arena_init_secret(&arena, 32 << 20); /* AdoptRecord takes no other */
    assert_true(create("controller", vol));
    return 0;
}

static int teardown(void **state UNUSED)
{
    arena_wipe(&arena);
    fixture_stop(&f);
    return 0;
}

static void denied(bool done)
{
    assert_false(done);
    assert_int_equal(err.code, ERROR_DENIED);
}

static void a_volume_goes_from_node_to_node(void **state UNUSED)
{
    denied(open_by(n1));
    assert_string_equal(err.reason, "NotPublished");
    assert_contains(err.text, "not published to node n1");
    assert_contains(last_audit_line(), "\"word\":\"NotPublished\"");
    assert_contains(last_audit_line(), "\"decision\":\"deny\"");
    assert_true(publish("controller", n1_id, 0));
    assert_contains(last_audit_line(), "\"method\":\"PublishRecord\",\"decision\":\"allow\"");
    assert_contains(last_audit_line(), "\"node\":\"n1~i-1\"");
    assert_true(open_by(n1));
    denied(open_by(n2));
    assert_false(publish("controller", n2_id, 1));
    assert_int_equal(err.code, ERROR_FAILED_PRECONDITION);
    assert_true(unpublish("controller", n1_id, 1));
    assert_contains(last_audit_line(), "\"method\":\"UnpublishRecord\"");
    denied(open_by(n1));
    assert_true(publish("controller", n2_id, 2));
    assert_false(unpublish("controller", n2_id, 1)); /* late */
    assert_int_equal(err.code, ERROR_ABORTED);
    assert_true(open_by(n2));
    denied(open_by(n1));
}

static void the_policy_says_who_publishes_and_to_which_nodes(void **state UNUSED)
{
    static const char *const others[] = { "node", "few", "admin" };
    static char x1[] = "x1", x1_id[] = "x1~n1", only_id[] = "~n1", bad[] = "n 1", empty[] = "";

    for (size_t i = 0; i < ARRAY_LEN(others); i++) {
        denied(publish(others[i], n1, 0));
        denied(unpublish(others[i], n1, 0));
    }
    denied(publish("controller", x1, 0));
    denied(publish("controller", x1_id, 0));
    assert_contains(last_audit_line(), "the rule does not allow this node");
    assert_false(publish("controller", only_id, 0));
    assert_int_equal(err.code, ERROR_INVALID_ARGUMENT);
    assert_false(publish("controller", bad, 0));
    assert_int_equal(err.code, ERROR_INVALID_ARGUMENT);
    assert_false(publish("controller", empty, 0));
    assert_int_equal(err.code, ERROR_INVALID_ARGUMENT);
    assert_false(publish("other", n1, 0));
    assert_true(unpublish("controller", x1, 0)); /* nothing to do */
    assert_int_equal(stored(vol).version, 1);
}

static bool delete_it(const char *cn, const char *method)
{
    M(DeleteRequest) request = TDVOL__KEYBROKER__V1__DELETE_REQUEST__INIT;

    request.driver = driver;
    request.volume_id = vol;
    return call(cn, method, &request.base);
}

static void a_volume_is_deleted_when_no_node_has_it(void **state UNUSED)
{
    M(ReleaseLeaseRequest) release = TDVOL__KEYBROKER__V1__RELEASE_LEASE_REQUEST__INIT;

    release.driver = driver;
    release.volume_id = vol;
    assert_true(publish("controller", n1_id, 0));
    assert_false(delete_it("admin", "BeginDelete"));
    assert_int_equal(err.code, ERROR_FAILED_PRECONDITION);
    assert_non_null(call("admin", "ReleaseLease", &release.base));
    assert_string_equal(stored(vol).published.nodes, "");
    assert_true(delete_it("controller", "BeginDelete"));
    assert_false(publish("controller", n1_id, 2));
    assert_int_equal(err.code, ERROR_FAILED_PRECONDITION);
    assert_true(delete_it("controller", "FinishDelete"));
    assert_false(publish("controller", n1_id, 2));
    assert_int_equal(err.code, ERROR_NOT_FOUND);
    assert_true(create("controller", vol));
    assert_int_equal(stored(vol).published.epoch, 3);
}

static const M(ListRecordsResponse) * find(const char *cn, char **ids, size_t n)
{
    M(ListRecordsRequest) request = TDVOL__KEYBROKER__V1__LIST_RECORDS_REQUEST__INIT;

    request.driver = driver;
    request.volume_ids = ids;
    request.n_volume_ids = n;
    return call(cn, "ListRecords", &request.base);
}

static void records_are_found_by_their_ids(void **state UNUSED)
{
    static char few[] = "few-1", gone[] = "gone", unknown[] = "unknown";
    static char *ids[401] = { few, unknown, vol, gone, vol };

    assert_true(create("controller", few));
    for (size_t i = 5; i < ARRAY_LEN(ids); i++)
        ids[i] = unknown;
    const M(ListRecordsResponse) *found = find("controller", ids, 400);

    assert_non_null(found);
    assert_int_equal(found->n_records, 3);
    assert_string_equal(decode(&found->records[0]).volume_id, few);
    assert_string_equal(decode(&found->records[1]).volume_id, vol);
    assert_string_equal(found->next_page_token, "");
    found = find("few", ids, 5); /* its rule has only some */
    assert_int_equal(found->n_records, 1);
    found = find("controller", ids + 3, 1);
    assert_int_equal(found->n_records, 0);
    assert_null(find("controller", ids, 401));
    assert_int_equal(err.code, ERROR_INVALID_ARGUMENT);
    assert_contains(err.text, "more than 400");
    denied(find("node-of-nobody", ids, 1));
    assert_int_equal(err.code, ERROR_DENIED);
    assert_true(delete_it("controller", "BeginDelete") && delete_it("controller", "FinishDelete"));
    found = find("controller", ids, 5);
    assert_int_equal(found->n_records, 1);
}

static M(AdoptRecordRequest) adopt_request(char *id, char *like)
{
    M(AdoptRecordRequest) request = TDVOL__KEYBROKER__V1__ADOPT_RECORD_REQUEST__INIT;
    static char name[] = "pvc-9", none[] = "";

    request.driver = driver;
    request.volume_id = id;
    request.kind = (M(Kind))RECORD_VOLUME;
    request.like = like;
    request.name = like[0] != '\0' ? name : none;
    return request;
}

static bool refused_adoption(const M(AdoptRecordRequest) * request, enum error_code code)
{
    return !call("admin", "AdoptRecord", &request->base) && err.code == code;
}

static void a_blank_volume_is_adopted_with_its_spec(void **state UNUSED)
{
    static char id[] = "old", none[] = "", name[] = "x", junk[] = "\xff\xff";
    M(AdoptRecordRequest) request = adopt_request(id, none);
    struct volume_spec spec = fixture_spec();

    spec.needs_publication = true;
    request.spec = fixture_spec_bytes(&spec);
    denied(call("controller", "AdoptRecord", &request.base));
    assert_non_null(call("admin", "AdoptRecord", &request.base));
    assert_contains(last_audit_line(), "\"method\":\"AdoptRecord\",\"decision\":\"allow\"");
    assert_contains(last_audit_line(), "\"volume\":\"old\"");
    assert_int_equal(stored(id).phase, RECORD_NEW);
    assert_int_equal(stored(id).key.generation, 1);
    assert_true(refused_adoption(&request, ERROR_ALREADY_EXISTS));
    request.volume_id = vol;
    assert_true(refused_adoption(&request, ERROR_ALREADY_EXISTS));
    request.volume_id = n1;
    request.kind = (M(Kind))RECORD_SNAPSHOT;
    assert_true(refused_adoption(&request, ERROR_INVALID_ARGUMENT));
    request.kind = (M(Kind))RECORD_VOLUME;
    request.name = name;
    assert_true(refused_adoption(&request, ERROR_INVALID_ARGUMENT));
    request.name = none;
    request.spec = (ProtobufCBinaryData){ 2, (uint8_t *)junk };
    assert_true(refused_adoption(&request, ERROR_INVALID_ARGUMENT));
    request.spec = (ProtobufCBinaryData){ 0, NULL };
    assert_true(refused_adoption(&request, ERROR_FAILED_PRECONDITION)); /* no layout version */
}

static void a_disk_like_another_is_adopted_with_its_key(void **state UNUSED)
{
    static char id[] = "old", unknown[] = "unknown";
    M(AdoptRecordRequest) request = adopt_request(id, vol);
    const struct volume_spec spec = fixture_spec();
    struct record r = stored(vol);
    struct record next = r;

    assert_true(refused_adoption(&request, ERROR_FAILED_PRECONDITION)); /* never written */
    assert_contains(err.text, "never been written");
    next.phase = RECORD_READY;
    next.n_header_digests = 1;
    next.open_counter = 4;
    next.version++;
    const struct store_change swap = { .next = &next, .expected_version = r.version };

    assert_ok(f.broker.store->ops->swap(f.broker.store, &swap, &err));
    request.spec = fixture_spec_bytes(&spec);
    assert_true(refused_adoption(&request, ERROR_INVALID_ARGUMENT));
    request.spec = (ProtobufCBinaryData){ 0, NULL };
    request.like = unknown;
    assert_true(refused_adoption(&request, ERROR_NOT_FOUND));
    request.like = vol;
    assert_non_null(call("admin", "AdoptRecord", &request.base));
    assert_contains(last_audit_line(), "\"source\":\"v\"");
    next = stored(id);
    assert_memory_equal(&next.key, &r.key, sizeof(r.key));
    assert_int_equal(next.origin.counter_high, 5);
    assert_true(refused_adoption(&request, ERROR_ALREADY_EXISTS));
}

/* What a node gets: the old key comes out of the answer with the secret that came with it. */
static void assert_node_gets(char *id, const struct byte_range *passphrase)
{
    auto_hpke_key_pair struct hpke_key_pair pair = { .private_key = SECRET_INIT };
    auto_secret struct secret secret = SECRET_INIT, out = SECRET_INIT;
    M(OpenVolumeRequest) request = TDVOL__KEYBROKER__V1__OPEN_VOLUME_REQUEST__INIT;
    struct sealed_secret sealed;

    assert_ok(hpke_generate(&pair, false, &err));
    request.driver = driver;
    request.volume_id = id;
    request.node = n1;
    request.boot_id = boot;
    request.sealing_public_key = (ProtobufCBinaryData){ HPKE_PUBLIC_LEN, pair.public_key };
    const M(OpenVolumeResponse) *answer = call("node", "OpenVolume", &request.base);
    assert_non_null(answer);
    struct record r = decode(&answer->record);
    memcpy(sealed.bytes, answer->sealed_secret.data, sizeof(sealed.bytes));
    assert_ok(secret_unseal(&r, &sealed, &pair, &secret, &err));
    assert_ok(old_key_unwrap(&r, &secret, &out, &err));
    assert_int_equal(out.len, passphrase->len);
    assert_memory_equal(out.bytes, passphrase->bytes, out.len);
}

static bool is_key_of(const char *id, const struct record *other)
{
    return bytes_are_equal(stored(id).key.id, other->key.id, RECORD_ID_LEN);
}

static bool has_old_key(const ProtobufCBinaryData *bytes)
{
    static struct record r;

    r = decode(bytes);
    return r.old_key.is_set;
}

static M(AdoptRecordRequest) old_request(char *id)
{
    static char none[] = "";
    M(AdoptRecordRequest) request = adopt_request(id, none);
    struct volume_spec spec = fixture_spec();

    spec.integrity = INTEGRITY_NONE;
    spec.backing = BACKING_DEVICE;
    assert_ok(layout_plan_take_over(&spec, GIB, &err));
    request.spec = fixture_spec_bytes(&spec);
    return request;
}

static void a_volume_is_adopted_with_its_old_key(void **state UNUSED)
{
    static char id[] = "old";
    static uint8_t key[OLD_KEY_MAX] = { 1, 0, '\n', 4 };
    M(AdoptRecordRequest) request = old_request(id);
    M(GetRecordRequest) get = TDVOL__KEYBROKER__V1__GET_RECORD_REQUEST__INIT;

    request.old_key = (ProtobufCBinaryData){ sizeof(key), key };
    denied(call("controller", "AdoptRecord", &request.base));
    const M(AdoptRecordResponse) *answer = call("admin", "AdoptRecord", &request.base);
    assert_non_null(answer);
    assert_false(has_old_key(&answer->record));
    assert_contains(last_audit_line(), "\"method\":\"AdoptRecord\",\"decision\":\"allow\"");
    get.driver = driver;
    get.volume_id = id;
    const M(GetRecordResponse) *got = call("admin", "GetRecord", &get.base);
    assert_non_null(got);
    assert_false(has_old_key(&got->record));
    assert_node_gets(id, &(struct byte_range){ key, sizeof(key) });
}

static void another_old_key_replaces_the_first(void **state UNUSED)
{
    static char id[] = "old";
    static uint8_t first[] = { 1 }, second[] = { 5, 6 };
    static struct record before;
    M(AdoptRecordRequest) request = old_request(id);

    request.old_key = (ProtobufCBinaryData){ sizeof(first), first };
    assert_non_null(call("admin", "AdoptRecord", &request.base));
    before = stored(id);
    request.old_key = (ProtobufCBinaryData){ sizeof(second), second };
    assert_non_null(call("admin", "AdoptRecord", &request.base));
    assert_false(is_key_of(id, &before));
    assert_node_gets(id, &(struct byte_range){ second, sizeof(second) });
    assert_true(refused_adoption(&request, ERROR_ABORTED)); /* a node is at it */
}

static void an_old_key_that_makes_no_sense_is_refused(void **state UNUSED)
{
    static char id[] = "old", none[] = "";
    static uint8_t key[OLD_KEY_MAX + 1];
    M(AdoptRecordRequest) request = old_request(id);
    const struct volume_spec spec = fixture_spec();

    assert_true(refused_adoption(&request, ERROR_INVALID_ARGUMENT)); /* there is none */
    request.old_key = (ProtobufCBinaryData){ sizeof(key), key };
    assert_true(refused_adoption(&request, ERROR_INVALID_ARGUMENT)); /* too long */
    request.old_key.len = 1;
    request.spec = fixture_spec_bytes(&spec);
    assert_true(refused_adoption(&request, ERROR_INVALID_ARGUMENT)); /* not taken_over */
    request.like = vol;
    request.spec = (ProtobufCBinaryData){ 0, NULL };
    assert_true(refused_adoption(&request, ERROR_INVALID_ARGUMENT));
    request.like = none;
    assert_true(refused_adoption(&request, ERROR_FAILED_PRECONDITION)); /* no layout version */
}

static void an_old_key_is_not_read_into_ordinary_memory(void **state UNUSED)
{
    static char id[] = "old", none[] = "";
    M(AdoptRecordRequest) request = adopt_request(id, none);

    arena_wipe(&arena);
    arena_init(&arena, 1 << 20);
    assert_true(refused_adoption(&request, ERROR_INTERNAL));
    assert_contains(err.text, "needs a secret arena");
}

int main(void)
{
#define CASE(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    static const struct CMUnitTest tests[] = {
        CASE(a_volume_goes_from_node_to_node),
        CASE(the_policy_says_who_publishes_and_to_which_nodes),
        CASE(a_volume_is_deleted_when_no_node_has_it),
        CASE(records_are_found_by_their_ids),
        CASE(an_old_key_is_not_read_into_ordinary_memory),
        CASE(a_blank_volume_is_adopted_with_its_spec),
        CASE(a_disk_like_another_is_adopted_with_its_key),
        CASE(a_volume_is_adopted_with_its_old_key),
        CASE(another_old_key_replaces_the_first),
        CASE(an_old_key_that_makes_no_sense_is_refused),
    };

    return RUN_TESTS(tests);
}
