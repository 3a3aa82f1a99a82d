/* SPDX-License-Identifier: Apache-2.0 */
#include "attest/collateral_set.h"
#include "attest/trust_root.h"
#include "base/clock.h"
#include "base/digest.h"
#include "base/file.h"
#include "base/option.h"
#include "ctl/command.h"
#include "ctl/explanation.h"

#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

/* "tdvolctl collateral show": what a bundle or folder contains, and how long it is valid. */

#define SECONDS_PER_DAY 86400

struct show_options {
    const char *test_root;
    uint64_t at;
    bool json;
};

static const struct option show_table[] = {
    OPTION_U64_ROW("at", struct show_options, at, 0, INT64_MAX, "EPOCH",
                   "Judge as of this time, seconds since 1970; default: now."),
    OPTION_BOOL_ROW("json", struct show_options, json,
                    "Print an array of JSON objects, one for each set."),
    TEST_ROOT_ROW(struct show_options)
};

struct showing {
    int64_t now;
    json_t *json; /* NULL: text */
    size_t n;
    bool is_any_bad;
};

/* The judgement of one set. */
struct freshness {
    char fmspc[2 * FMSPC_LEN + 1], issued[CLOCK_TEXT_LEN], next_update[CLOCK_TEXT_LEN];
    struct error problem; /* code NONE: it is usable */
    bool is_authentic;
};

static void print_date(int64_t seconds, char out[static CLOCK_TEXT_LEN])
{
    clock_text((uint64_t)(seconds > 0 ? seconds : 0) * 1000, out);
}

/* In whole days, rounded down. */
static int64_t days(int64_t seconds)
{
    return seconds >= 0 ? seconds / SECONDS_PER_DAY
                        : -((-seconds + SECONDS_PER_DAY - 1) / SECONDS_PER_DAY);
}

static bool add_json(const struct showing *s, const struct collateral_set *set,
                     const struct freshness *v, const struct collateral *c)
{
    json_t *object =
        json_pack("{ss, ss, sb, sb, ss, ss}", "fmspc", v->fmspc, "ca", pck_ca_name(set->ca),
                  "authentic", v->is_authentic, "usable", v->problem.code == ERROR_NONE, "reason",
                  v->problem.reason, "problem", v->problem.text);
    json_t *facts =
        v->is_authentic
            ? json_pack("{sI, sI, sI, sI, ss, ss, sI, sI}", "evaluation_number",
                        (json_int_t)c->tcb.evaluation_number, "qe_evaluation_number",
                        (json_int_t)c->qe.evaluation_number, "root_crl_number",
                        (json_int_t)c->root_crl_number, "pck_crl_number",
                        (json_int_t)c->pck_crl_number, "issued", v->issued, "next_update",
                        v->next_update, "age_seconds", (json_int_t)(s->now - collateral_issued(c)),
                        "left_seconds", (json_int_t)(collateral_next_update(c) - s->now))
            : json_object();
    bool ok = json_object_update(object, facts) == 0 && json_array_append(s->json, object) == 0;

    json_decref(facts);
    json_decref(object);
    return ok;
}

static void print_text(const struct showing *s, const struct collateral_set *set,
                       const struct freshness *v, const struct collateral *c)
{
    printf("%sFMSPC %s, %s CA\n", s->n > 0 ? "\n" : "", v->fmspc, pck_ca_name(set->ca));
    if (v->is_authentic) {
        printf("  signatures   hold, under %s\n",
               trust_root_default == &trust_root_intel ? "Intel's root" : "the test root");
        printf("  evaluation   %" PRIu32 "\n", c->tcb.evaluation_number);
        printf("  issued       %s, %" PRId64 " days ago\n", v->issued,
               days(s->now - collateral_issued(c)));
        printf("  next update  %s, %" PRId64 " days left\n", v->next_update,
               days(collateral_next_update(c) - s->now));
        printf("  CRL numbers  root %" PRIu64 ", PCK %" PRIu64 "\n", c->root_crl_number,
               c->pck_crl_number);
    }
    if (v->problem.code == ERROR_NONE)
        puts("  usable       yes");
    else
        printf("  usable       NO: %s: %s\n", v->problem.reason, v->problem.text);
}

static bool show_set(void *cookie, const struct collateral_set *set, struct error *err)
{
    auto_collateral struct collateral c = { .root = NULL };
    struct showing *s = cookie;
    struct freshness v = { .problem = ERROR_INIT };

    hex_encode(set->fmspc, FMSPC_LEN, v.fmspc);
    v.is_authentic = collateral_load(&set->source, trust_root_default, &c, &v.problem);
    if (v.is_authentic) {
        print_date(collateral_issued(&c), v.issued);
        print_date(collateral_next_update(&c), v.next_update);
        if (collateral_check_dates(&c, s->now, &v.problem))
            v.problem = (struct error)ERROR_INIT;
    }
    if (!s->json)
        print_text(s, set, &v, &c);
    else if (!add_json(s, set, &v, &c))
        return error_set(err, ERROR_RESOURCE_EXHAUSTED, "no memory for the answer");
    s->is_any_bad = s->is_any_bad || v.problem.code != ERROR_NONE;
    s->n++;
    return true;
}

static bool show(struct showing *s, const char *path, struct error *err)
{
    auto_free char *text = NULL;
    struct stat about;
    size_t len = 0;

    if (stat(path, &about) == 0 && S_ISDIR(about.st_mode))
        return collateral_folders_walk(path, show_set, s, err);
    return file_read(path, COLLATERAL_BUNDLE_MAX, &text, &len, err) &&
           collateral_bundle_walk(text, len, show_set, s, err);
}

static void print_help(void)
{
    puts("Shows a bundle or folder of collateral: its platforms, how old it is, how long it stays\n"
         "valid, and whether its signatures are valid.\n"
         "\n"
         "Usage: tdvolctl collateral show FILE|DIR [OPTIONS]\n"
         "\n"
         "Exit code: 0 all sets can be used now, 3 some cannot, 1 the file cannot be read.\n");
    option_print_help(show_table, ARRAY_LEN(show_table));
}

static int failed(const struct error *err, int code)
{
    fprintf(stderr, "tdvolctl: collateral show: %s\n", err->text);
    return code;
}

int command_collateral_show(int argc, char *const *argv)
{
    struct show_options options = { .at = clock_wall_ms() / 1000 };
    struct option_list paths = { .n = 0 };
    struct error err = ERROR_INIT;

    if (option_wants_help(argc, argv)) {
        print_help();
        return COMMAND_DONE;
    }
    if (!option_parse(show_table, ARRAY_LEN(show_table), &options, argc, argv, &paths, &err))
        return failed(&err, COMMAND_USAGE);
    if (paths.n != 1) {
        (void)error_set(&err, ERROR_INVALID_ARGUMENT,
                        "give exactly one bundle or folder (see --help)");
        return failed(&err, COMMAND_USAGE);
    }
    struct showing s = { .now = (int64_t)options.at, .json = options.json ? json_array() : NULL };
    bool ok = explanation_use_test_root(options.test_root, &err) && show(&s, paths.items[0], &err);

    if (ok && s.json) {
        (void)json_dumpf(s.json, stdout, JSON_INDENT(2));
        (void)putchar('\n');
    }
    json_decref(s.json);
    if (!ok)
        return failed(&err, COMMAND_FAILED);
    return s.is_any_bad ? EXIT_REFUSED : COMMAND_DONE;
}
