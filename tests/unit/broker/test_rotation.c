/* SPDX-License-Identifier: Apache-2.0 */
#include "base/hpke.h"
#include "record/encoding.h"
#include "record/proof.h"
#include "record/sealing.h"
#include "store/seal.h"
#include "tests/unit/broker/fixture.h"

#include "keybroker.pb-c.h"

/* Whole calls: a volume gets another secret. Who may ask for it, who learns the secret, which secret proves
 * what, and when the former one is destroyed. */

#define M(name) Tdvol__Keybroker__V1__##name

static struct fixture f;
static struct arena arena;
static struct hpke_key_pair node;
static struct error err;
static char driver[] = "d", vol[] = "v", snap[] = "s", name[] = "snap", n1[] = "n1", boot[] = "b1";

static const void *call(const char *client, const char *method, const ProtobufCMessage *request)
{
    return fixture_call(&f, &arena, client, method, request, &err);
}

static struct record stored(const char *id)
{
    const struct store_name names = { "one", driver, id };
    struct record r;

    assert_ok(f.broker.store->ops->get(f.broker.store, &names, &r, &err));
    return r;
}

static bool has_key(const struct record_key *key)
{
    struct store_key unused;

    return f.broker.store->ops->get_key(f.broker.store, key, &unused, &err);
}

static struct record decode(const ProtobufCBinaryData *bytes)
{
    struct record r;

    assert_ok(record_decode(bytes->data, bytes->len, &r, &err));
    assert_int_not_equal(r.rotation.secret_len, STORE_WRAPPED_LEN); /* no client gets that form */
    return r;
}

/* --- calls --- */

struct opened {
    struct secret own, next;
};

static void wipe(struct opened *o)
{
    secret_wipe(&o->own);
    secret_wipe(&o->next);
}
#define auto_opened CLEANUP(wipe)

/* As a worker does. */
static struct opened open_volume(void)
{
    M(OpenVolumeRequest) request = TDVOL__KEYBROKER__V1__OPEN_VOLUME_REQUEST__INIT;
    struct opened out = { .own = SECRET_INIT, .next = SECRET_INIT };
    static struct record r, as_next;
    struct sealed_secret sealed;

    request.driver = driver;
    request.volume_id = vol;
    request.node = n1;
    request.boot_id = boot;
    request.sealing_public_key = (ProtobufCBinaryData){ HPKE_PUBLIC_LEN, node.public_key };
    const M(OpenVolumeResponse) *o = call("node", "OpenVolume", &request.base);
    assert_non_null(o);
    r = decode(&o->record);
    memcpy(sealed.bytes, o->sealed_secret.data, sizeof(sealed.bytes));
    assert_ok(secret_unseal(&r, &sealed, &node, &out.own, &err));
    if (r.rotation.key.generation == 0)
        return out;
    as_next = r;
    as_next.key = r.rotation.key;
    assert_int_equal(r.rotation.secret_len, SEALED_SECRET_LEN);
    memcpy(sealed.bytes, r.rotation.secret, sizeof(sealed.bytes));
    assert_ok(secret_unseal(&as_next, &sealed, &node, &out.next, &err));
    return out;
}

/* secret: for the proof; NULL: there is none. */
static bool change(const struct record_change *wanted, uint64_t version,
                   const struct secret *secret)
{
    M(ChangeRecordRequest) request = TDVOL__KEYBROKER__V1__CHANGE_RECORD_REQUEST__INIT;
    const struct record r = stored(vol);
    struct encoded encoded;
    uint8_t proof[PROOF_LEN];

    record_change_encode(wanted, &encoded);
    request.driver = driver;
    request.volume_id = vol;
    request.node = n1;
    request.boot_id = boot;
    request.expected_version = version;
    request.change = (ProtobufCBinaryData){ encoded.len, encoded.bytes };
    if (secret) {
        assert_ok(proof_by_secret(secret, &r, version, wanted, proof, &err));
        request.proof = (ProtobufCBinaryData){ PROOF_LEN, proof };
    }
    return call("node", "ChangeRecord", &request.base) != NULL;
}

static void must_change(const struct record_change *wanted, const struct secret *secret)
{
    if (!change(wanted, stored(vol).version, secret))
        fail_msg("%s", err.text);
}

static const void *rotate(const char *client)
{
    M(RotateKeyRequest) request = TDVOL__KEYBROKER__V1__ROTATE_KEY_REQUEST__INIT;

    request.driver = driver;
    request.volume_id = vol;
    return call(client, "RotateKey", &request.base);
}

static const void *copy(void)
{
    M(CopyRecordRequest) request = TDVOL__KEYBROKER__V1__COPY_RECORD_REQUEST__INIT;

    request.driver = driver;
    request.source_volume_id = vol;
    request.source_version = stored(vol).version;
    request.volume_id = snap;
    request.kind = TDVOL__KEYBROKER__V1__KIND__KIND_SNAPSHOT;
    request.name = name;
    return call("node", "CopyRecord", &request.base);
}

static const struct record_change next_header = { .kind = RECORD_CHANGE_NEXT_HEADER,
                                                  .header_digest = { 2 } };
static const struct record_change rotated = { .kind = RECORD_CHANGE_ROTATED,
                                              .header_digest = { 2 } };

static void create(void)
{
    M(CreateRecordRequest) request = TDVOL__KEYBROKER__V1__CREATE_RECORD_REQUEST__INIT;
    const struct volume_spec spec = fixture_spec();

    request.driver = driver;
    request.volume_id = vol;
    request.spec = fixture_spec_bytes(&spec);
    assert_non_null(call("node", "CreateRecord", &request.base));
}

/* The volume is READY, and open on n1. */
static int setup(void **state UNUSED)
{
    const struct record_change ready = { .kind = RECORD_CHANGE_READY,
                                         .attempt = 1,
                                         .header_digest = { 1 } };

    fixture_start(&f);
    arena_init(&arena, 16 << 20);
    assert_ok(hpke_generate(&node, false, &err));
    create();
    auto_opened struct opened o = open_volume();
    must_change(&ready, &o.own);
    return 0;
}

static int teardown(void **state UNUSED)
{
    arena_wipe(&arena);
    hpke_key_pair_wipe(&node);
    fixture_stop(&f);
    return 0;
}

/* --- who may --- */

static void it_takes_the_permission(void **state UNUSED)
{
    static const char *const others[] = { "controller", "admin", "few", "self" };
    const struct record before = stored(vol);

    for (size_t i = 0; i < ARRAY_LEN(others); i++) {
        assert_null(rotate(others[i]));
        assert_true(err.code == ERROR_DENIED || err.code == ERROR_UNAUTHENTICATED);
    }
    assert_null(
        rotate("other")); /* it may open volumes of another tenant, and finds none of this one */
    assert_int_equal(err.code, ERROR_NOT_FOUND);
    const struct record after = stored(vol);
    assert_memory_equal(&before, &after, sizeof(before));
    assert_non_null(rotate("rotator"));
    assert_int_equal(stored(vol).rotation.key.generation, 2);
}

/* Put into the store, as if the volume were open elsewhere, or nowhere. */
static void hold(const char *holder)
{
    struct record r = stored(vol);
    const struct store_change swap = { .next = &r, .expected_version = r.version };

    r.lease.holder = holder ? fixture_holder(holder, "b1") : (struct record_holder){ .node = "" };
    if (!holder)
        r.lease.opened_ms = 0;
    r.version++;
    assert_ok(f.broker.store->ops->swap(f.broker.store, &swap, &err));
}

/* It has the secret, and writes the header. A node of another rule, or without the volume, has neither. */
static void a_node_may_for_what_it_has_open_for_writing(void **state UNUSED)
{
    hold("m1"); /* the rule is for n? */
    assert_null(rotate("node"));
    assert_int_equal(err.code, ERROR_DENIED);
    hold(NULL);
    assert_null(rotate("node"));
    assert_int_equal(err.code, ERROR_DENIED);
    assert_int_equal(stored(vol).rotation.key.generation, 0);
    hold("n1");
    assert_non_null(rotate("node"));
    assert_int_equal(stored(vol).rotation.key.generation, 2);
}

static void it_is_for_ready_volumes(void **state UNUSED)
{
    static const enum record_phase wrong[] = { RECORD_NEW, RECORD_FORMATTING, RECORD_DELETING };
    const struct store_key next = { .key = { .id = { 9 }, .generation = 2 } };
    struct record r;
    bool changed = false;

    for (size_t i = 0; i < ARRAY_LEN(wrong); i++) {
        r = fixture_record(wrong[i]);
        assert_refused(ERROR_FAILED_PRECONDITION, record_rotate(&r, &next, &changed, &err));
    }
    r = fixture_record(RECORD_ERASED);
    assert_refused(ERROR_NOT_FOUND, record_rotate(&r, &next, &changed, &err));
    r = fixture_record(RECORD_READY);
    r.kind = RECORD_SNAPSHOT;
    assert_refused(ERROR_FAILED_PRECONDITION, record_rotate(&r, &next, &changed, &err));
    r = fixture_record(RECORD_READY);
    r.key.generation = UINT32_MAX; /* its successor is 0 */
    const struct store_key none = { .key = { .generation = r.key.generation + 1 } };
    assert_refused(ERROR_FAILED_PRECONDITION, record_rotate(&r, &none, &changed, &err));
    assert_int_equal(r.rotation.key.generation, 0);
}

static void a_repeated_call_changes_nothing(void **state UNUSED)
{
    assert_non_null(rotate("rotator"));
    const struct record first = stored(vol);
    assert_non_null(rotate("rotator"));
    const struct record second = stored(vol);
    assert_memory_equal(&first, &second, sizeof(first));
}

/* --- who learns what --- */

static void only_who_opens_the_volume_gets_the_next_secret(void **state UNUSED)
{
    M(GetRecordRequest) get = TDVOL__KEYBROKER__V1__GET_RECORD_REQUEST__INIT;
    const M(RotateKeyResponse) *o = rotate("rotator");

    assert_non_null(o);
    assert_int_equal(decode(&o->record).rotation.secret_len, 0);
    get.driver = driver;
    get.volume_id = vol;
    const M(GetRecordResponse) *got = call("node", "GetRecord", &get.base);
    assert_non_null(got);
    const struct record r = decode(&got->record);
    assert_int_equal(r.rotation.key.generation, 2);
    assert_int_equal(r.rotation.secret_len, 0);
    auto_opened struct opened volume = open_volume();
    assert_int_equal(volume.next.len, VOLUME_SECRET_LEN);
    assert_memory_not_equal(volume.own.bytes, volume.next.bytes, VOLUME_SECRET_LEN);
    auto_opened struct opened again = open_volume();
    assert_memory_equal(volume.next.bytes, again.next.bytes, VOLUME_SECRET_LEN);
}

/* --- to the end --- */

static void the_former_secret_is_destroyed_at_the_end(void **state UNUSED)
{
    assert_non_null(rotate("rotator"));
    auto_opened struct opened o = open_volume();
    must_change(&next_header, &o.next);
    const struct record before = stored(vol);
    assert_true(has_key(&before.key));
    assert_false(has_key(&before.rotation.key)); /* it is in the record alone */
    must_change(&rotated, &o.next);
    const struct record after = stored(vol);
    assert_int_equal(after.key.generation, 2);
    assert_int_equal(after.rotation.secret_len, 0);
    assert_true(has_key(&after.key));
    assert_false(has_key(&before.key));
    auto_opened struct opened again = open_volume();
    assert_memory_equal(again.own.bytes, o.next.bytes, VOLUME_SECRET_LEN);
    assert_non_null(rotate("rotator"));
    assert_int_equal(stored(vol).rotation.key.generation, 3);
}

static void a_lost_answer_is_given_again(void **state UNUSED)
{
    assert_non_null(rotate("rotator"));
    auto_opened struct opened o = open_volume();
    must_change(&next_header, &o.next);
    const struct record before = stored(vol);
    for (int i = 0; i < 2; i++)
        assert_true(change(&rotated, before.version, &o.next));
    assert_int_equal(stored(vol).version, before.version + 1);
}

static void a_front_cannot_have_a_secret_destroyed(void **state UNUSED)
{
    assert_non_null(rotate("rotator"));
    auto_opened struct opened o = open_volume();
    const uint64_t version = stored(vol).version;

    assert_false(change(&next_header, version, NULL));
    assert_string_equal(err.reason, PROOF_REASON);
    assert_false(change(&next_header, version, &o.own));
    assert_string_equal(err.reason, PROOF_REASON);
    assert_false(change(&rotated, version, &o.next)); /* no header is on record */
    assert_int_equal(err.code, ERROR_FAILED_PRECONDITION);
    must_change(&next_header, &o.next);
    const struct record before = stored(vol);
    assert_false(change(&rotated, before.version, NULL));
    assert_string_equal(err.reason, PROOF_REASON);
    assert_false(change(&rotated, before.version, &o.own)); /* whoever has the former one alone */
    assert_string_equal(err.reason, PROOF_REASON);
    assert_false(change(&next_header, before.version, &o.own));
    assert_string_equal(err.reason, PROOF_REASON);
    const struct record after = stored(vol);
    assert_memory_equal(&before, &after, sizeof(before));
}

static void either_secret_proves_meanwhile_and_only_the_next_one_later(void **state UNUSED)
{
    struct record_change opened = { .kind = RECORD_CHANGE_OPENED, .open_counter = 1 };

    assert_non_null(rotate("rotator"));
    auto_opened struct opened o = open_volume();
    must_change(&opened, &o.own);
    opened.open_counter++;
    must_change(&opened, &o.next);
    must_change(&next_header, &o.next);
    must_change(&rotated, &o.next);
    opened.open_counter++;
    assert_false(change(&opened, stored(vol).version, &o.own));
    assert_string_equal(err.reason, PROOF_REASON);
    must_change(&opened, &o.next);
}

static void a_copy_keeps_the_former_secret_alive(void **state UNUSED)
{
    M(DeleteRequest) delete = TDVOL__KEYBROKER__V1__DELETE_REQUEST__INIT;

    assert_non_null(rotate("rotator"));
    assert_non_null(copy());
    const struct record_key former = stored(snap).key;
    assert_int_equal(stored(snap).rotation.key.generation, 0);
    auto_opened struct opened o = open_volume();
    must_change(&next_header, &o.next);
    must_change(&rotated, &o.next);
    assert_true(has_key(&former));
    delete.driver = driver;
    delete.volume_id = snap;
    assert_non_null(call("node", "BeginDelete", &delete.base));
    assert_non_null(call("node", "FinishDelete", &delete.base));
    assert_false(has_key(&former));
    const struct record r = stored(vol);
    assert_true(has_key(&r.key));
}

static void no_copy_is_made_while_the_disk_has_either_header(void **state UNUSED)
{
    assert_non_null(rotate("rotator"));
    auto_opened struct opened o = open_volume();
    must_change(&next_header, &o.next);
    assert_null(copy());
    assert_int_equal(err.code, ERROR_ABORTED);
    must_change(&rotated, &o.next);
    assert_non_null(copy());
    assert_int_equal(stored(snap).key.generation, 2);
}

static const struct store_ops *good_ops;
static struct store_ops late_ops;

/* Another broker has ROTATED recorded, just before this one reads the key. */
static bool get_key_late(struct store *store, const struct record_key *key, struct store_key *out,
                         struct error *why)
{
    struct record r = stored(vol);
    struct store_key next = { .key = r.rotation.key };
    const struct store_change swap = { .next = &r,
                                       .expected_version = r.version++,
                                       .new_key = &next };

    store->ops = good_ops;
    memcpy(next.wrapped, r.rotation.secret, sizeof(next.wrapped));
    r.key = r.rotation.key;
    r.rotation = (struct record_rotation){ .secret_len = 0 };
    assert_ok(store->ops->swap(store, &swap, why));
    return store->ops->get_key(store, key, out, why);
}

static void a_key_that_another_broker_destroys_meanwhile_is_no_missing_volume(void **state UNUSED)
{
    assert_non_null(rotate("rotator"));
    auto_opened struct opened before = open_volume();
    good_ops = f.broker.store->ops;
    late_ops = *good_ops;
    late_ops.get_key = get_key_late;
    f.broker.store->ops = &late_ops;
    auto_opened struct opened after = open_volume();
    assert_ptr_equal(f.broker.store->ops, good_ops);
    assert_memory_equal(after.own.bytes, before.next.bytes, after.own.len);
}

/* As when somebody who writes to the store removed it: nothing changes, so trying again does not help. */
static void a_key_that_is_missing_is_not_looked_for_again(void **state UNUSED)
{
    struct record r = stored(vol);
    M(OpenVolumeRequest) request = TDVOL__KEYBROKER__V1__OPEN_VOLUME_REQUEST__INIT;

    r.key.id[0] ^= 1;
    const struct store_change swap = { .next = &r, .expected_version = r.version++ };
    assert_ok(f.broker.store->ops->swap(f.broker.store, &swap, &err));
    request.driver = driver;
    request.volume_id = vol;
    request.node = n1;
    request.boot_id = boot;
    request.sealing_public_key = (ProtobufCBinaryData){ HPKE_PUBLIC_LEN, node.public_key };
    assert_null(call("node", "OpenVolume", &request.base));
    assert_int_equal(err.code, ERROR_NOT_FOUND);
}

static void a_deletion_in_the_middle_leaves_no_secret(void **state UNUSED)
{
    M(ReleaseLeaseRequest) release = TDVOL__KEYBROKER__V1__RELEASE_LEASE_REQUEST__INIT;
    M(DeleteRequest) delete = TDVOL__KEYBROKER__V1__DELETE_REQUEST__INIT;

    assert_non_null(rotate("rotator"));
    auto_opened struct opened o = open_volume();
    must_change(&next_header, &o.next);
    const struct record before = stored(vol);
    release.driver = delete.driver = driver;
    release.volume_id = delete.volume_id = vol;
    assert_non_null(call("admin", "ReleaseLease", &release.base));
    assert_non_null(call("node", "BeginDelete", &delete.base));
    assert_non_null(call("node", "CancelDelete", &delete.base)); /* and it is as before */
    assert_int_equal(stored(vol).rotation.key.generation, 2);
    assert_non_null(call("node", "BeginDelete", &delete.base));
    assert_non_null(call("node", "FinishDelete", &delete.base));
    const struct record after = stored(vol);
    static const struct record_rotation none;
    assert_memory_equal(&after.rotation, &none, sizeof(none));
    assert_false(has_key(&before.key));
}

static void a_secret_of_another_record_is_not_taken(void **state UNUSED)
{
    assert_non_null(rotate("rotator"));
    struct record r = stored(vol);
    M(OpenVolumeRequest) request = TDVOL__KEYBROKER__V1__OPEN_VOLUME_REQUEST__INIT;

    r.rotation.key.id[0] ^= 1; /* the wrapped secret is bound to its key */
    r.version++;
    const struct store_change swap = { .next = &r, .expected_version = r.version - 1 };
    assert_ok(f.broker.store->ops->swap(f.broker.store, &swap, &err));
    request.driver = driver;
    request.volume_id = vol;
    request.node = n1;
    request.boot_id = boot;
    request.sealing_public_key = (ProtobufCBinaryData){ HPKE_PUBLIC_LEN, node.public_key };
    assert_null(call("node", "OpenVolume", &request.base));
    assert_int_equal(err.code, ERROR_DATA_LOSS);
}

int main(void)
{
#define CASE(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    static const struct CMUnitTest tests[] = {
        CASE(it_takes_the_permission),
        CASE(a_node_may_for_what_it_has_open_for_writing),
        CASE(it_is_for_ready_volumes),
        CASE(a_repeated_call_changes_nothing),
        CASE(only_who_opens_the_volume_gets_the_next_secret),
        CASE(the_former_secret_is_destroyed_at_the_end),
        CASE(a_lost_answer_is_given_again),
        CASE(a_front_cannot_have_a_secret_destroyed),
        CASE(either_secret_proves_meanwhile_and_only_the_next_one_later),
        CASE(a_copy_keeps_the_former_secret_alive),
        CASE(no_copy_is_made_while_the_disk_has_either_header),
        CASE(a_key_that_another_broker_destroys_meanwhile_is_no_missing_volume),
        CASE(a_key_that_is_missing_is_not_looked_for_again),
        CASE(a_deletion_in_the_middle_leaves_no_secret),
        CASE(a_secret_of_another_record_is_not_taken),
    };

    return RUN_TESTS(tests);
}
