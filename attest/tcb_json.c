/* SPDX-License-Identifier: Apache-2.0 */
/* Strict parsers of TCB info version 3 and QE identity version 2, from JSON. */
#include "attest/collateral.h"
#include "attest/json.h"
#include "attest/reason.h"
#include "base/clock.h"
#include "base/digest.h"

#include <stdlib.h>
#include <string.h>

enum { LEVELS_MAX = 256, MODULES_MAX = 64 };

static bool bad(struct error *err, const char *what)
{
    return attest_refuse(err, REASON_COLLATERAL_MALFORMED, "collateral: %s is missing or not valid",
                         what);
}

static bool wrong(struct error *err, const char *what)
{
    return attest_refuse(err, REASON_COLLATERAL_MALFORMED, "collateral: %s", what);
}

static bool kind(struct error *err, const char *what)
{
    return attest_refuse(err, REASON_COLLATERAL_KIND, "collateral has the wrong kind: %s", what);
}

static bool get_number(const json_t *object, const char *key, uint32_t max, uint32_t *out,
                       struct error *err)
{
    const json_t *value = json_object_get(object, key);

    if (!json_is_integer(value) || json_integer_value(value) < 0 ||
        json_integer_value(value) > (json_int_t)max)
        return bad(err, key);
    *out = (uint32_t)json_integer_value(value);
    return true;
}

/* Takes upper and lower case, because Intel's own documents differ from year to year. */
static bool get_hex(const json_t *object, const char *key, uint8_t *out, size_t len,
                    struct error *err)
{
    const char *text = json_string_value(json_object_get(object, key));

    return (text && hex_decode(text, out, len)) || bad(err, key);
}

static bool get_date(const json_t *object, const char *key, int64_t *out, struct error *err)
{
    return clock_parse(json_string_value(json_object_get(object, key)), out) || bad(err, key);
}

static bool get_status(const json_t *object, enum tcb_status *out, struct error *err)
{
    const char *text = json_string_value(json_object_get(object, "tcbStatus"));

    for (int s = 0; text && s <= TCB_REVOKED; s++)
        if (strcmp(text, tcb_status_name((enum tcb_status)s)) == 0) {
            *out = (enum tcb_status)s;
            return true;
        }
    return bad(err, "tcbStatus");
}

static bool get_advisories(const json_t *object, struct arena *arena, struct advisories *out,
                           struct error *err)
{
    const json_t *list = json_object_get(object, "advisoryIDs");

    if (!list)
        return true;
    if (!json_is_array(list) || json_array_size(list) > ADVISORIES_MAX)
        return bad(err, "advisoryIDs");
    for (size_t i = 0; i < json_array_size(list); i++) {
        const char *id = json_string_value(json_array_get(list, i));

        if (!id || strlen(id) > 64)
            return bad(err, "advisoryIDs");
        out->ids[i] = arena_strdup(arena, id);
        if (!out->ids[i])
            return arena_exhausted(err);
    }
    out->n = json_array_size(list);
    return true;
}

static bool get_components(const json_t *tcb, const char *key, uint8_t out[TCB_SVN_LEN],
                           struct error *err)
{
    const json_t *list = json_object_get(tcb, key);

    if (!json_is_array(list) || json_array_size(list) != TCB_SVN_LEN)
        return bad(err, key);
    for (size_t i = 0; i < TCB_SVN_LEN; i++) {
        uint32_t svn = 0;

        if (!get_number(json_array_get(list, i), "svn", 255, &svn, err))
            return false;
        out[i] = (uint8_t)svn;
    }
    return true;
}

static bool read_platform_tcb(const json_t *tcb, struct tcb_level *out, struct error *err)
{
    uint32_t n = 0;

    if (!get_components(tcb, "sgxtcbcomponents", out->sgx, err) ||
        !get_components(tcb, "tdxtcbcomponents", out->tdx, err) ||
        !get_number(tcb, "pcesvn", UINT16_MAX, &n, err))
        return false;
    out->pce_svn = (uint16_t)n;
    return true;
}

/* Modules and the QE have only three statuses (QVL TdxModuleCheck). */
static bool read_isv_tcb(const json_t *tcb, struct tcb_level *out, struct error *err)
{
    uint32_t n = 0;

    if (!get_number(tcb, "isvsvn", UINT16_MAX, &n, err))
        return false;
    out->isv_svn = (uint16_t)n;
    return out->status == TCB_UP_TO_DATE || out->status == TCB_OUT_OF_DATE ||
           out->status == TCB_REVOKED || bad(err, "the tcbStatus of a component");
}

static int compare_levels(const void *left, const void *right)
{
    const struct tcb_level *a = left, *b = right;
    int d = memcmp(b->sgx, a->sgx, TCB_SVN_LEN);

    if (d == 0)
        d = (int)b->pce_svn - (int)a->pce_svn;
    if (d == 0)
        d = memcmp(b->tdx, a->tdx, TCB_SVN_LEN);
    if (d == 0)
        d = (int)b->isv_svn - (int)a->isv_svn;
    return d;
}

typedef bool tcb_reader(const json_t *tcb, struct tcb_level *out, struct error *err);

/* Reads all levels of object and sorts them, highest first. The same level twice is an error. */
static bool get_levels(const json_t *object, tcb_reader *read_tcb, struct arena *arena,
                       const struct tcb_level **out, size_t *out_n, struct error *err)
{
    const json_t *list = json_object_get(object, "tcbLevels");
    size_t n = json_array_size(list);

    if (n == 0 || n > LEVELS_MAX)
        return bad(err, "tcbLevels");
    struct tcb_level *levels = arena_alloc(arena, n * sizeof(*levels));
    if (!levels)
        return arena_exhausted(err);
    for (size_t i = 0; i < n; i++) {
        const json_t *level = json_array_get(list, i);

        if (!get_status(level, &levels[i].status, err) ||
            !get_date(level, "tcbDate", &levels[i].date, err) ||
            !get_advisories(level, arena, &levels[i].advisories, err) ||
            !read_tcb(json_object_get(level, "tcb"), &levels[i], err))
            return false;
    }
    qsort(levels, n, sizeof(*levels), compare_levels);
    for (size_t i = 1; i < n; i++)
        if (compare_levels(&levels[i - 1], &levels[i]) == 0)
            return wrong(err, "tcbLevels has one level twice");
    *out = levels;
    *out_n = n;
    return true;
}

static bool get_module(const json_t *object, struct tdx_module_identity *out, struct error *err)
{
    return get_hex(object, "mrsigner", out->mrsigner, sizeof(out->mrsigner), err) &&
           get_hex(object, "attributes", out->attributes, sizeof(out->attributes), err) &&
           get_hex(object, "attributesMask", out->attributes_mask, sizeof(out->attributes_mask),
                   err);
}

/* "TDX_03": two hex digits, upper or lower case. */
static bool get_module_major(const json_t *object, uint8_t *out, struct error *err)
{
    const char *id = json_string_value(json_object_get(object, "id"));

    return (id && strncmp(id, "TDX_", 4) == 0 && hex_decode(id + 4, out, 1) && *out != 0) ||
           bad(err, "the id of a TDX module");
}

static bool get_modules(const json_t *object, struct arena *arena, struct tcb_info *out,
                        struct error *err)
{
    const json_t *list = json_object_get(object, "tdxModuleIdentities");
    size_t n = json_array_size(list);

    if (!list)
        return true; /* before TDX 1.5 there were none */
    if (!json_is_array(list) || n > MODULES_MAX)
        return bad(err, "tdxModuleIdentities");
    struct tdx_module_identity *modules = arena_alloc(arena, (n + 1) * sizeof(*modules));
    if (!modules)
        return arena_exhausted(err);
    for (size_t i = 0; i < n; i++) {
        const json_t *item = json_array_get(list, i);

        if (!get_module_major(item, &modules[i].major, err) ||
            !get_module(item, &modules[i], err) ||
            !get_levels(item, read_isv_tcb, arena, &modules[i].levels, &modules[i].n_levels, err))
            return false;
        for (size_t j = 0; j < i; j++)
            if (modules[j].major == modules[i].major)
                return wrong(err, "tdxModuleIdentities has one id twice");
    }
    out->modules = modules;
    out->n_modules = n;
    return true;
}

/* Reads issueDate and nextUpdate, which must not be before it. */
static bool get_dates(const json_t *root, int64_t *issue, int64_t *next, struct error *err)
{
    if (!get_date(root, "issueDate", issue, err) || !get_date(root, "nextUpdate", next, err))
        return false;
    return *issue <= *next || wrong(err, "nextUpdate is before issueDate");
}

static bool load_object(struct bytes_view json, json_t **out, struct error *err)
{
    struct error problem = ERROR_INIT;

    return json_read_object(json.bytes, json.len, out, &problem) ||
           attest_refuse(err, REASON_COLLATERAL_MALFORMED, "collateral: %s", problem.text);
}

static bool check_kind(const json_t *root, const char *id, uint32_t version, struct error *err)
{
    const char *have = json_string_value(json_object_get(root, "id"));
    uint32_t number = 0;

    if (!have || strcmp(have, id) != 0)
        return kind(err, "its id is not the id for TDX");
    if (!get_number(root, "version", UINT16_MAX, &number, err))
        return false;
    return number == version || kind(err, "its version is not supported");
}

bool tcb_info_parse(struct bytes_view json, struct arena *arena, struct tcb_info *out,
                    struct error *err)
{
    auto_json json_t *root = NULL;
    struct tcb_info info = { .n_modules = 0 };
    uint32_t type = 0;

    if (!load_object(json, &root, err) || !check_kind(root, "TDX", 3, err) ||
        !get_number(root, "tcbType", UINT16_MAX, &type, err))
        return false;
    if (type != 0)
        return kind(err, "its tcbType is not 0");
    if (!get_dates(root, &info.issue_date, &info.next_update, err) ||
        !get_hex(root, "fmspc", info.fmspc, sizeof(info.fmspc), err) ||
        !get_hex(root, "pceId", info.pceid, sizeof(info.pceid), err) ||
        !get_number(root, "tcbEvaluationDataNumber", UINT32_MAX, &info.evaluation_number, err) ||
        !get_module(json_object_get(root, "tdxModule"), &info.module, err) ||
        !get_modules(root, arena, &info, err) ||
        !get_levels(root, read_platform_tcb, arena, &info.levels, &info.n_levels, err))
        return false;
    *out = info;
    return true;
}

bool qe_identity_parse(struct bytes_view json, struct arena *arena, struct qe_identity *out,
                       struct error *err)
{
    auto_json json_t *root = NULL;
    struct qe_identity qe = { .n_levels = 0 };
    uint32_t n = 0;

    if (!load_object(json, &root, err) || !check_kind(root, "TD_QE", 2, err) ||
        !get_dates(root, &qe.issue_date, &qe.next_update, err) ||
        !get_number(root, "tcbEvaluationDataNumber", UINT32_MAX, &qe.evaluation_number, err) ||
        !get_hex(root, "miscselect", qe.miscselect, sizeof(qe.miscselect), err) ||
        !get_hex(root, "miscselectMask", qe.miscselect_mask, sizeof(qe.miscselect_mask), err) ||
        !get_hex(root, "attributes", qe.attributes, sizeof(qe.attributes), err) ||
        !get_hex(root, "attributesMask", qe.attributes_mask, sizeof(qe.attributes_mask), err) ||
        !get_hex(root, "mrsigner", qe.mrsigner, sizeof(qe.mrsigner), err) ||
        !get_number(root, "isvprodid", UINT16_MAX, &n, err) ||
        !get_levels(root, read_isv_tcb, arena, &qe.levels, &qe.n_levels, err))
        return false;
    qe.isv_prod_id = (uint16_t)n;
    *out = qe;
    return true;
}
