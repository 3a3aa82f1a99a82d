/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/broker/evidence.h"

#include "attest/binding.h"
#include "base/clock.h"
#include "base/digest.h"
#include "base/file.h"
#include "broker/service.h"

#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define M(name) Tdvol__Keybroker__V1__##name

static char *hex(const uint8_t *bytes, size_t len, char *out)
{
    hex_encode(bytes, len, out);
    return out;
}

void evidence_set_policy(struct evidence_world *w, const char *mrtd_hex, const char *extra)
{
    const struct sim_td *td = &sim_td_default;
    char text[4096], mrtd[97], rtmr1[97], rtmr2[97];
    auto_policy struct policy *policy = NULL;
    struct error err = ERROR_INIT;
    int len = snprintf(
        text, sizeof(text),
        "{\"version\":1,\"revision\":\"r1\",\"images\":{\"image-1\":{\"mrtd\":[\"%s\"],"
        "\"rtmr1\":[\"%s\"],\"rtmr2\":[\"%s\"]}},\"rules\":[{\"name\":\"tds\","
        "\"td\":{\"images\":[\"image-1\"]},%s\"tenant\":\"td\",%s"
        "\"may\":[\"create\",\"open\",\"delete\"],\"volumes\":[\"*\"],\"nodes\":[\"*\"]}]}",
        mrtd_hex ? mrtd_hex : hex(td->mrtd, sizeof(td->mrtd), mrtd),
        hex(td->rtmr[1], sizeof(td->rtmr[1]), rtmr1), hex(td->rtmr[2], sizeof(td->rtmr[2]), rtmr2),
        strstr(extra, "\"owner\"") ? "" : "\"any_owner\":true,", extra);

    assert_ok(policy_parse(text, (size_t)len, &policy, &err));
    broker_set_policy(&w->f.broker, &policy);
}

void evidence_publish(struct evidence_world *w, const struct sim_tcb *tcb)
{
    struct collateral_set set = { .fmspc = { 0 } };
    const struct collateral_set *const sets[] = { &set };
    auto_free char *json = NULL;
    struct error err = ERROR_INIT;

    sim_collateral(w->pki, tcb, &set);
    assert_ok(collateral_bundle_print(sets, 1, &json, &err));
    (void)unlink(w->bundle_path);
    assert_ok(file_create(w->bundle_path, 0600, json, strlen(json), &err));
    collateral_set_free(&set);
}

void evidence_start(struct evidence_world *w, const char *extra)
{
    const struct sim_tcb tcb = sim_tcb_default();
    struct error err = ERROR_INIT;

    *w = (struct evidence_world){ .address = "10.0.0.1" };
    fixture_start(&w->f);
    fixture_now_ms = clock_wall_ms();
    w->pki = sim_pki_new();
    w->machine = sim_machine_new(w->pki, &sim_platform_default);
    (void)snprintf(w->bundle_path, sizeof(w->bundle_path), "%s/bundle.json", w->f.dir);
    (void)snprintf(w->cache_path, sizeof(w->cache_path), "%s/cache", w->f.dir);
    evidence_publish(w, &tcb);

    const struct collaterals_options options = { .store = w->f.broker.store,
                                                 .root = sim_pki_root(w->pki),
                                                 .cache_dir = w->cache_path,
                                                 .bundle = w->bundle_path,
                                                 .now_ms = w->f.broker.now_ms };

    assert_ok(collaterals_new(&options, &w->collaterals, &err));
    w->f.broker.collaterals = w->collaterals;
    w->f.broker.key_sha256[0] = 0xbb;
    w->sources[0] = (struct claim_source_binding){ &fixture_source, NULL };
    w->sources[1] =
        (struct claim_source_binding){ &claim_source_evidence, w->f.broker.attestations };
    w->f.broker.sources = w->sources;
    w->f.broker.n_sources = ARRAY_LEN(w->sources);
    evidence_set_policy(w, NULL, extra);
    arena_init(&w->arena, 64 << 20);
}

static int drop(const char *path, const struct stat *st, int kind, struct FTW *at)
{
    (void)st, (void)kind, (void)at;
    return remove(path);
}

void evidence_stop(struct evidence_world *w)
{
    arena_wipe(&w->arena);
    collaterals_free(w->collaterals);
    sim_machine_free(w->machine);
    sim_pki_free(w->pki);
    (void)nftw(w->cache_path, drop, 8, FTW_DEPTH | FTW_PHYS);
    (void)unlink(w->bundle_path);
    fixture_stop(&w->f);
}

void evidence_client_new(struct evidence_client *c)
{
    struct error err = ERROR_INIT;

    *c = (struct evidence_client){ .td = sim_td_default };
    assert_ok(identity_new("node", &c->identity, &err));
    assert_ok(hpke_generate(&c->sealing, false, &err));
}

void evidence_client_wipe(struct evidence_client *c)
{
    identity_wipe(&c->identity);
    hpke_key_pair_wipe(&c->sealing);
}

/* protobuf-c unpacks answers into the world's arena. */
static void *take(void *cookie, size_t size)
{
    return arena_alloc(cookie, size);
}

static void leave(void *cookie, void *memory)
{
    (void)cookie, (void)memory;
}

const void *evidence_call(struct evidence_world *w, const struct evidence_client *c,
                          const char *method, const ProtobufCMessage *request, struct error *err)
{
    const struct rpc_peer peer = { .certificate_pem = c->identity.certificate_pem,
                                   .session_reused = w->session_reused,
                                   .address = w->address };
    const struct rpc_limits limits = { 65536, 256, 4096 };
    char path[96];
    struct rpc_call rpc = {
        .method = path, .arena = &w->arena, .peer = &peer, .deadline_ms = UINT64_MAX
    };
    ProtobufCAllocator allocator = { take, leave, &w->arena };
    const ProtobufCMethodDescriptor *d = protobuf_c_service_descriptor_get_method_by_name(
        &tdvol__keybroker__v1__key_broker__descriptor, method);
    size_t len = protobuf_c_message_get_packed_size(request);
    auto_free uint8_t *bytes = malloc(len + 1);
    struct rpc_bytes out = { .len = 0 };

    assert_non_null(bytes);
    *err = (struct error)ERROR_INIT;
    (void)snprintf(path, sizeof(path), "/tdvol.keybroker.v1.KeyBroker/%s", method);
    protobuf_c_message_pack(request, bytes);
    if (!rpc_dispatch(&broker_service, rpc_service_find(&broker_service, path), &w->f.broker, &rpc,
                      &limits, (struct rpc_bytes){ bytes, len }, &out, err))
        return NULL;
    return protobuf_c_message_unpack(d->output, &allocator, out.len, out.bytes);
}

void evidence_sign(struct evidence_world *w, struct evidence_client *c, struct evidence_try *t)
{
    struct binding binding;
    struct error err = ERROR_INIT;

    memcpy(binding.nonce, t->nonce, BINDING_LEN);
    memcpy(binding.client_key_sha256, c->identity.key_sha256, BINDING_LEN);
    assert_ok(sha256(t->sealing_key, sizeof(t->sealing_key), binding.sealing_key_sha256, &err));
    memcpy(binding.broker_key_sha256, t->broker_key, BINDING_LEN);
    assert_ok(binding_report_data(&binding, c->td.report_data, &err));
    t->quote_len = sim_quote(w->machine, &c->td, &sim_quoting_default, t->quote);
}

void evidence_prepare(struct evidence_world *w, struct evidence_client *c, struct evidence_try *out)
{
    M(GetChallengeRequest) request = TDVOL__KEYBROKER__V1__GET_CHALLENGE_REQUEST__INIT;
    struct error err = ERROR_INIT;
    const M(GetChallengeResponse) *challenge =
        evidence_call(w, c, "GetChallenge", &request.base, &err);

    assert_int_equal(err.code, ERROR_NONE);
    *out = (struct evidence_try){ .tee = "tdx" };
    assert_int_equal(challenge->nonce.len, sizeof(out->nonce));
    assert_int_equal(challenge->broker_key_sha256.len, sizeof(out->broker_key));
    assert_int_equal(challenge->remaining_ms, CHALLENGE_MS);
    memcpy(out->nonce, challenge->nonce.data, sizeof(out->nonce));
    memcpy(out->broker_key, challenge->broker_key_sha256.data, sizeof(out->broker_key));
    memcpy(out->sealing_key, c->sealing.public_key, sizeof(out->sealing_key));
    evidence_sign(w, c, out);
}

const M(AttestResponse) * evidence_attest(struct evidence_world *w, const struct evidence_client *c,
                                          struct evidence_try *t, struct error *err)
{
    M(AttestRequest) request = TDVOL__KEYBROKER__V1__ATTEST_REQUEST__INIT;

    request.tee = arena_strdup(&w->arena, t->tee);
    request.nonce = (ProtobufCBinaryData){ sizeof(t->nonce), t->nonce };
    request.quote = (ProtobufCBinaryData){ t->quote_len, t->quote };
    request.event_log = (ProtobufCBinaryData){ t->event_log_len, t->event_log };
    request.sealing_public_key = (ProtobufCBinaryData){ sizeof(t->sealing_key), t->sealing_key };
    if (t->owner_token)
        request.owner_token =
            (ProtobufCBinaryData){ strlen(t->owner_token),
                                   (uint8_t *)arena_strdup(&w->arena, t->owner_token) };
    if (t->owner_certificate)
        request.owner_certificate =
            (ProtobufCBinaryData){ strlen(t->owner_certificate),
                                   (uint8_t *)arena_strdup(&w->arena, t->owner_certificate) };
    return evidence_call(w, c, "Attest", &request.base, err);
}

char *evidence_last_line(struct evidence_world *w)
{
    struct error err = ERROR_INIT;
    char *text = NULL, *start = NULL;
    size_t len = 0;

    assert_ok(file_read(w->f.audit_path, 1 << 20, &text, &len, &err));
    text[len - 1] = '\0';
    start = strrchr(text, '\n');
    start = start ? start + 1 : text;
    memmove(text, start, strlen(start) + 1);
    return text;
}

static char driver[] = "d", node[] = "n1", boot[] = "b1";

const M(CreateRecordResponse) * evidence_create(struct evidence_world *w,
                                                const struct evidence_client *c, char *volume_id,
                                                struct error *err)
{
    M(CreateRecordRequest) request = TDVOL__KEYBROKER__V1__CREATE_RECORD_REQUEST__INIT;
    const struct volume_spec spec = fixture_spec();

    request.driver = driver;
    request.volume_id = volume_id;
    request.spec = fixture_spec_bytes(&spec);
    return evidence_call(w, c, "CreateRecord", &request.base, err);
}

enum error_code evidence_open(struct evidence_world *w, const struct evidence_client *c,
                              char *volume_id, const uint8_t *sealing_key, struct error *err)
{
    M(OpenVolumeRequest) request = TDVOL__KEYBROKER__V1__OPEN_VOLUME_REQUEST__INIT;
    uint8_t key[HPKE_PUBLIC_LEN];

    memcpy(key, sealing_key, sizeof(key));
    request.driver = driver;
    request.volume_id = volume_id;
    request.node = node;
    request.boot_id = boot;
    request.sealing_public_key = (ProtobufCBinaryData){ sizeof(key), key };
    (void)evidence_call(w, c, "OpenVolume", &request.base, err);
    return err->code;
}

void evidence_erase(struct evidence_world *w, const struct evidence_client *c, char *volume_id)
{
    M(DeleteRequest) request = TDVOL__KEYBROKER__V1__DELETE_REQUEST__INIT;
    struct error err = ERROR_INIT;

    request.driver = driver;
    request.volume_id = volume_id;
    assert_non_null(evidence_call(w, c, "BeginDelete", &request.base, &err));
    assert_non_null(evidence_call(w, c, "FinishDelete", &request.base, &err));
}

int evidence_set_up(void **state)
{
    static struct evidence_scene scene;

    evidence_start(&scene.e, "");
    evidence_client_new(&scene.td);
    *state = &scene;
    return 0;
}

int evidence_tear_down(void **state)
{
    struct evidence_scene *scene = *state;

    evidence_client_wipe(&scene->td);
    evidence_stop(&scene->e);
    return 0;
}
