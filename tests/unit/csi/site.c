/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/csi/site.h"

#include "base/clock.h"
#include "plugin/plugin.h"
#include "tests/unit/test.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static void make_identity(const char *name, struct identity *out)
{
    struct error err = ERROR_INIT;

    assert_ok(identity_new(name, out, &err));
}

void site_make(struct site *site)
{
    *site = (struct site){ .life_ms = 3600000, .nonce_ms = 60000 };
    make_identity("broker", &site->key);
    assert_int_equal(pthread_mutex_init(&site->lock, NULL), 0);
}

void site_free(struct site *site)
{
    identity_wipe(&site->key);
    (void)pthread_mutex_destroy(&site->lock);
}

void site_fail(struct site *site, struct site_fault fault)
{
    pthread_mutex_lock(&site->lock);
    site->fault = fault;
    pthread_mutex_unlock(&site->lock);
}

void site_forget(struct site *site)
{
    pthread_mutex_lock(&site->lock);
    site->has_session = false;
    pthread_mutex_unlock(&site->lock);
}

unsigned site_count(struct site *site, const unsigned *what)
{
    pthread_mutex_lock(&site->lock);
    unsigned n = *what;
    pthread_mutex_unlock(&site->lock);
    return n;
}

static bool fails(struct site_fault *fault, const char *method, struct error *err)
{
    bool is_meant = fault->method && (fault->method[0] == '\0' || !strcmp(fault->method, method));

    if (!is_meant || fault->times == 0)
        return false;
    fault->times--;
    error_set(err, fault->code, "%s", fault->text ? fault->text : "no");
    if (fault->reason)
        error_reason(err, fault->reason);
    return true;
}

/* --- what it answers; under the lock --- */

static ProtobufCMessage *new_answer(const struct client_question *question, struct arena *arena)
{
    const ProtobufCMethodDescriptor *d =
        protobuf_c_service_descriptor_get_method_by_name(question->service, question->method);
    ProtobufCMessage *answer = NULL;

    assert_non_null(d);
    assert_ptr_equal(d->input, question->request->descriptor);
    answer = arena_alloc(arena, d->output->sizeof_message);
    assert_non_null(answer);
    protobuf_c_message_init(d->output, answer);
    return answer;
}

static void challenge(struct site *site, struct arena *arena,
                      Tdvol__Keybroker__V1__GetChallengeResponse *answer)
{
    uint8_t nonce[BINDING_LEN] = { ++site->nonce, 7 };

    site->n_challenges++;
    answer->nonce.data = arena_memdup(arena, nonce, sizeof(nonce));
    answer->nonce.len = sizeof(nonce);
    answer->remaining_ms = site->nonce_ms;
    answer->broker_key_sha256.data = arena_memdup(arena, site->key.key_sha256, KEY_SHA256_LEN);
    answer->broker_key_sha256.len = KEY_SHA256_LEN;
}

/* The fake domain's quote is the plain binding. */
static void check_quote(const struct site *site, const Tdvol__Keybroker__V1__AttestRequest *request)
{
    const uint8_t nonce[BINDING_LEN] = { site->nonce, 7 };
    struct binding binding;

    assert_string_equal(request->tee, "tdx");
    assert_int_equal(request->quote.len, sizeof(binding));
    memcpy(&binding, request->quote.data, sizeof(binding));
    assert_memory_equal(binding.nonce, nonce, sizeof(nonce));
    assert_memory_equal(binding.broker_key_sha256, site->key.key_sha256, BINDING_LEN);
    assert_memory_equal(request->nonce.data, nonce, sizeof(nonce));
    assert_int_equal(request->sealing_public_key.len, HPKE_PUBLIC_LEN);
}

static void attest(struct site *site, struct arena *arena,
                   const Tdvol__Keybroker__V1__AttestRequest *request,
                   Tdvol__Keybroker__V1__AttestResponse *answer)
{
    check_quote(site, request);
    site->token_len = request->owner_token.len;
    assert_true(site->token_len < sizeof(site->token));
    if (site->token_len > 0)
        memcpy(site->token, request->owner_token.data, site->token_len);
    site->token[site->token_len] = '\0';
    site->certificate_len = request->owner_certificate.len;
    site->event_log_len = request->event_log.len;
    site->sealing_key = request->sealing_public_key.data[0];
    site->has_session = true;
    answer->remaining_ms = site->life_ms;
    answer->tenant = arena_strdup(arena, "tenant-a");
    answer->rule = arena_strdup(arena, "rule-1");
}

static void take_time(struct site *site)
{
    site->n_at_once++;
    if (site->n_at_once > site->most_at_once)
        site->most_at_once = site->n_at_once;
    pthread_mutex_unlock(&site->lock);
    (void)usleep(site->attest_ms * 1000);
    pthread_mutex_lock(&site->lock);
    site->n_at_once--;
}

static bool answer_to(struct site *site, const struct client_question *question,
                      struct arena *arena, ProtobufCMessage *answer, struct error *err)
{
    const char *method = question->method;
    bool is_attest = strcmp(method, "Attest") == 0;
    bool is_challenge = strcmp(method, "GetChallenge") == 0;

    if (is_attest) {
        site->n_attests++;
        take_time(site);
    } else if (!is_challenge) {
        site->n_calls++;
    }
    if (fails(&site->fault, method, err))
        return false;
    if (is_challenge)
        challenge(site, arena, (void *)answer);
    else if (is_attest)
        attest(site, arena, (const void *)question->request, (void *)answer);
    else if (!site->has_session)
        return error_set(err, ERROR_UNAUTHENTICATED, "attest first");
    return true;
}

static const char *certificate_for(const struct site *site, const char *method)
{
    const char *shown = site->shown_pem ? site->shown_pem : site->key.certificate_pem;
    bool is_call = strcmp(method, "Attest") != 0 && strcmp(method, "GetChallenge") != 0;

    if (site->shows_nothing)
        return NULL;
    if (site->attest_pem && strcmp(method, "Attest") == 0)
        return site->attest_pem;
    return site->calls_pem && is_call ? site->calls_pem : shown;
}

static bool ask(void *cookie, const char *operation UNUSED, const struct client_question *question,
                struct arena *arena, struct client_reply *out, struct error *err)
{
    struct site *site = cookie;
    ProtobufCMessage *answer = new_answer(question, arena);

    assert_true(question->timeout_ms > 0);
    pthread_mutex_lock(&site->lock);
    bool done = answer_to(site, question, arena, answer, err);
    if (done && site->distort)
        site->distort(site, arena, question->method, answer);
    if (done)
        *out = (struct client_reply){ answer, certificate_for(site, question->method) };
    pthread_mutex_unlock(&site->lock);
    return done;
}

struct broker_route site_route(struct site *site, const char *address)
{
    return (struct broker_route){ .address = address, .ask = ask, .cookie = site };
}

/* --- the node --- */

void domain_make(struct domain *domain)
{
    *domain = (struct domain){ .quote_ms = 0 };
    make_identity("node", &domain->identity);
    assert_int_equal(pthread_mutex_init(&domain->lock, NULL), 0);
}

void domain_free(struct domain *domain)
{
    identity_wipe(&domain->identity);
    (void)pthread_mutex_destroy(&domain->lock);
}

static bool collect(void *cookie, const struct broker_route *route UNUSED,
                    const struct binding *binding, uint64_t deadline_ms, struct evidence *out,
                    uint8_t sealing_public_key[static HPKE_PUBLIC_LEN], struct error *err)
{
    struct domain *domain = cookie;

    assert_memory_equal(binding->client_key_sha256, domain->identity.key_sha256, BINDING_LEN);
    assert_true(deadline_ms > clock_now_ms());
    pthread_mutex_lock(&domain->lock);
    domain->n_quotes++;
    domain->n_at_once++;
    if (domain->n_at_once > domain->most_at_once)
        domain->most_at_once = domain->n_at_once;
    bool is_faulty = fails(&domain->fault, "", err);
    pthread_mutex_unlock(&domain->lock);
    (void)usleep(domain->quote_ms * 1000);
    pthread_mutex_lock(&domain->lock);
    domain->n_at_once--;
    pthread_mutex_unlock(&domain->lock);
    if (is_faulty)
        return false;
    const size_t len = sizeof(*binding);
    struct evidence evidence = { .quote = malloc(len), .quote_len = len };
    if (!evidence.quote)
        return error_set(err, ERROR_RESOURCE_EXHAUSTED, "no memory");
    memcpy(evidence.quote, binding, sizeof(*binding));
    for (size_t i = 0; i < HPKE_PUBLIC_LEN; i++)
        sealing_public_key[i] = 5;
    *out = evidence;
    return true;
}

struct attestation domain_attestation(struct domain *domain)
{
    return (struct attestation){ .identity = &domain->identity,
                                 .source = { .collect = collect, .cookie = domain } };
}
