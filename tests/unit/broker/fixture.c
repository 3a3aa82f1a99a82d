/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/broker/fixture.h"

#include "broker/service.h"
#include "record/encoding.h"
#include "store/keyring.h"
#include "tests/unit/broker/store_memory.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "keybroker.pb-c.h"

const struct record_fresh fixture_fresh = {
    .id = { 1, 2, 3 },
    .key = { .id = { 9, 8, 7 }, .generation = 1 },
    .now_ms = NOW,
};

const struct record_keeping fixture_not_kept = { .now_ms = NOW, .by = "" };

struct volume_spec fixture_spec(void)
{
    return (struct volume_spec){
        .name = "pvc-1",
        .fs_type = "ext4",
        .integrity = INTEGRITY_AEGIS128,
        .provisioning = PROVISIONING_THICK,
        .workqueue = WORKQUEUE_AUTO,
        .size_bytes = GIB,
        .mapping_bytes = GIB + 18 * MIB,
        .device_bytes = GIB + 64 * MIB,
        .sector_bytes = 4096,
        .layout_version = 1,
        .backing = BACKING_FILE,
    };
}

ProtobufCBinaryData fixture_spec_bytes(const struct volume_spec *spec)
{
    static struct encoded encoded;

    volume_spec_encode(spec, &encoded);
    return (ProtobufCBinaryData){ .len = encoded.len, .data = encoded.bytes };
}

const void *fixture_call(struct fixture *f, struct arena *arena, const char *client,
                         const char *method, const ProtobufCMessage *request, struct error *why)
{
    static char path[96];
    const struct rpc_peer peer = { .certificate_pem = client };
    const struct rpc_limits limits = { 65536, 256, 4096 }, wide = { 1 << 20, 65536, 4096 };
    struct rpc_call rpc = {
        .method = path, .arena = arena, .peer = &peer, .deadline_ms = UINT64_MAX
    };
    const ProtobufCMethodDescriptor *d = protobuf_c_service_descriptor_get_method_by_name(
        &tdvol__keybroker__v1__key_broker__descriptor, method);
    struct rpc_bytes out = { .len = 0 };
    ProtobufCMessage *answer = NULL;
    struct error err = ERROR_INIT;
    size_t len = protobuf_c_message_get_packed_size(request);
    uint8_t *bytes = arena_alloc(arena, len + 1);

    protobuf_c_message_pack(request, bytes);
    *why = (struct error)ERROR_INIT;
    (void)snprintf(path, sizeof(path), "/tdvol.keybroker.v1.KeyBroker/%s", method);
    if (!rpc_dispatch(&broker_service, rpc_service_find(&broker_service, path), &f->broker, &rpc,
                      &limits, (struct rpc_bytes){ bytes, len }, &out, why))
        return NULL;
    assert_ok(rpc_decode(d->output, &wide, out, arena, &answer, &err));
    return answer;
}

struct record_holder fixture_holder(const char *node, const char *boot_id)
{
    struct record_holder holder = { .node = "" };

    (void)snprintf(holder.node, sizeof(holder.node), "%s", node);
    (void)snprintf(holder.boot_id, sizeof(holder.boot_id), "%s", boot_id);
    return holder;
}

struct record fixture_record(enum record_phase phase)
{
    struct record r = {
        .id = { 0xaa },
        .tenant = "t",
        .driver = "d",
        .volume_id = "v",
        .kind = RECORD_VOLUME,
        .phase = phase,
        .version = 7,
        .spec = fixture_spec(),
        .key = { .id = { 0xbb }, .generation = 1 },
        .created_ms = 1,
    };

    if (phase == RECORD_FORMATTING) {
        r.format.holder = fixture_holder("n1", "b1");
        r.format.attempt = 1;
        r.format.deadline_ms = NOW + LIMIT;
    }
    if (phase == RECORD_READY || phase == RECORD_DELETING) {
        r.n_header_digests = 1;
        r.header_digests[0][0] = 0xdd;
        r.open_counter = 5;
        r.format.attempt = 1;
    }
    if (phase == RECORD_ERASED)
        r.key = (struct record_key){ .generation = 0 };
    return r;
}

/* The certificate's text is the common name. "self" is not signed by the client CA, and "bad" is no
 * certificate. */
static bool gather(void *state, struct claim_query *query, struct caller *out, struct error *err)
{
    const char *cn = query->call->peer->certificate_pem;
    struct certificate_claims *claims = arena_alloc(query->call->arena, sizeof(*claims));

    (void)state;
    if (!claims)
        return arena_exhausted(err);
    if (strcmp(cn, "bad") == 0)
        return error_set(err, ERROR_UNAUTHENTICATED, "the client sent no certificate");
    if (strcmp(cn, "self") == 0 || cn[0] == '-')
        return true;
    (void)snprintf(claims->common_name, sizeof(claims->common_name), "%s", cn);
    out->who.certificate = claims;
    return true;
}

const struct claim_source fixture_source = { .gather = gather };
static const struct claim_source_binding sources[] = { { &fixture_source, NULL } };

static const char policy_text[] =
    "{\"version\":1,\"rules\":["
    "{\"name\":\"nodes\",\"match\":{\"certificate.cn\":\"node\"},\"tenant\":\"one\","
    " \"may\":[\"create\",\"open\",\"delete\"],\"without_attestation\":true,\"volumes\":[\"*\"],\"nodes\":[\"n?\"]},"
    "{\"name\":\"few\",\"match\":{\"certificate.cn\":\"few\"},\"tenant\":\"one\","
    " \"may\":[\"create\",\"delete\"],\"volumes\":[\"few-*\"]},"
    "{\"name\":\"controllers\",\"match\":{\"certificate.cn\":\"controller\"},\"tenant\":\"one\","
    " \"may\":[\"create\",\"delete\",\"publish\"],\"volumes\":[\"*\"],\"nodes\":[\"n?\"]},"
    "{\"name\":\"others\",\"match\":{\"certificate.cn\":\"other\"},\"tenant\":\"two\","
    " \"may\":[\"create\",\"open\",\"delete\"],\"without_attestation\":true,\"volumes\":[\"*\"],\"nodes\":[\"*\"]},"
    "{\"name\":\"rotators\",\"match\":{\"certificate.cn\":\"rotator\"},\"tenant\":\"one\","
    " \"may\":[\"rotate\"],\"volumes\":[\"*\"]},"
    "{\"name\":\"keepers\",\"match\":{\"certificate.cn\":\"keeper\"},\"tenant\":\"one\","
    " \"may\":[\"admin\",\"unseal\"],\"volumes\":[\"*\"]},"
    "{\"name\":\"savers\",\"match\":{\"certificate.cn\":\"saver\"},\"tenant\":\"one\","
    " \"may\":[\"backup\"],\"volumes\":[\"*\"]},"
    "{\"name\":\"admins\",\"match\":{\"certificate.cn\":\"admin\"},\"tenant\":\"one\","
    " \"may\":[\"admin\"],\"volumes\":[\"*\"]}]}";

uint64_t fixture_now_ms = NOW;

static uint64_t now_ms(void)
{
    return fixture_now_ms;
}

void fixture_start(struct fixture *f)
{
    struct error err = ERROR_INIT;
    auto_policy struct policy *policy = NULL;
    auto_broker_signer struct broker_signer *signer = NULL;

    *f = (struct fixture){ .dir = "/tmp/tdvol-broker-XXXXXX" };
    assert_non_null(mkdtemp(f->dir));
    (void)snprintf(f->audit_path, sizeof(f->audit_path), "%s/audit.jsonl", f->dir);
    fixture_now_ms = NOW;
    f->broker.now_ms = now_ms;
    f->broker.steady_ms = now_ms;
    assert_ok(broker_init(&f->broker, &err));
    assert_ok(store_memory_open(&f->broker.store, &err));
    assert_ok(policy_parse(policy_text, sizeof(policy_text) - 1, &policy, &err));
    broker_set_policy(&f->broker, &policy);
    broker_end_make(&f->end, NULL);
    assert_ok(broker_signer_new(f->end.certificates_pem, &f->end.key_pem, &signer, &err));
    broker_set_signer(&f->broker, &signer);
    assert_ok(secret_random(&f->master, 32, &err));
    assert_ok(broker_unlock(&f->broker, &f->master, NULL, &err));
    auto_secret struct secret head_key = SECRET_INIT;
    const struct audit_options audit = { f->audit_path, f->broker.store, &head_key, &f->master };

    assert_ok(keyring_audit_head_key(f->broker.keyring, &head_key, &err));

    struct audit *log = NULL;
    assert_ok(audit_open(&audit, &log, &err));
    broker_open(&f->broker, log);
    f->broker.sources = sources;
    f->broker.n_sources = 1;
    f->broker.format_ms = LIMIT;
    f->broker.session_ms = 900000;
    f->broker.verifications_max = 1;
    f->broker.attest_rate = 10;
}

uint64_t fixture_audit_lines(const struct fixture *f)
{
    const char *const paths[] = { f->audit_path };
    struct audit_report report = { .lines = 0 };
    struct error err = ERROR_INIT;

    assert_ok(audit_check(paths, 1, &f->master, &report, &err));
    assert_int_equal(report.restarts, 0);
    return report.lines;
}

void fixture_stop(struct fixture *f)
{
    audit_close(&f->broker.audit);
    store_close(&f->broker.store);
    broker_done(&f->broker);
    secret_wipe(&f->master);
    broker_end_free(&f->end);
    unlink(f->audit_path);
    rmdir(f->dir);
}
