/* SPDX-License-Identifier: Apache-2.0 */
#include "attest/broker_signature.h"
#include "attest/event_log.h"
#include "attest/json.h"
#include "audit/audit_releases.h"
#include "base/clock.h"
#include "base/file.h"
#include "ctl/audit.h"
#include "ctl/command.h"
#include "ctl/explanation.h"
#include "ctl/verify.h"
#include "policy/policy.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* "tdvolctl verify check": judges a bundle, and says what proves each of its statements. */

#define M(name) Tdvol__Keybroker__V1__##name /* generated message types */

#define STATEMENT_FILE_MAX ((size_t)1024 * 1024)
#define PEM_BYTES_MAX      ((size_t)256 * 1024)
#define GROUPS_MAX         256

enum { TEXT_MAX = 1024 };

struct check_options {
    const char *nonce, *broker_ca, *broker_policy, *collateral, *test_root;
    struct option_list names, pins, keys;
    uint64_t at;
    bool json, allow_restarts, complete;
};

static const struct option check_table[] = {
    OPTION_TEXT_ROW("nonce", struct check_options, nonce, "HEX",
                    "The nonce that you gave to whoever made the bundle."),
    OPTION_TEXT_ROW("broker-ca", struct check_options, broker_ca, "FILE",
                    "The CA certificate of the broker, PEM; with --broker-name."),
    OPTION_LIST_ROW("broker-name", struct check_options, names, "NAME",
                    "Host name or address in the broker's certificate; repeatable."),
    OPTION_LIST_ROW("broker-key-sha256", struct check_options, pins, "HEX",
                    "SHA-256 of the broker's TLS public key; repeatable."),
    OPTION_TEXT_ROW("broker-policy", struct check_options, broker_policy, "FILE",
                    "A policy whose rules say which TDs may be a broker: the broker's quote must "
                    "fit one."),
    OPTION_TEXT_ROW("collateral", struct check_options, collateral, "FOLDER",
                    "Intel's collateral for the broker's quote; default: that of the bundle."),
    OPTION_LIST_ROW("key", struct check_options, keys, "FILE",
                    "The master or audit key that the logs began with, to check each MAC."),
    OPTION_BOOL_ROW("allow-restarts", struct check_options, allow_restarts,
                    "As for \"tdvolctl audit verify\"."),
    OPTION_BOOL_ROW("complete", struct check_options, complete,
                    "As for \"tdvolctl audit verify\"."),
    OPTION_U64_ROW("at", struct check_options, at, 1, INT64_MAX, "EPOCH",
                   "Certificates and collateral must be valid at this time, seconds since 1970; "
                   "default: now."),
    OPTION_BOOL_ROW("json", struct check_options, json, "Print one JSON object."),
    TEST_ROOT_ROW(struct check_options)
};

/* Releases to one measurement. */
struct release_group {
    char mrtd[AUDIT_MRTD_TEXT], image[64];
    uint64_t quotes, releases, unattested;
};

struct check {
    const struct check_options *options;
    const char *folder;
    struct steps steps;
    struct arena arena;
    struct secret roots[OPTION_LIST_MAX];
    struct audit_judgement judgement;
    uint8_t nonce[STATEMENT_NONCE_LEN], key[KEY_SHA256_LEN];
    ProtobufCBinaryData statement;
    struct broker_signature signature;
    const M(Statement) * said;
    bool is_refused, is_known; /* is_known: something outside of the bundle says whose the key is */
    struct release_group groups[GROUPS_MAX];
    size_t n_groups;
    bool has_more_groups;
    struct tee_claims claims; /* large */
};

static void say(struct check *c, bool ok, const char *name, const char *fmt, ...) PRINTF(4, 5);
static void say(struct check *c, bool ok, const char *name, const char *fmt, ...)
{
    char text[TEXT_MAX];
    va_list arguments;

    va_start(arguments, fmt);
    (void)vsnprintf(text, sizeof(text), fmt, arguments);
    va_end(arguments);
    for (char *at = text; *at; at++)
        if (*at < ' ' || *at > '~')
            *at = '?';
    c->is_refused |= !ok;
    steps_add(&c->steps, NULL, name, ok, text);
}

/* A refusal is an answer; any other error is not. */
static bool say_result(struct check *c, bool ok, const char *name, const char *proof,
                       const struct error *err)
{
    if (!ok && err->code != ERROR_DENIED)
        return false;
    say(c, ok, name, "%s", ok ? proof : err->text);
    return true;
}

/* --- the statement --- */

static bool decode64(struct check *c, const json_t *json, const char *name,
                     ProtobufCBinaryData *out, struct error *err)
{
    const char *text = json_string_value(json_object_get(json, name));
    size_t len = text ? strlen(text) : 0;

    out->data = arena_alloc(&c->arena, 3 * (len / 4) + 1);
    if (!out->data)
        return arena_exhausted(err);
    return (text && base64_decode(text, len, out->data, &out->len)) ||
           error_set(err, ERROR_INVALID_ARGUMENT, "%s: \"%s\" is no base64", BUNDLE_STATEMENT,
                     name);
}

static bool take_signature(struct check *c, const ProtobufCBinaryData *signature,
                           const ProtobufCBinaryData *certificates, struct error *err)
{
    if (signature->len > BROKER_SIGNATURE_MAX || certificates->len > BROKER_CERTIFICATES_MAX)
        return error_set(err, ERROR_INVALID_ARGUMENT, "%s: the signature is too long",
                         BUNDLE_STATEMENT);
    c->signature.len = (uint32_t)signature->len;
    c->signature.certificates_len = (uint32_t)certificates->len;
    memcpy(c->signature.bytes, signature->data, signature->len);
    memcpy(c->signature.certificates, certificates->data, certificates->len);
    return true;
}

static bool read_statement(struct check *c, struct error *err)
{
    ProtobufCBinaryData signature = { .len = 0 }, certificates = { .len = 0 };
    char path[BUNDLE_PATH_BYTES];
    auto_json json_t *json = NULL;
    auto_free char *text = NULL;
    size_t len = 0;

    if (!bundle_path(c->folder, BUNDLE_STATEMENT, path, err) ||
        !file_read(path, STATEMENT_FILE_MAX, &text, &len, err) ||
        !json_read_object(text, len, &json, err))
        return error_wrap(err, "%s", c->folder);
    const char *nonce = json_string_value(json_object_get(json, "nonce"));

    if (!nonce || !hex_decode(nonce, c->nonce, sizeof(c->nonce)))
        return error_set(err, ERROR_INVALID_ARGUMENT, "%s: \"nonce\" is no hex", BUNDLE_STATEMENT);
    return decode64(c, json, "statement", &c->statement, err) &&
           decode64(c, json, "signature", &signature, err) &&
           decode64(c, json, "certificates", &certificates, err) &&
           take_signature(c, &signature, &certificates, err);
}

static bool judge_signature(struct check *c, struct error *err)
{
    uint8_t bytes[STATEMENT_SIGNED_LEN];
    char key[2 * KEY_SHA256_LEN + 1];

    if (!statement_signed(c->nonce, c->statement.data, c->statement.len, bytes, err))
        return false;
    bool ok = broker_signature_signer(&c->signature, bytes, sizeof(bytes), c->key, err);

    hex_encode(c->key, sizeof(c->key), key);
    if (!say_result(c, ok, "statement", "signed by the key of the certificate in the bundle",
                    err) ||
        !ok)
        return false;
    say(c, true, "broker's key", "SHA-256 %s", key);
    return audit_statement_decode(&c->statement, &c->arena, &c->said, err);
}

static bool judge_nonce(struct check *c, struct error *err)
{
    uint8_t wanted[STATEMENT_NONCE_LEN];
    char time[CLOCK_TEXT_LEN];

    clock_text(c->said->time_ms, time);
    if (!c->options->nonce) {
        say(c, true, "time", "%s, by the broker's clock; no --nonce was compared", time);
        return true;
    }
    if (!hex_decode(c->options->nonce, wanted, sizeof(wanted)))
        return error_set(err, ERROR_INVALID_ARGUMENT, "--nonce must have %d hex digits",
                         2 * STATEMENT_NONCE_LEN);
    bool ok = bytes_are_equal(wanted, c->nonce, sizeof(wanted));

    say(c, ok, "time",
        ok ? "%s, by the broker's clock; after your nonce was known, because the broker signed it"
           : "%s, by the broker's clock; but it was made for another nonce than yours",
        time);
    return true;
}

/* --- whose key --- */

static bool judge_ca(struct check *c, struct error *err)
{
    const struct check_options *o = c->options;
    auto_broker_trust struct broker_trust trust = { .names = o->names, .at = (int64_t)o->at };
    uint8_t bytes[STATEMENT_SIGNED_LEN];
    auto_free char *pem = NULL;
    size_t len = 0;

    if (!o->broker_ca)
        return true;
    if (!file_read(o->broker_ca, PEM_BYTES_MAX, &pem, &len, err) ||
        !broker_trust_read_ca(&trust, pem, err) ||
        !statement_signed(c->nonce, c->statement.data, c->statement.len, bytes, err))
        return false;
    bool ok = broker_signature_check(&trust, &c->signature, bytes, sizeof(bytes), NULL, err);

    c->is_known |= ok;
    return say_result(c, ok, "broker's name", "its certificate is of your CA and has the name",
                      err);
}

static bool judge_pins(struct check *c, struct error *err)
{
    struct broker_pins pins;

    if (c->options->pins.n == 0)
        return true;
    if (!broker_pins_parse(&c->options->pins, &pins, err))
        return false;
    bool ok = broker_pins_has(&pins, c->key);

    c->is_known |= ok;
    say(c, ok, "broker's key", ok ? "it is one that you gave" : "it is none that you gave");
    return true;
}

/* --- the quote --- */

static void on_rule(void *cookie, const char *rule, const char *step, bool ok, const char *detail)
{
    (void)cookie, (void)rule, (void)step, (void)ok, (void)detail;
}

static bool judge_rules(struct check *c, struct error *err)
{
    const struct policy_trace trace = { .step = on_rule };
    const struct principal who = { .tee = &c->claims };
    auto_policy struct policy *policy = NULL;
    const struct policy_rule *rule = NULL;
    char text[TEXT_MAX] = "";

    if (!c->options->broker_policy) {
        hex_encode(c->claims.td.mrtd, MEASUREMENT_LEN, text);
        bool is_acceptable = td_claims_check_acceptable(&c->claims.td, err);

        say(c, true, "broker's image", "MRTD %s; no --broker-policy says whether it is right",
            text);
        return say_result(c, is_acceptable, "broker's TD",
                          "no debug, no service TD, a platform that is up to date", err);
    }
    if (!policy_load(c->options->broker_policy, &policy, err))
        return false;
    bool ok = policy_judge(policy, &who, (int64_t)c->options->at, &trace, &rule, err);

    if (ok)
        (void)snprintf(text, sizeof(text), "it fits rule %s of --broker-policy%s%s",
                       policy_rule_name(rule),
                       policy_rule_image(rule, &who, (int64_t)c->options->at)[0] ? ", image " : "",
                       policy_rule_image(rule, &who, (int64_t)c->options->at));
    return say_result(c, ok, "broker's image", text, err);
}

static bool judge_binding(struct check *c, struct error *err)
{
    uint8_t wanted[REPORT_DATA_LEN];

    if (!statement_report_data(c->nonce, c->key, wanted, err))
        return false;
    bool ok = bytes_are_equal(wanted, c->steps.quote.td.report_data, sizeof(wanted));

    say(c, ok, "quote",
        ok ? "it is over this nonce and the broker's key: a TD that could use the key asked for it"
           : "it is not over this nonce and the broker's key");
    return ok;
}

/* Without one, rules that need it do not fit. */
static bool read_event_log(const struct check *c, char **out, size_t *len, struct error *err)
{
    struct error why = ERROR_INIT;
    char path[BUNDLE_PATH_BYTES];

    if (!bundle_path(c->folder, BUNDLE_EVENT_LOG, path, err))
        return false;
    if (file_read(path, EVENT_LOG_LEN_MAX, out, len, &why) || why.code == ERROR_NOT_FOUND)
        return true;
    *err = why;
    return false;
}

static bool verify_quote(struct check *c, const char *path, const char *collateral,
                         struct error *err)
{
    auto_explained_quote struct explained_quote quote = { .bytes = NULL };
    auto_free char *log = NULL;
    size_t len = 0;

    if (!read_event_log(c, &log, &len, err))
        return false;
    const struct bytes_view event_log = { (const uint8_t *)log, len };

    bool ok = explained_quote_load(path, collateral, &quote, err) &&
              explained_quote_verify(&quote, event_log, (int64_t)c->options->at, &c->steps,
                                     &c->claims, err);

    if (!say_result(c, ok, "quote", "genuine, by Intel's root and the collateral", err))
        return false;
    return !ok || !judge_binding(c, err) || judge_rules(c, err);
}

static bool judge_quote(struct check *c, struct error *err)
{
    char path[BUNDLE_PATH_BYTES], collateral[BUNDLE_PATH_BYTES];
    auto_free char *bytes = NULL;
    size_t len = 0;

    if (!bundle_path(c->folder, BUNDLE_QUOTE, path, err) ||
        !bundle_path(c->folder, BUNDLE_COLLATERAL, collateral, err))
        return false;
    if (file_read(path, STATEMENT_FILE_MAX, &bytes, &len, err))
        return verify_quote(c, path, c->options->collateral ? c->options->collateral : collateral,
                            err);
    if (err->code != ERROR_NOT_FOUND)
        return false;
    say(c, !c->options->broker_policy, "quote",
        "there is none: nothing proves what runs as this broker");
    return true;
}

/* --- policy, logs, releases --- */

static bool judge_policy(struct check *c, struct error *err)
{
    auto_policy struct policy *policy = NULL;
    char path[BUNDLE_PATH_BYTES];

    if (!bundle_path(c->folder, BUNDLE_POLICY, path, err))
        return false;
    if (!policy_load(path, &policy, err)) {
        if (err->code != ERROR_NOT_FOUND)
            return error_wrap(err, "%s", path);
        say(c, true, "policy", "SHA-256 %s, as the broker signed; its text is not in the bundle",
            c->said->policy_hash);
        return true;
    }
    bool ok = strcmp(policy_hash(policy), c->said->policy_hash) == 0;

    say(c, ok, "policy",
        ok ? "its SHA-256 is %s, as the broker signed"
           : "the policy in the bundle is another one: the broker signed %s",
        c->said->policy_hash);
    return true;
}

static bool judge_logs(struct check *c, struct error *err)
{
    struct audit_judgement *j = &c->judgement;
    char path[BUNDLE_PATH_BYTES];

    *j = (struct audit_judgement){ .steps = &c->steps,
                                   .roots = c->roots,
                                   .logs = json_array(),
                                   .allow_restarts = c->options->allow_restarts,
                                   .complete = c->options->complete };
    if (!audit_read_keys(&c->options->keys, c->roots, &j->n_roots, err) ||
        !audit_statement_heads(c->said, &j->heads, err) ||
        !bundle_path(c->folder, BUNDLE_LOGS, path, err) || !audit_files_add(&j->files, path, err) ||
        !audit_judge(j, err))
        return false;
    c->is_refused |= j->is_refused;
    return true;
}

static void add_quote(void *cookie, const struct audit_quote *q)
{
    struct check *c = cookie;
    struct release_group *g = NULL;

    if (q->releases == 0)
        return;
    for (size_t i = 0; i < c->n_groups && !g; i++)
        if (strcmp(c->groups[i].mrtd, q->mrtd) == 0 && strcmp(c->groups[i].image, q->image) == 0)
            g = &c->groups[i];
    if (!g && c->n_groups == GROUPS_MAX) {
        c->has_more_groups = true;
        return;
    }
    if (!g) {
        g = &c->groups[c->n_groups++];
        memcpy(g->mrtd, q->mrtd, sizeof(g->mrtd));
        memcpy(g->image, q->image, sizeof(g->image));
    }
    g->quotes += q->sha256[0] != '\0';
    g->releases += q->releases;
    g->unattested += !q->is_attested || q->is_mixed ? q->releases : 0;
}

static void tell_group(struct check *c, const struct release_group *g)
{
    if (g->mrtd[0] == '\0' && g->quotes == 0)
        say(c, true, "releases", "%llu to callers with a certificate and no quote",
            (unsigned long long)g->releases);
    else
        say(c, true, "releases", "%llu to %llu quotes of image \"%s\", MRTD %s",
            (unsigned long long)g->releases, (unsigned long long)g->quotes, g->image, g->mrtd);
    if (g->quotes > 0 && g->unattested > 0)
        say(c, false, "releases",
            "of %llu of these the logs do not have the attestation, or it names another "
            "measurement",
            (unsigned long long)g->unattested);
}

/* They are as good as the logs. */
static bool judge_releases(struct check *c, struct error *err)
{
    auto_audit_releases struct audit_releases releases = { .n = 0 };

    if (!audit_releases_read(&c->judgement.files, &releases, err))
        return false;
    audit_releases_each(&releases, add_quote, c);
    say(c, true, "releases", "%llu keys were given out, as the logs say",
        (unsigned long long)releases.releases);
    for (size_t i = 0; i < c->n_groups; i++)
        tell_group(c, &c->groups[i]);
    if (c->has_more_groups)
        say(c, false, "releases", "there are more than %d images", GROUPS_MAX);
    return true;
}

static bool judge(struct check *c, struct error *err)
{
    if (!read_statement(c, err))
        return false;
    if (!judge_signature(c, err))
        return c->is_refused; /* nothing else of it counts */
    if (!judge_nonce(c, err) || !judge_ca(c, err) || !judge_pins(c, err) || !judge_quote(c, err))
        return false;
    if (!c->is_known)
        say(c, false, "broker",
            "nothing that you gave says whose it is: give --broker-ca or --broker-key-sha256");
    return judge_policy(c, err) && judge_logs(c, err) && judge_releases(c, err);
}

/* --- the command --- */

static void print_verdict(const struct check *c)
{
    const char *verdict = c->is_refused ? "refused" : "accepted";

    if (c->steps.json) {
        json_t *out = json_pack("{ss, sO?, sO}", "verdict", verdict, "logs", c->judgement.logs,
                                "steps", c->steps.list);

        (void)json_dumpf(out, stdout, JSON_INDENT(2));
        (void)putchar('\n');
        json_decref(out);
        return;
    }
    printf("\n%s.\n", c->is_refused ? "Refused" : "Accepted");
}

static void print_help(void)
{
    puts(
        "Checks a bundle that \"tdvolctl verify make\" made, without any network, and says of each\n"
        "statement what proves it.\n"
        "\n"
        "Usage: tdvolctl verify check BUNDLE [OPTIONS]\n"
        "\n"
        "Something that is not from the bundle must vouch for the broker's key: --broker-ca,\n"
        "--broker-key-sha256, or the broker's quote with --broker-policy.\n"
        "\n"
        "Exit code: 0 accepted, 3 refused, 1 it could not be decided.\n");
    option_print_help(check_table, ARRAY_LEN(check_table));
}

static void clear(struct check *c)
{
    for (size_t i = 0; i < c->judgement.n_roots; i++)
        secret_wipe(&c->roots[i]);
    audit_judgement_done(&c->judgement);
    steps_end(&c->steps);
    arena_wipe(&c->arena);
    free(c);
}

static bool check_options(const struct check_options *o, const struct option_list *rest,
                          struct error *err)
{
    if (rest->n != 1)
        return error_set(err, ERROR_INVALID_ARGUMENT, "give exactly one bundle");
    return (o->broker_ca != NULL) == (o->names.n > 0) ||
           error_set(err, ERROR_INVALID_ARGUMENT,
                     "--broker-ca and --broker-name need each other: clients have certificates of "
                     "that CA, too");
}

static int run(const struct check_options *options, const char *folder)
{
    struct check *c = calloc(1, sizeof(*c));
    struct error err = ERROR_INIT;

    if (!c || !explanation_use_test_root(options->test_root, &err)) {
        fprintf(stderr, "tdvolctl verify check: %s\n", c ? err.text : "out of memory");
        free(c);
        return COMMAND_FAILED;
    }
    c->options = options;
    c->folder = folder;
    arena_init(&c->arena, (size_t)8 * 1024 * 1024);
    steps_start(&c->steps, options->json);
    bool ok = judge(c, &err);

    if (ok)
        print_verdict(c);
    else
        fprintf(stderr, "tdvolctl verify check: %s: %s\n", error_code_name(err.code), err.text);
    int code = !ok ? COMMAND_FAILED : c->is_refused ? EXIT_REFUSED : COMMAND_DONE;

    clear(c);
    return code;
}

int command_verify_check(int argc, char *const *argv)
{
    struct check_options options = { .at = clock_wall_ms() / 1000 };
    struct option_list rest = { .n = 0 };
    struct error err = ERROR_INIT;

    if (option_wants_help(argc, argv)) {
        print_help();
        return COMMAND_DONE;
    }
    if (!option_parse(check_table, ARRAY_LEN(check_table), &options, argc, argv, &rest, &err) ||
        !check_options(&options, &rest, &err)) {
        fprintf(stderr, "tdvolctl verify check: %s (see --help)\n", err.text);
        return COMMAND_USAGE;
    }
    return run(&options, rest.items[0]);
}
