/* SPDX-License-Identifier: Apache-2.0 */
#include "keys/broker_set.h"
#include "keys/evidence_request.h"
#include "tests/fault/nth_allocation.h"
#include "tests/unit/csi/fake.h"
#include "tests/unit/csi/site.h"
#include "tests/unit/test.h"

/*
 * Each allocation of the plugin's calls fails once. The failed call leaves nothing that hinders the
 * next one: the same call without the failure succeeds.
 */
#define MIB (1ll << 20)

static struct fake *f;
static char id[VOLUME_ID_MAX + 1];

/* The fake's own allocations do not count. */
static void working(bool is_working)
{
    static unsigned fail_at;

    if (is_working)
        fail_at = nth_allocation.fail_at;
    nth_allocation.fail_at = is_working ? 0 : fail_at;
}

static char *text(const char *value)
{
    return (char *)(uintptr_t)value;
}

typedef bool operation(struct arena *arena, struct error *err);

static bool create(struct arena *arena, struct error *err)
{
    Csi__V1__CreateVolumeResponse *response =
        fake_call(f, &controller_service, "CreateVolume",
                  fake_create("a", 64 * MIB, fake_mount("")), arena, err);

    if (response)
        (void)snprintf(id, sizeof(id), "%s", response->volume->volume_id);
    return response != NULL;
}

static bool take_snapshot(struct arena *arena, struct error *err)
{
    Csi__V1__CreateSnapshotRequest request = CSI__V1__CREATE_SNAPSHOT_REQUEST__INIT;

    request.name = text("s");
    request.source_volume_id = id;
    return fake_call(f, &controller_service, "CreateSnapshot", &request, arena, err);
}

static bool list(struct arena *arena, struct error *err)
{
    Csi__V1__ListVolumesRequest request = CSI__V1__LIST_VOLUMES_REQUEST__INIT;

    return fake_call(f, &controller_service, "ListVolumes", &request, arena, err);
}

static bool stage(struct arena *arena, struct error *err)
{
    Csi__V1__NodeStageVolumeRequest request = CSI__V1__NODE_STAGE_VOLUME_REQUEST__INIT;

    request.volume_id = id;
    request.staging_target_path = text("/stage");
    request.volume_capability = fake_mount("");
    return fake_call(f, &node_service, "NodeStageVolume", &request, arena, err);
}

static bool publish(struct arena *arena, struct error *err)
{
    Csi__V1__NodePublishVolumeRequest request = CSI__V1__NODE_PUBLISH_VOLUME_REQUEST__INIT;

    request.volume_id = id;
    request.staging_target_path = text("/stage");
    request.target_path = text("/pod");
    request.volume_capability = fake_mount("");
    return fake_call(f, &node_service, "NodePublishVolume", &request, arena, err);
}

static bool ask_health(struct arena *arena, struct error *err)
{
    Csi__V1__NodeGetVolumeHealthRequest request = CSI__V1__NODE_GET_VOLUME_HEALTH_REQUEST__INIT;

    request.volume_id = id;
    return fake_call(f, &node_service, "NodeGetVolumeHealth", &request, arena, err);
}

static bool unstage(struct arena *arena, struct error *err)
{
    Csi__V1__NodeUnstageVolumeRequest request = CSI__V1__NODE_UNSTAGE_VOLUME_REQUEST__INIT;

    request.volume_id = id;
    request.staging_target_path = text("/stage");
    return fake_call(f, &node_service, "NodeUnstageVolume", &request, arena, err);
}

static bool delete (struct arena *arena, struct error *err)
{
    Csi__V1__DeleteVolumeRequest request = CSI__V1__DELETE_VOLUME_REQUEST__INIT;

    request.volume_id = id;
    return fake_call(f, &controller_service, "DeleteVolume", &request, arena, err);
}

static bool collect_evidence(struct arena *arena UNUSED, struct error *err)
{
    static const struct binding binding = { .nonce = { 1 } };
    const struct workers blocks = { .run = fake_run, .cookie = f };
    auto_evidence struct evidence evidence = { .quote = NULL };
    uint8_t key[HPKE_PUBLIC_LEN];

    f->event_log_len = 200000;
    bool done = workers_collect_evidence(&blocks, NULL, &binding, 0, &evidence, key, err);
    assert_true(done || !evidence.quote);
    return done;
}

/* True when the nth allocation of the operation was reached. */
static bool fail_once(operation *run, unsigned n)
{
    auto_arena struct arena arena = { .limit = 4u << 20 }, again = { .limit = 4u << 20 };
    struct error err = ERROR_INIT;

    nth_allocation_fails(n);
    bool done = run(&arena, &err);
    bool has_failed = nth_allocation_stop();

    if (!done)
        assert_true(has_failed && err.code != ERROR_NONE && err.text[0] != '\0');
    err = (struct error)ERROR_INIT;
    assert_ok(run(&again, &err));
    return has_failed;
}

static void every_call_survives_each_failed_allocation(void **state UNUSED)
{
    static operation *const life[] = { create,     take_snapshot, list,   stage,           publish,
                                       ask_health, unstage,       delete, collect_evidence };
    bool reached = true;

    for (unsigned n = 1; reached; n++) {
        reached = false;
        f = fake_new();
        f->working = working;
        for (size_t i = 0; i < ARRAY_LEN(life); i++)
            reached = fail_once(life[i], n) || reached;
        fake_free(f);
        assert_true(reached || n > 3); /* otherwise the wrapping does not work */
    }
}

/* --- attestation --- */

static struct site site;
static struct domain domain;
static struct broker_route inner;
static struct evidence_source inner_source;

static bool ask(void *cookie UNUSED, const char *caller, const struct client_question *question,
                struct arena *arena, struct client_reply *out, struct error *err)
{
    working(true);
    bool done = inner.ask(inner.cookie, caller, question, arena, out, err);
    working(false);
    return done;
}

static bool collect(void *cookie UNUSED, const struct broker_route *route,
                    const struct binding *binding, uint64_t deadline_ms, struct evidence *out,
                    uint8_t sealing_public_key[static HPKE_PUBLIC_LEN], struct error *err)
{
    working(true);
    bool done = inner_source.collect(inner_source.cookie, route, binding, deadline_ms, out,
                                     sealing_public_key, err);
    working(false);
    return done;
}

/* Without the thread: runs what the thread does and what comes before it. */
static bool attest(const struct attestation *attestation, struct error *err)
{
    const struct broker_route route = { .address = "a:1", .ask = ask };
    const struct session_options options = {
        attestation, &route, 1, &session_pace_default, 1, NULL
    };
    struct sessions *sessions = NULL;
    struct broker_set *set = NULL;
    struct attested attested;

    bool done = sessions_new(&options, &sessions, err);
    const struct broker_set_options set_options = { &route, 1, sessions, attestation->pins };
    done = done && broker_set_new(&set_options, &set, err) &&
           attestation_run(attestation, &route, &attested, err);
    broker_set_free(set);
    sessions_free(sessions);
    return done;
}

static void attestation_survives_each_failed_allocation(void **state UNUSED)
{
    site_make(&site);
    domain_make(&domain);
    struct attestation attestation = domain_attestation(&domain);

    inner = site_route(&site, "a:1");
    inner_source = attestation.source;
    attestation.source.collect = collect;
    attestation.owner_token = "/proc/self/comm"; /* any file */
    for (unsigned n = 1;; n++) {
        struct error err = ERROR_INIT;

        nth_allocation_fails(n);
        bool done = attest(&attestation, &err);
        if (!nth_allocation_stop()) {
            assert_ok(done);
            assert_true(n > 3);
            break;
        }
        assert_false(done);
        assert_int_equal(err.code, ERROR_RESOURCE_EXHAUSTED);
    }
    domain_free(&domain);
    site_free(&site);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_call_survives_each_failed_allocation),
        cmocka_unit_test(attestation_survives_each_failed_allocation),
    };

    return RUN_TESTS(tests);
}
