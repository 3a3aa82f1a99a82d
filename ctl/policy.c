/* SPDX-License-Identifier: Apache-2.0 */
#include "policy/policy.h"

#include "attest/event_log.h"
#include "base/clock.h"
#include "base/digest.h"
#include "base/file.h"
#include "ctl/command.h"
#include "ctl/explanation.h"
#include "policy/owner_certificate.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* "tdvolctl policy check" and "policy test": try a policy before a broker uses it. */

static int failed(const char *command, const struct error *err)
{
    fprintf(stderr, "tdvolctl: policy %s: %s\n", command, err->text);
    return COMMAND_FAILED;
}

/* --- policy check --- */

static void print_rule(const struct policy_rule *rule)
{
    printf("  %-20s tenant %s; may", policy_rule_name(rule), policy_rule_tenant(rule));
    for (size_t i = 0; i < POLICY_PERMISSIONS; i++)
        if (policy_may(rule, policy_permissions[i].permission))
            printf(" %s", policy_permissions[i].name);
    (void)putchar('\n');
}

/* Whether an earlier rule has this tenant, too. */
static bool is_repeated(const struct policy *policy, size_t i)
{
    const char *tenant = policy_rule_tenant(policy_rule_at(policy, i));

    for (size_t k = 0; k < i; k++)
        if (strcmp(policy_rule_tenant(policy_rule_at(policy, k)), tenant) == 0)
            return true;
    return false;
}

static bool print_recovery(const struct policy *policy, const char *tenant, struct error *err)
{
    const struct recovery_certificate *certificate = policy_recovery(policy, tenant);
    char text[RECOVERY_TEXT_LEN], digest[2 * SHA256_LEN + 1];

    if (!certificate) {
        printf("  recovery of tenant %s: none%s\n", tenant,
               policy_declines_recovery(policy, tenant)
                   ? ", as the policy says"
                   : ". Recommended: without a recovery certificate all its volumes are lost "
                     "with the broker's store or master key (see \"Without the broker\" in "
                     "docs/recovery.md)");
        return true;
    }
    if (!recovery_certificate_text(certificate, text, err))
        return false;
    hex_encode(certificate->sha256, SHA256_LEN, digest);
    printf("  recovery of tenant %s: %s, SHA-256 %s\n", tenant, text, digest);
    return true;
}

/* A policy without leases says nothing about them. */
static void print_lease(const struct policy *policy, const char *tenant)
{
    uint64_t lease_ms = policy_lease_ms(policy, tenant);

    if (lease_ms > 0)
        printf("  leases of tenant %s: over after %llu s of silence, with fencing=suspend\n",
               tenant, (unsigned long long)lease_ms / 1000);
}

static bool print_tenant(const struct policy *policy, const char *tenant, struct error *err)
{
    print_lease(policy, tenant);
    return print_recovery(policy, tenant, err);
}

static bool print_policy(const struct policy *policy, struct error *err)
{
    for (size_t i = 0; i < policy_rule_count(policy); i++)
        print_rule(policy_rule_at(policy, i));
    for (size_t i = 0; i < policy_rule_count(policy); i++)
        if (!is_repeated(policy, i) &&
            !print_tenant(policy, policy_rule_tenant(policy_rule_at(policy, i)), err))
            return false;
    return true;
}

int command_policy_check(int argc, char *const *argv)
{
    struct option_list files = { .n = 0 };
    auto_policy struct policy *policy = NULL;
    struct error err = ERROR_INIT;
    int unused = 0;

    if (option_wants_help(argc, argv)) {
        puts("Reads a policy as a broker does, and says what is wrong with it, or recommended.\n"
             "\n"
             "Usage: tdvolctl policy check FILE\n"
             "\n"
             "Exit code: 0 a broker would accept it, 1 it would not.");
        return COMMAND_DONE;
    }
    if (!option_parse(NULL, 0, &unused, argc, argv, &files, &err))
        return failed("check", &err);
    if (files.n != 1) {
        (void)error_set(&err, ERROR_INVALID_ARGUMENT,
                        "give exactly one file with a policy (see --help)");
        return failed("check", &err);
    }
    if (!policy_load(files.items[0], &policy, &err))
        return failed("check", &err);
    printf("%s: good; revision \"%s\"; SHA-256 %s\n", files.items[0], policy_revision(policy),
           policy_hash(policy));
    return print_policy(policy, &err) ? COMMAND_DONE : failed("check", &err);
}

/* --- policy test --- */

struct test_options {
    const char *quote, *collateral, *event_log, *token, *owner_certificate;
    const char *certificate_cn, *certificate_sha256, *test_root;
    uint64_t at;
    bool json;
};

static const struct option test_table[] = {
    OPTION_TEXT_ROW("quote", struct test_options, quote, "FILE",
                    "The quote that the caller shows; default: none."),
    OPTION_TEXT_ROW("collateral", struct test_options, collateral, "DIR",
                    "Folder as for \"tdvolctl quote explain\"; default: the quote's folder."),
    OPTION_TEXT_ROW("event-log", struct test_options, event_log, "FILE",
                    "The event log sent with the quote; default: none."),
    OPTION_TEXT_ROW("token", struct test_options, token, "FILE",
                    "File with the token sent with the quote; default: none."),
    OPTION_TEXT_ROW(
        "owner-certificate", struct test_options, owner_certificate, "FILE",
        "Chain (PEM) sent with the quote, assumed to be for the caller's key; default: none."),
    OPTION_TEXT_ROW("certificate-cn", struct test_options, certificate_cn, "NAME",
                    "Common name of the caller's certificate from the broker's client CA; "
                    "default: no certificate."),
    OPTION_TEXT_ROW("certificate-sha256", struct test_options, certificate_sha256, "HEX",
                    "SHA-256 of that certificate; default: unknown."),
    OPTION_U64_ROW("at", struct test_options, at, 0, INT64_MAX, "EPOCH",
                   "Judge as of this time, seconds since 1970; default: now."),
    OPTION_BOOL_ROW("json", struct test_options, json,
                    "Print one JSON object with verdict, reason, rule, rights and steps."),
    TEST_ROOT_ROW(struct test_options)
};

/* The data that the principal's pointers refer to. */
struct described_caller {
    struct explained_quote quote;
    struct certificate_claims certificate;
    struct tee_claims tee;
    struct token_claims token;
    struct owner_claims owner;
    struct principal who;
};

struct test {
    const struct test_options *options;
    const struct policy *policy;
    int64_t now;
    struct steps steps;
    const char *last_rule; /* the rule whose steps were printed last */
    struct error unproven; /* the error of the owner's first proof that is not valid */
    struct described_caller caller;
};

static bool step(struct test *t, const char *name, bool ok, const struct error *err)
{
    if (ok || err->code == ERROR_DENIED)
        steps_add(&t->steps, NULL, name, ok, ok ? NULL : err->text);
    return ok;
}

/* A proof that is not valid is ignored, as a broker does it. */
static bool proof_step(struct test *t, const char *name, bool ok, const struct error *err)
{
    if (step(t, name, ok, err))
        return true;
    if (t->unproven.code == ERROR_NONE)
        t->unproven = *err;
    return err->code == ERROR_DENIED;
}

static bool show_quote(struct test *t, struct error *err)
{
    const struct test_options *o = t->options;
    struct explained_quote *quote = &t->caller.quote;
    auto_free char *log = NULL;
    size_t log_len = 0;

    if (!o->quote)
        return !o->event_log || error_set(err, ERROR_INVALID_ARGUMENT,
                                          "--event-log belongs to a quote: give --quote, too");
    if (o->event_log && !file_read(o->event_log, EVENT_LOG_LEN_MAX, &log, &log_len, err))
        return false;
    if (!explained_quote_load(o->quote, o->collateral, quote, err))
        return step(t, "collateral", false, err);
    const struct bytes_view shown_log = { (const uint8_t *)log, log_len };
    if (!explained_quote_verify(quote, shown_log, t->now, &t->steps, &t->caller.tee, err))
        return false;
    t->caller.who.tee = &t->caller.tee;
    return true;
}

static bool show_token(struct test *t, struct error *err)
{
    auto_free char *token = NULL;
    size_t len = 0;

    if (!t->options->token)
        return true;
    if (!file_read(t->options->token, TOKEN_LEN_MAX + 1, &token, &len, err))
        return false;
    if (len > 0 && token[len - 1] == '\n') /* from an editor or echo */
        len--;
    if (!policy_wants_token(t->policy))
        return step(t, "token: not looked at, because no rule wants one", true, err);
    bool ok = policy_verify_token(t->policy, token, len, &t->caller.token, err);
    t->caller.who.token = ok ? &t->caller.token : NULL;
    return proof_step(t, "token's form and signature", ok, err);
}

/* A broker knows the caller's key from the session. Here the key is taken from the certificate. */
static bool show_owner_certificate(struct test *t, struct error *err)
{
    auto_cert_chain struct cert_chain first = { .n = 0 };
    auto_free char *pem = NULL;
    size_t len = 0, rest = 0;
    uint8_t key[32];

    if (!t->options->owner_certificate)
        return true;
    if (!file_read(t->options->owner_certificate, OWNER_CHAIN_LEN_MAX, &pem, &len, err))
        return false;
    if (!policy_wants_owner_certificate(t->policy))
        return step(t, "owner's certificate: not looked at, because no rule wants one", true, err);
    bool ok =
        cert_parse_first(pem, len, &first, &rest, err) &&
        cert_key_sha256(first.certs[0], key, err) &&
        policy_verify_owner_certificate(t->policy, pem, len, key, t->now, &t->caller.owner, err);
    t->caller.who.owner = ok ? &t->caller.owner : NULL;
    return proof_step(t, "owner's certificate chain", ok, err);
}

static bool show_certificate(struct test *t, struct error *err)
{
    struct certificate_claims *c = &t->caller.certificate;
    const char *cn = t->options->certificate_cn, *digest = t->options->certificate_sha256;
    uint8_t ignored[SHA256_LEN];

    if (!cn && !digest)
        return true;
    if (cn && strlen(cn) > CLAIMS_COMMON_NAME_MAX)
        return error_set(err, ERROR_INVALID_ARGUMENT, "--certificate-cn is longer than %d bytes",
                         CLAIMS_COMMON_NAME_MAX);
    if (digest && !hex_decode(digest, ignored, SHA256_LEN))
        return error_set(err, ERROR_INVALID_ARGUMENT,
                         "--certificate-sha256 must have 64 hex digits");
    (void)snprintf(c->common_name, sizeof(c->common_name), "%s", cn ? cn : "");
    if (digest)
        hex_encode(ignored, SHA256_LEN, c->sha256);
    t->caller.who.certificate = c;
    return true;
}

static void on_check(void *cookie, const char *rule, const char *check, bool ok, const char *detail)
{
    struct test *t = cookie;

    if (!t->steps.json && t->last_rule != rule)
        printf("\nRule %s\n", rule);
    t->last_rule = rule;
    steps_add(&t->steps, rule, check, ok, detail);
}

/* --- what the caller may do --- */

static json_t *json_patterns(const char *const *items, size_t n)
{
    json_t *out = json_array();

    for (size_t i = 0; i < n; i++)
        (void)json_array_append_new(out, json_string(items[i]));
    return out;
}

static void print_json(const struct test *t, const struct policy_rule *rule,
                       const struct error *err)
{
    const char *const *items = NULL;
    json_t *may = json_array();
    json_t *out = json_pack(
        "{ss, ss, ss, ss, ss, sO, sO}", "verdict", rule ? "accepted" : "refused", "reason",
        err->reason, "detail", err->text, "policy_sha256", policy_hash(t->policy), "tcb_status",
        t->steps.tcb_status, "advisories", t->steps.advisories, "steps", t->steps.list);

    for (size_t i = 0; rule && i < POLICY_PERMISSIONS; i++)
        if (policy_may(rule, policy_permissions[i].permission))
            (void)json_array_append_new(may, json_string(policy_permissions[i].name));
    if (rule) {
        (void)json_object_set_new(out, "rule", json_string(policy_rule_name(rule)));
        (void)json_object_set_new(out, "image",
                                  json_string(policy_rule_image(rule, &t->caller.who, t->now)));
        (void)json_object_set_new(out, "tenant", json_string(policy_rule_tenant(rule)));
        (void)json_object_set(out, "may", may);
        size_t n = policy_rule_volumes(rule, &items);
        (void)json_object_set_new(out, "volumes", json_patterns(items, n));
        n = policy_rule_nodes(rule, &items);
        (void)json_object_set_new(out, "nodes", json_patterns(items, n));
    }
    (void)json_dumpf(out, stdout, JSON_INDENT(2));
    (void)putchar('\n');
    json_decref(may);
    json_decref(out);
}

static void print_list(const char *name, const char *const *items, size_t n)
{
    printf("  %-8s", name);
    for (size_t i = 0; i < n; i++)
        printf(" %s", items[i]);
    (void)putchar('\n');
}

/* The node names in the caller's own proofs, which placeholders in the rule's nodes stand for. */
static void print_own_names(const struct test *t, const struct policy_rule *rule)
{
    const struct principal *who = &t->caller.who;
    const char *const names[] = { who->certificate ? who->certificate->common_name : "",
                                  who->token ? who->token->node : "",
                                  who->owner ? who->owner->common_name : "" };

    for (size_t i = 0; i < ARRAY_LEN(names); i++)
        if (names[i][0] != '\0' && policy_has_node(rule, who, names[i]))
            printf("           among them its own: %s\n", names[i]);
}

static void print_accepted(const struct test *t, const struct policy_rule *rule)
{
    const char *image = policy_rule_image(rule, &t->caller.who, t->now);
    const struct policy_limits *limits = policy_rule_limits(rule);
    const char *const *items = NULL;

    printf("\nAccepted by rule %s%s%s.\n  tenant   %s\n  may     ", policy_rule_name(rule),
           image[0] ? ", image " : "", image, policy_rule_tenant(rule));
    for (size_t i = 0; i < POLICY_PERMISSIONS; i++)
        if (policy_may(rule, policy_permissions[i].permission))
            printf(" %s", policy_permissions[i].name);
    (void)putchar('\n');
    size_t n = policy_rule_volumes(rule, &items);
    print_list("volumes", items, n);
    n = policy_rule_nodes(rule, &items);
    if (n > 0)
        print_list("nodes", items, n);
    print_own_names(t, rule);
    if (limits->records > 0)
        printf("  records  at most %llu of the tenant\n", (unsigned long long)limits->records);
    if (limits->opens_per_minute > 0)
        printf("  opens    at most %u per minute of the tenant\n", limits->opens_per_minute);
    if (limits->creates_per_minute > 0)
        printf("  creates  at most %u per minute of the tenant\n", limits->creates_per_minute);
}

static int run_test(struct test *t)
{
    const struct policy_trace trace = { .step = on_check, .cookie = t };
    const struct policy_rule *rule = NULL;
    struct error err = ERROR_INIT;
    bool is_shown = show_certificate(t, &err) && show_quote(t, &err) && show_token(t, &err) &&
                    show_owner_certificate(t, &err);
    bool is_accepted =
        is_shown && policy_judge(t->policy, &t->caller.who, t->now, &trace, &rule, &err);

    if (!is_accepted && err.code != ERROR_DENIED)
        return failed("test", &err);
    (void)policy_blame_proof(&err, &t->unproven);
    if (is_accepted)
        err = (struct error)ERROR_INIT;
    if (t->steps.json)
        print_json(t, is_accepted ? rule : NULL, &err);
    else if (is_accepted)
        print_accepted(t, rule);
    else
        printf("\nRefused, %s: %s.\n", err.reason, err.text);
    return is_accepted ? COMMAND_DONE : EXIT_REFUSED;
}

static void print_help(void)
{
    puts("Judges a caller by a policy, offline and step by step, and says what it may do. Only a\n"
         "broker can judge whether the quote is for the caller's session (REPORTDATA).\n"
         "\n"
         "Usage: tdvolctl policy test FILE [OPTIONS]\n"
         "\n"
         "Exit code: 0 accepted, 3 refused, 1 it could not be decided.\n");
    option_print_help(test_table, ARRAY_LEN(test_table));
}

int command_policy_test(int argc, char *const *argv)
{
    struct test_options options = { .at = clock_wall_ms() / 1000 };
    struct option_list files = { .n = 0 };
    auto_policy struct policy *policy = NULL;
    struct error err = ERROR_INIT;

    if (option_wants_help(argc, argv)) {
        print_help();
        return COMMAND_DONE;
    }
    if (!option_parse(test_table, ARRAY_LEN(test_table), &options, argc, argv, &files, &err))
        return failed("test", &err);
    if (files.n != 1)
        (void)error_set(&err, ERROR_INVALID_ARGUMENT,
                        "give exactly one file with a policy (see --help)");
    if (files.n != 1 || !policy_load(files.items[0], &policy, &err) ||
        !explanation_use_test_root(options.test_root, &err))
        return failed("test", &err);

    struct test *t = calloc(1, sizeof(*t));
    if (!t)
        return COMMAND_FAILED;
    t->options = &options;
    t->policy = policy;
    t->now = (int64_t)options.at;
    steps_start(&t->steps, options.json);
    int code = run_test(t);
    steps_end(&t->steps);
    explained_quote_free(&t->caller.quote);
    free(t);
    return code;
}
