/* SPDX-License-Identifier: Apache-2.0 */
#include "audit/audit_releases.h"

#include <search.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void audit_releases_free(struct audit_releases *releases)
{
    tdestroy(releases->quotes, free);
    *releases = (struct audit_releases){ .n = 0 };
}

struct release_walk {
    void (*visit)(void *cookie, const struct audit_quote *quote);
    void *cookie;
};

static void visit_node(const void *node, VISIT which, void *closure)
{
    const struct release_walk *walk = closure;

    if (which == postorder || which == leaf)
        walk->visit(walk->cookie, *(const struct audit_quote *const *)node);
}

void audit_releases_each(const struct audit_releases *releases,
                         void (*visit)(void *cookie, const struct audit_quote *quote), void *cookie)
{
    struct release_walk walk = { .visit = visit, .cookie = cookie };

    twalk_r(releases->quotes, visit_node, &walk);
}

static const char *text_of(const json_t *fields, const char *name)
{
    const char *text = json_string_value(json_object_get(fields, name));

    return text ? text : "";
}

static int compare(const void *a, const void *b)
{
    return strcmp(((const struct audit_quote *)a)->sha256, ((const struct audit_quote *)b)->sha256);
}

/* NULL: no memory, or too many. */
static struct audit_quote *find(struct audit_releases *all, const char *sha256)
{
    struct audit_quote *wanted = calloc(1, sizeof(*wanted));

    if (!wanted)
        return NULL;
    (void)snprintf(wanted->sha256, sizeof(wanted->sha256), "%s", sha256);
    struct audit_quote *const *found = all->n < AUDIT_QUOTES_MAX
                                           ? tsearch(wanted, &all->quotes, compare)
                                           : tfind(wanted, &all->quotes, compare);

    if (found && *found == wanted) {
        all->n++;
        return wanted;
    }
    free(wanted);
    return found ? *found : NULL;
}

static bool is_digest(const char *text)
{
    return strlen(text) == AUDIT_HASH_TEXT - 1 &&
           strspn(text, "0123456789abcdef") == AUDIT_HASH_TEXT - 1;
}

static bool take(struct audit_releases *all, const json_t *fields, bool is_attest,
                 struct error *err)
{
    const char *sha256 = text_of(fields, "quote_sha256"), *mrtd = text_of(fields, "mrtd");
    struct audit_quote *quote = find(all, is_digest(sha256) ? sha256 : "");

    if (!quote)
        return error_set(err, ERROR_RESOURCE_EXHAUSTED, "the logs name more than %d quotes",
                         AUDIT_QUOTES_MAX);
    quote->is_mixed |= quote->mrtd[0] && mrtd[0] && strcmp(quote->mrtd, mrtd) != 0;
    if (!quote->mrtd[0])
        (void)snprintf(quote->mrtd, sizeof(quote->mrtd), "%s", mrtd);
    if (!quote->image[0])
        (void)snprintf(quote->image, sizeof(quote->image), "%s", text_of(fields, "image"));
    quote->is_attested |= is_attest && quote->sha256[0];
    quote->releases += !is_attest;
    all->releases += !is_attest;
    return true;
}

bool audit_releases_read(const struct audit_files *set, struct audit_releases *out,
                         struct error *err)
{
    auto_audit_merge struct audit_merge *merge = NULL;
    struct audit_entry e;
    bool found = true;

    if (!audit_merge_new(set, &merge, err))
        return false;
    for (;;) {
        if (!audit_merge_next(merge, &e, &found, err))
            return false;
        if (!found)
            return true;
        bool is_attest = strcmp(text_of(e.fields, "method"), "Attest") == 0;
        bool is_open = strcmp(text_of(e.fields, "method"), "OpenVolume") == 0;

        if (strcmp(text_of(e.fields, "code"), "OK") == 0 && (is_attest || is_open) &&
            !take(out, e.fields, is_attest, err))
            return false;
    }
}
