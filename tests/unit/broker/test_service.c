/* SPDX-License-Identifier: Apache-2.0 */
#include "base/file.h"
#include "base/hpke.h"
#include "broker/broker.h"
#include "broker/service.h"
#include "record/encoding.h"
#include "record/sealing.h"
#include "tests/unit/base/secret_equal.h"
#include "tests/unit/broker/fixture.h"

#include <signal.h>
#include <stdio.h>
#include <sys/resource.h>

#include "keybroker.pb-c.h"

/* Whole calls, as the server makes them, with the memory store. */

#define M(name) Tdvol__Keybroker__V1__##name

struct world {
    struct fixture f;
    struct arena arena;
    struct hpke_key_pair node;
};

static int setup(void **state)
{
    static struct world world;
    struct error err = ERROR_INIT;

    fixture_start(&world.f);
    arena_init(&world.arena, 16 << 20);
    assert_ok(hpke_generate(&world.node, false, &err));
    *state = &world;
    return 0;
}

static int teardown(void **state)
{
    struct world *world = *state;

    arena_wipe(&world->arena);
    hpke_key_pair_wipe(&world->node);
    fixture_stop(&world->f);
    return 0;
}

/* A call by the client with that name. "bad" has no valid certificate. */
static const void *call(struct world *w, const char *cn, const char *method,
                        const ProtobufCMessage *request, struct error *err)
{
    const struct rpc_peer peer = { .certificate_pem = cn };
    static char path[96];
    struct rpc_call rpc = {
        .method = path, .arena = &w->arena, .peer = &peer, .deadline_ms = UINT64_MAX
    };
    const struct rpc_limits limits = { 65536, 256, 4096 };
    const ProtobufCMethodDescriptor *d = protobuf_c_service_descriptor_get_method_by_name(
        &tdvol__keybroker__v1__key_broker__descriptor, method);
    size_t len = protobuf_c_message_get_packed_size(request);
    uint8_t *bytes = arena_alloc(&w->arena, len + 1);
    struct rpc_bytes out = { .len = 0 };

    *err = (struct error)ERROR_INIT;
    (void)snprintf(path, sizeof(path), "/tdvol.keybroker.v1.KeyBroker/%s", method);
    protobuf_c_message_pack(request, bytes);
    const struct rpc_method *row = rpc_service_find(&broker_service, path);

    assert_non_null(row);
    if (!rpc_dispatch(&broker_service, row, &w->f.broker, &rpc, &limits,
                      (struct rpc_bytes){ bytes, len }, &out, err))
        return NULL;
    /* freed with give_back */
    return protobuf_c_message_unpack(d->output, NULL, out.len, out.bytes);
}

static void give_back(const void *message)
{
    union {
        const void *in;
        ProtobufCMessage *out;
    } cast = { .in = message };

    if (message)
        protobuf_c_message_free_unpacked(cast.out, NULL);
}

#define refused(code_, who, method, request)                                     \
    do {                                                                         \
        const void *answer_ = call(w, who, method, &(request).base, &err);       \
        if (answer_ || err.code != (code_))                                      \
            fail_msg("%s: %s: %s", method, error_code_name(err.code), err.text); \
    } while (0)

static char driver[] = "d", vol[] = "v", ext4[] = "ext4", n1[] = "n1", n2[] = "n2", boot[] = "b1";

static M(CreateRecordRequest) create_request(const struct volume_spec *spec)
{
    M(CreateRecordRequest) request = TDVOL__KEYBROKER__V1__CREATE_RECORD_REQUEST__INIT;

    request.driver = driver;
    request.volume_id = vol;
    request.spec = fixture_spec_bytes(spec);
    return request;
}

static struct record decode(const ProtobufCBinaryData *bytes)
{
    struct record r;
    struct error err = ERROR_INIT;

    assert_ok(record_decode(bytes->data, bytes->len, &r, &err));
    return r;
}

static M(OpenVolumeRequest) open_request(struct world *w)
{
    M(OpenVolumeRequest) request = TDVOL__KEYBROKER__V1__OPEN_VOLUME_REQUEST__INIT;

    request.driver = driver;
    request.volume_id = vol;
    request.node = n1;
    request.boot_id = boot;
    request.sealing_public_key.data = w->node.public_key;
    request.sealing_public_key.len = HPKE_PUBLIC_LEN;
    return request;
}

static M(DeleteRequest) delete_request(void)
{
    M(DeleteRequest) request = TDVOL__KEYBROKER__V1__DELETE_REQUEST__INIT;

    request.driver = driver;
    request.volume_id = vol;
    return request;
}

static void create(struct world *w)
{
    const struct volume_spec spec = fixture_spec();
    M(CreateRecordRequest) request = create_request(&spec);
    struct error err = ERROR_INIT;
    const void *answer = call(w, "node", "CreateRecord", &request.base, &err);

    assert_int_equal(err.code, ERROR_NONE);
    give_back(answer);
}

/* Opens the volume and unseals its secret. */
static void open_secret(struct world *w, uint32_t generation, struct secret *out)
{
    M(OpenVolumeRequest) request = open_request(w);
    struct sealed_secret sealed;
    struct error err = ERROR_INIT;
    const M(OpenVolumeResponse) *answer = call(w, "node", "OpenVolume", &request.base, &err);

    if (!answer) {
        fail_msg("%s", err.text);
        return;
    }
    const struct record r = decode(&answer->record);

    assert_int_equal(r.key.generation, generation);
    assert_int_equal(answer->sealed_secret.len, sizeof(sealed.bytes));
    memcpy(sealed.bytes, answer->sealed_secret.data, sizeof(sealed.bytes));
    assert_ok(secret_unseal(&r, &sealed, &w->node, out, &err));
    give_back(answer);
}

static char *read_audit(struct world *w)
{
    struct error err = ERROR_INIT;
    char *text = NULL;
    size_t len = 0;

    assert_ok(file_read(w->f.audit_path, 1 << 20, &text, &len, &err));
    return text;
}

static size_t count(const char *text, const char *part)
{
    size_t n = 0;

    for (const char *at = text; (at = strstr(at, part)); at++)
        n++;
    return n;
}

static void each_row_names_a_method_and_none_is_missing(void **state)
{
    struct error err = ERROR_INIT;

    (void)state;
    assert_ok(rpc_service_check(&broker_service, &err));
    assert_int_equal(broker_service.n_methods,
                     tdvol__keybroker__v1__key_broker__descriptor.n_methods);
}

static void a_volume_gets_the_same_secret_at_each_open(void **state)
{
    struct world *w = *state;
    auto_secret struct secret one = SECRET_INIT;
    auto_secret struct secret two = SECRET_INIT;

    create(w);
    create(w); /* the same request again */
    open_secret(w, 1, &one);
    open_secret(w, 1, &two);
    assert_int_equal(one.len, 32);
    assert_true(secret_is_equal(&one, &two));
}

static void create_with_another_spec_is_already_there(void **state)
{
    struct world *w = *state;
    struct volume_spec spec = fixture_spec();
    struct error err = ERROR_INIT;

    create(w);
    spec.size_bytes -= 4096;
    const M(CreateRecordRequest) request = create_request(&spec);

    refused(ERROR_ALREADY_EXISTS, "node", "CreateRecord", request);
}

static void who_is_not_known_gets_one_sentence_and_the_log_the_reason(void **state)
{
    struct world *w = *state;
    M(GetStatusRequest) status = TDVOL__KEYBROKER__V1__GET_STATUS_REQUEST__INIT;
    M(OpenVolumeRequest) open = open_request(w);
    M(DeleteRequest) deletion = delete_request();
    M(ReleaseLeaseRequest) release = TDVOL__KEYBROKER__V1__RELEASE_LEASE_REQUEST__INIT;
    const struct {
        const char *cn, *method, *reason;
        const ProtobufCMessage *request;
    } rows[] = {
        { "stranger", "GetStatus", "NoRule", &status.base },
        { "few", "OpenVolume", "the rule does not allow this call", &open.base },
        { "few", "BeginDelete", "the rule does not allow this volume", &deletion.base },
        { "node", "ReleaseLease", "the rule does not allow this call", &release.base },
        { "admin", "OpenVolume", "the rule does not allow this call", &open.base },
    };

    create(w);
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct error err = ERROR_INIT;
        const void *answer = call(w, rows[i].cn, rows[i].method, rows[i].request, &err);
        auto_free char *log = read_audit(w);

        assert_null(answer);
        assert_int_equal(err.code, ERROR_DENIED);
        assert_string_equal(err.text, "the broker's policy does not allow this");
        assert_contains(strrchr(log, '{'), rows[i].reason);
        assert_contains(strrchr(log, '{'), "\"decision\":\"deny\",\"code\":\"PERMISSION_DENIED\"");
    }
}

static void a_certificate_that_is_not_good_is_unauthenticated(void **state)
{
    struct world *w = *state;
    M(GetStatusRequest) status = TDVOL__KEYBROKER__V1__GET_STATUS_REQUEST__INIT;
    struct error err = ERROR_INIT;

    refused(ERROR_UNAUTHENTICATED, "bad", "GetStatus", status);
    refused(ERROR_UNAUTHENTICATED, NULL, "GetStatus", status);
}

static void a_node_speaks_for_itself_alone(void **state)
{
    static char other[] = "x1", nobody[] = "";
    struct world *w = *state;
    M(OpenVolumeRequest) open = open_request(w);
    M(ChangeRecordRequest) change = TDVOL__KEYBROKER__V1__CHANGE_RECORD_REQUEST__INIT;
    struct error err = ERROR_INIT;

    create(w);
    open.node = other;
    refused(ERROR_DENIED, "node", "OpenVolume", open);
    open.node = nobody;
    refused(ERROR_INVALID_ARGUMENT, "node", "OpenVolume", open);
    open.node = n1;
    open.boot_id = nobody;
    refused(ERROR_INVALID_ARGUMENT, "node", "OpenVolume", open);
    change.driver = driver;
    change.volume_id = vol;
    change.node = other;
    change.boot_id = boot;
    refused(ERROR_DENIED, "node", "ChangeRecord", change);
}

static void tenants_do_not_see_each_other(void **state)
{
    struct world *w = *state;
    M(GetRecordRequest) request = TDVOL__KEYBROKER__V1__GET_RECORD_REQUEST__INIT;
    M(OpenVolumeRequest) open = open_request(w);
    M(ListRecordsRequest) list = TDVOL__KEYBROKER__V1__LIST_RECORDS_REQUEST__INIT;
    struct error err = ERROR_INIT;

    create(w);
    request.driver = driver;
    request.volume_id = vol;
    refused(ERROR_NOT_FOUND, "other", "GetRecord", request);
    refused(ERROR_NOT_FOUND, "other", "OpenVolume", open);
    list.driver = driver;
    const M(ListRecordsResponse) *page = call(w, "other", "ListRecords", &list.base, &err);

    assert_non_null(page);
    assert_int_equal(page->n_records, 0);
    give_back(page);
}

static void requests_without_or_with_bad_fields_are_invalid(void **state)
{
    static char nothing[] = "", long_id[VOLUME_ID_MAX + 2];
    struct world *w = *state;
    M(OpenVolumeRequest) open = open_request(w);
    M(CopyRecordRequest) copy = TDVOL__KEYBROKER__V1__COPY_RECORD_REQUEST__INIT;
    struct error err = ERROR_INIT;

    for (size_t i = 0; i < sizeof(long_id) - 1; i++)
        long_id[i] = 'x';
    open.volume_id = nothing;
    refused(ERROR_INVALID_ARGUMENT, "node", "OpenVolume", open);
    assert_string_equal(err.text, "volume_id is missing");
    open.volume_id = long_id;
    refused(ERROR_INVALID_ARGUMENT, "node", "OpenVolume", open);
    open = open_request(w);
    open.driver = nothing;
    refused(ERROR_INVALID_ARGUMENT, "node", "OpenVolume", open);
    open = open_request(w);
    open.sealing_public_key.len = 31;
    refused(ERROR_INVALID_ARGUMENT, "node", "OpenVolume", open);
    copy.driver = driver;
    copy.volume_id = vol;
    copy.kind = 2;
    refused(ERROR_INVALID_ARGUMENT, "node", "CopyRecord", copy);
}

/* A point of low order: nothing may be sealed to it, and the lease is not taken. */
static void a_bad_sealing_key_changes_nothing(void **state)
{
    struct world *w = *state;
    uint8_t zeros[HPKE_PUBLIC_LEN] = { 0 };
    M(OpenVolumeRequest) open = open_request(w);
    M(GetRecordRequest) get = TDVOL__KEYBROKER__V1__GET_RECORD_REQUEST__INIT;
    struct error err = ERROR_INIT;

    create(w);
    open.sealing_public_key.data = zeros;
    assert_null(call(w, "node", "OpenVolume", &open.base, &err));
    assert_true(err.code != ERROR_NONE);
    get.driver = driver;
    get.volume_id = vol;
    const M(GetRecordResponse) *answer = call(w, "node", "GetRecord", &get.base, &err);

    assert_non_null(answer);
    assert_int_equal(decode(&answer->record).phase, RECORD_NEW);
    give_back(answer);
}

static void a_sealed_broker_says_so_and_no_more(void **state)
{
    struct world *w = *state;
    M(GetStatusRequest) status = TDVOL__KEYBROKER__V1__GET_STATUS_REQUEST__INIT;
    M(OpenVolumeRequest) open = open_request(w);
    struct error err = ERROR_INIT;

    create(w);
    atomic_store(&w->f.broker.is_open, false);
    const M(GetStatusResponse) *answer = call(w, "node", "GetStatus", &status.base, &err);

    assert_non_null(answer);
    assert_int_equal(answer->state, TDVOL__KEYBROKER__V1__BROKER_STATE__BROKER_STATE_SEALED);
    give_back(answer);
    refused(ERROR_UNAVAILABLE, "node", "OpenVolume", open);
    assert_contains(err.text, "broker is sealed");
    refused(ERROR_DENIED, "stranger", "OpenVolume", open);
}

static void an_erased_volume_is_gone_and_comes_back_with_another_secret(void **state)
{
    struct world *w = *state;
    M(DeleteRequest) deletion = delete_request();
    M(GetRecordRequest) get = TDVOL__KEYBROKER__V1__GET_RECORD_REQUEST__INIT;
    M(OpenVolumeRequest) open = open_request(w);
    auto_secret struct secret one = SECRET_INIT;
    auto_secret struct secret two = SECRET_INIT;
    struct error err = ERROR_INIT;

    create(w);
    open_secret(w, 1, &one);
    refused(ERROR_FAILED_PRECONDITION, "node", "BeginDelete", deletion); /* is being formatted */
    w->f.broker.format_ms = 0;
    open.node = n1; /* the same boot again, with no time left */
    give_back(call(w, "node", "OpenVolume", &open.base, &err));
    give_back(call(w, "node", "BeginDelete", &deletion.base, &err));
    assert_int_equal(err.code, ERROR_NONE);
    refused(ERROR_FAILED_PRECONDITION, "node", "OpenVolume", open);
    give_back(call(w, "node", "FinishDelete", &deletion.base, &err));
    assert_int_equal(err.code, ERROR_NONE);
    refused(ERROR_NOT_FOUND, "node", "FinishDelete", deletion);
    refused(ERROR_NOT_FOUND, "node", "OpenVolume", open);
    get.driver = driver;
    get.volume_id = vol;
    refused(ERROR_NOT_FOUND, "node", "GetRecord", get);
    assert_string_equal(err.reason, RECORD_ERASED_REASON);
    get.volume_id = n1;
    refused(ERROR_NOT_FOUND, "node", "GetRecord", get);
    assert_string_equal(err.reason, "");
    create(w);
    open_secret(w, 1, &two);
    assert_false(secret_is_equal(&one, &two));
}

static void two_nodes_cannot_both_format(void **state)
{
    struct world *w = *state;
    M(OpenVolumeRequest) open = open_request(w);
    auto_secret struct secret secret = SECRET_INIT;
    struct error err = ERROR_INIT;

    create(w);
    open_secret(w, 1, &secret);
    open.node = n2;
    refused(ERROR_ABORTED, "node", "OpenVolume", open);
    assert_contains(err.text, "being formatted by node n1");
}

static void lists_show_what_the_rule_has_in_pages(void **state)
{
    static char few_id[] = "few-1";
    struct world *w = *state;
    const struct volume_spec spec = fixture_spec();
    M(CreateRecordRequest) request = create_request(&spec);
    M(ListRecordsRequest) list = TDVOL__KEYBROKER__V1__LIST_RECORDS_REQUEST__INIT;
    struct error err = ERROR_INIT;

    create(w);
    request.volume_id = few_id;
    give_back(call(w, "node", "CreateRecord", &request.base, &err));
    assert_int_equal(err.code, ERROR_NONE);
    refused(ERROR_DENIED, "node", "ListRecords", list); /* only an admin may list all drivers */
    list.page_size = 1;
    const M(ListRecordsResponse) *page = call(w, "admin", "ListRecords", &list.base, &err);

    assert_non_null(page);
    assert_int_equal(page->n_records, 1);
    assert_string_equal(decode(&page->records[0]).volume_id, "few-1");
    assert_int_equal(strlen(page->next_page_token), 32);
    list.page_token = arena_strdup(&w->arena, page->next_page_token);
    give_back(page);
    page = call(w, "admin", "ListRecords", &list.base, &err);
    assert_non_null(page);
    assert_string_equal(decode(&page->records[0]).volume_id, "v");
    assert_string_equal(page->next_page_token, "");
    give_back(page);
    list.page_token = ext4;
    refused(ERROR_ABORTED, "admin", "ListRecords", list);
    list = (M(ListRecordsRequest))TDVOL__KEYBROKER__V1__LIST_RECORDS_REQUEST__INIT;
    list.driver = driver;
    page = call(w, "few", "ListRecords", &list.base, &err);
    assert_non_null(page);
    assert_int_equal(page->n_records, 1);
    assert_string_equal(decode(&page->records[0]).volume_id, "few-1");
    give_back(page);
}

/* Each call has one line with who, what and the outcome. The chain is whole. */
static void each_call_leaves_one_line(void **state)
{
    struct world *w = *state;
    M(OpenVolumeRequest) open = open_request(w);
    auto_secret struct secret secret = SECRET_INIT;
    auto_free char *log = NULL;
    struct error err = ERROR_INIT;

    create(w);
    open_secret(w, 1, &secret);
    open.node = n2;
    refused(ERROR_ABORTED, "node", "OpenVolume", open);
    assert_int_equal(fixture_audit_lines(&w->f), 4); /* begun, and one for each call */
    log = read_audit(w);
    assert_int_equal(count(log, "\"method\":\"OpenVolume\""), 2);
    assert_contains(log, "\"method\":\"OpenVolume\",\"decision\":\"allow\",\"code\":\"OK\","
                         "\"tenant\":\"one\",\"rule\":\"nodes\",\"cn\":\"node\",\"driver\":\"d\","
                         "\"volume\":\"v\",\"node\":\"n1\"");
    assert_contains(log, "\"phase\":\"FORMATTING\",\"version\":2,\"mac\":\"");
    assert_contains(log, "\"code\":\"ABORTED\"");
}

/* Without an audit line there is no change and no key. The log cannot grow, as on a full disk. */
static void a_call_that_cannot_be_audited_fails_and_changes_nothing(void **state)
{
    const struct rlimit unlimited = { RLIM_INFINITY, RLIM_INFINITY };
    const struct store_name name = { "one", "d", "v" };
    struct world *w = *state;
    M(OpenVolumeRequest) open = open_request(w);
    auto_free char *log = NULL;
    struct record r;
    struct error err = ERROR_INIT;

    create(w);
    log = read_audit(w);
    const struct rlimit tight = { strlen(log) + 10, RLIM_INFINITY };

    assert_int_equal(setrlimit(RLIMIT_FSIZE, &tight), 0);
    refused(ERROR_UNAVAILABLE, "node", "OpenVolume", open);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &unlimited), 0);
    assert_contains(err.text, "audit log");
    assert_ok(w->f.broker.store->ops->get(w->f.broker.store, &name, &r, &err));
    assert_int_equal(r.phase, RECORD_NEW);
    assert_int_equal(r.version, 1);
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

static void bad_specs_and_changes_are_invalid(void **state)
{
    static uint8_t junk[] = { 0xff, 0xff, 0xff };
    struct world *w = *state;
    struct volume_spec spec = fixture_spec();
    M(CreateRecordRequest) request = create_request(&spec);
    M(ChangeRecordRequest) change = TDVOL__KEYBROKER__V1__CHANGE_RECORD_REQUEST__INIT;
    struct error err = ERROR_INIT;

    request.spec = (ProtobufCBinaryData){ sizeof(junk), junk };
    refused(ERROR_INVALID_ARGUMENT, "node", "CreateRecord", request);
    request.spec = (ProtobufCBinaryData){ 0, NULL };
    refused(ERROR_FAILED_PRECONDITION, "node", "CreateRecord", request); /* no layout version */
    spec.integrity = 9;
    request.spec = fixture_spec_bytes(&spec);
    refused(ERROR_INVALID_ARGUMENT, "node", "CreateRecord", request);
    assert_contains(err.text, "spec.integrity");
    create(w);
    change.driver = driver;
    change.volume_id = vol;
    change.node = n1;
    change.boot_id = boot;
    change.expected_version = 1;
    change.change = (ProtobufCBinaryData){ sizeof(junk), junk };
    refused(ERROR_INVALID_ARGUMENT, "node", "ChangeRecord", change);
    change.change = (ProtobufCBinaryData){ 0, NULL };
    refused(ERROR_INVALID_ARGUMENT, "node", "ChangeRecord", change);
    assert_contains(err.text, "change.kind");
}

static void a_node_takes_over_what_its_former_boot_held_without_a_key(void **state)
{
    static char boot2[] = "b2", x1[] = "x1";
    struct world *w = *state;
    M(TakeOverLeaseRequest) request = TDVOL__KEYBROKER__V1__TAKE_OVER_LEASE_REQUEST__INIT;
    auto_secret struct secret secret = SECRET_INIT;
    struct error err = ERROR_INIT;

    create(w);
    request.driver = driver;
    request.volume_id = vol;
    request.node = n1;
    request.boot_id = boot2;
    refused(ERROR_FAILED_PRECONDITION, "node", "TakeOverLease", request); /* no node has it open */
    open_secret(w, 1, &secret);
    refused(ERROR_DENIED, "admin", "TakeOverLease", request);
    request.node = n2;
    refused(ERROR_FAILED_PRECONDITION, "node", "TakeOverLease", request);
    request.node = x1;
    refused(ERROR_DENIED, "node", "TakeOverLease", request);
    request.node = n1;
    const M(TakeOverLeaseResponse) *answer = call(w, "node", "TakeOverLease", &request.base, &err);

    assert_non_null(answer);
    assert_string_equal(decode(&answer->record).format.holder.boot_id, "b2");
    give_back(answer);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        CASE(each_row_names_a_method_and_none_is_missing),
        CASE(a_volume_gets_the_same_secret_at_each_open),
        CASE(bad_specs_and_changes_are_invalid),
        CASE(a_node_takes_over_what_its_former_boot_held_without_a_key),
        CASE(create_with_another_spec_is_already_there),
        CASE(who_is_not_known_gets_one_sentence_and_the_log_the_reason),
        CASE(a_certificate_that_is_not_good_is_unauthenticated),
        CASE(a_node_speaks_for_itself_alone),
        CASE(tenants_do_not_see_each_other),
        CASE(requests_without_or_with_bad_fields_are_invalid),
        CASE(a_bad_sealing_key_changes_nothing),
        CASE(a_sealed_broker_says_so_and_no_more),
        CASE(an_erased_volume_is_gone_and_comes_back_with_another_secret),
        CASE(two_nodes_cannot_both_format),
        CASE(lists_show_what_the_rule_has_in_pages),
        CASE(each_call_leaves_one_line),
        CASE(a_call_that_cannot_be_audited_fails_and_changes_nothing),
    };

    (void)signal(SIGXFSZ, SIG_IGN);
    return RUN_TESTS(tests);
}
