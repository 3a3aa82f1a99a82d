/* SPDX-License-Identifier: Apache-2.0 */
/* What a rule asks of the Trust Domain: its image, attributes, platform and TCB. */
#include "attest/reason.h"
#include "base/digest.h"
#include "policy/policy_rule.h"

#include <string.h>

#define FIELD(key, title, member)                      \
    {                                                  \
        key, title, offsetof(struct td_claims, member) \
    }
const struct measurement_field measurement_fields[MEASUREMENT_COUNT] = {
    [MEASUREMENT_MRTD] = FIELD("mrtd", "MRTD", mrtd),
    [MEASUREMENT_RTMR0] = FIELD("rtmr0", "RTMR0", rtmr[0]),
    [MEASUREMENT_RTMR1] = FIELD("rtmr1", "RTMR1", rtmr[1]),
    [MEASUREMENT_RTMR2] = FIELD("rtmr2", "RTMR2", rtmr[2]),
    [MEASUREMENT_RTMR3] = FIELD("rtmr3", "RTMR3", rtmr[3]),
    [MEASUREMENT_MRCONFIGID] = FIELD("mrconfigid", "MRCONFIGID", mrconfigid),
    [MEASUREMENT_MROWNER] = FIELD("mrowner", "MROWNER", mrowner),
    [MEASUREMENT_MROWNERCONFIG] = FIELD("mrownerconfig", "MROWNERCONFIG", mrownerconfig),
    [MEASUREMENT_MRSEAM] = FIELD("mrseam", "MRSEAM", mrseam),
};

const uint8_t *measurement_of(const struct td_claims *td, enum measurement m)
{
    return (const uint8_t *)td + measurement_fields[m].offset;
}

/* --- reading --- */

static bool read_image(struct arena *arena, const json_t *json, struct image *out,
                       struct error *err)
{
    static const char *const known[] = { "mrtd",   "rtmr0",      "rtmr1",   "rtmr2",
                                         "rtmr3",  "mrconfigid", "mrowner", "mrownerconfig",
                                         "mrseam", "xfam",       "until",   NULL };

    out->until = INT64_MAX;
    if (!policy_check_keys(json, known, err))
        return false;
    for (size_t m = 0; m < MEASUREMENT_COUNT; m++)
        if (!policy_take_values(arena, json_object_get(json, measurement_fields[m].key),
                                measurement_fields[m].key, MEASUREMENT_LEN, &out->values[m], err))
            return false;
    return policy_take_masks(arena, json_object_get(json, "xfam"), "xfam", &out->xfam, err) &&
           policy_take_date(json_object_get(json, "until"), "until", &out->until, err);
}

bool policy_read_images(struct policy *policy, const json_t *json, struct error *err)
{
    const char *key;
    json_t *value;

    if (!json)
        return true;
    if (!json_is_object(json) || json_object_size(json) == 0 ||
        json_object_size(json) > POLICY_IMAGES_MAX)
        return error_set(err, ERROR_INVALID_ARGUMENT, "images must be an object of 1 to %d images",
                         POLICY_IMAGES_MAX);
    policy->images = arena_alloc(&policy->arena, json_object_size(json) * sizeof(*policy->images));
    if (!policy->images)
        return arena_exhausted(err);
    json_object_foreach((json_t *)(uintptr_t)json, key, value)
    {
        struct image *image = &policy->images[policy->n_images];
        auto_json json_t *name = json_string(key);

        if (!policy_take_name(&policy->arena, name, "the name of an image", &image->name, err) ||
            !read_image(&policy->arena, value, image, err))
            return error_wrap(err, "image \"%.*s\"", POLICY_NAME_MAX, key);
        policy->n_images++;
    }
    return true;
}

/* An image that pins less would fit every TD. */
static bool check_pins(const struct image *image, struct error *err)
{
    const struct values *v = image->values;

    if (values_pin(&v[MEASUREMENT_MRTD]) &&
        ((values_pin(&v[MEASUREMENT_RTMR1]) && values_pin(&v[MEASUREMENT_RTMR2])) ||
         values_pin(&v[MEASUREMENT_MRCONFIGID])))
        return true;
    return error_set(err, ERROR_INVALID_ARGUMENT,
                     "image \"%s\" pins too little: it needs mrtd with rtmr1 and rtmr2, or mrtd "
                     "with mrconfigid, and no value of zeros in them",
                     image->name);
}

static bool read_image_names(struct policy *policy, const json_t *list, struct td_rule *out,
                             struct error *err)
{
    size_t n = json_array_size(list);

    if (n == 0 || n > POLICY_IMAGES_MAX)
        return error_set(err, ERROR_INVALID_ARGUMENT, "images must be a list of 1 to %d names",
                         POLICY_IMAGES_MAX);
    out->images = arena_alloc(&policy->arena, n * sizeof(const struct image *));
    if (!out->images)
        return arena_exhausted(err);
    for (size_t i = 0; i < n; i++) {
        const char *name = json_string_value(json_array_get(list, i));

        for (size_t k = 0; name && k < policy->n_images; k++)
            if (strcmp(policy->images[k].name, name) == 0)
                out->images[i] = &policy->images[k];
        if (!out->images[i])
            return error_set(err, ERROR_INVALID_ARGUMENT, "images: there is no image \"%.*s\"",
                             POLICY_NAME_MAX, name ? name : "(not a string)");
        if (!check_pins(out->images[i], err))
            return false;
        out->n_images++;
    }
    return true;
}

static bool read_attributes(const json_t *json, struct td_rule *out, struct error *err)
{
    static const char *const known[] = { "required", "allowed", NULL };

    out->attributes_required = TD_ATTRIBUTES_REQUIRED;
    out->attributes_allowed = TD_ATTRIBUTES_ALLOWED;
    if (!json)
        return true;
    if (!policy_check_keys(json, known, err) ||
        !policy_take_mask(json_object_get(json, "required"), "required", &out->attributes_required,
                          err) ||
        !policy_take_mask(json_object_get(json, "allowed"), "allowed", &out->attributes_allowed,
                          err))
        return false;
    if (((out->attributes_allowed | out->attributes_required) & TD_ATTRIBUTE_DEBUG) != 0)
        return error_set(err, ERROR_INVALID_ARGUMENT,
                         "bit 0 is never allowed: the host can read a TD in debug mode");
    if ((out->attributes_required & ~out->attributes_allowed) != 0)
        return error_set(err, ERROR_INVALID_ARGUMENT,
                         "required has a bit that allowed does not have");
    return true;
}

static bool take_status(const json_t *json, enum tcb_status *out, struct error *err)
{
    const char *text = json_string_value(json);

    for (int s = 0; text && s < TCB_STATUS_COUNT; s++) {
        if (strcmp(text, tcb_status_name((enum tcb_status)s)) != 0)
            continue;
        if (s == TCB_UP_TO_DATE || s == TCB_REVOKED || s == TCB_NOT_SUPPORTED)
            return error_set(err, ERROR_INVALID_ARGUMENT, "status %s %s", text,
                             s == TCB_UP_TO_DATE ? "needs no exception" : "is never accepted");
        *out = (enum tcb_status)s;
        return true;
    }
    return error_set(err, ERROR_INVALID_ARGUMENT,
                     "status must be one of Intel's words: OutOfDate, "
                     "SWHardeningNeeded, ConfigurationNeeded, ...");
}

static bool read_exception(struct arena *arena, const json_t *json, struct tcb_exception *out,
                           struct error *err)
{
    static const char *const known[] = { "status", "advisories", "date_from", "until", NULL };
    const json_t *advisories = json_object_get(json, "advisories");

    out->date_from = INT64_MIN;
    if (!policy_check_keys(json, known, err) ||
        !take_status(json_object_get(json, "status"), &out->status, err) ||
        !policy_take_date(json_object_get(json, "date_from"), "date_from", &out->date_from, err))
        return false;
    if (!json_object_get(json, "until"))
        return error_set(err, ERROR_INVALID_ARGUMENT,
                         "until is missing: an exception must have an end");
    if (!policy_take_date(json_object_get(json, "until"), "until", &out->until, err))
        return false;
    if (!json_is_array(advisories))
        return error_set(err, ERROR_INVALID_ARGUMENT,
                         "advisories must be a list of the accepted advisories; [] accepts none");
    return json_array_size(advisories) == 0 ||
           policy_take_patterns(arena, advisories, "advisories", &out->advisories, err);
}

static bool read_tcb(struct arena *arena, const json_t *json, struct td_rule *out,
                     struct error *err)
{
    static const char *const known[] = { "minimum_evaluation", "exceptions", NULL };
    const json_t *list = json_object_get(json, "exceptions");
    uint64_t minimum = 0;

    if (!json)
        return true;
    if (!policy_check_keys(json, known, err) ||
        !policy_take_number(json_object_get(json, "minimum_evaluation"), "minimum_evaluation",
                            UINT32_MAX, &minimum, err))
        return false;
    out->minimum_evaluation = (uint32_t)minimum;
    if (!list)
        return true;
    size_t n = json_array_size(list);
    if (n == 0 || n > POLICY_VALUES_MAX)
        return error_set(err, ERROR_INVALID_ARGUMENT,
                         "exceptions must be a list of 1 to %d exceptions", POLICY_VALUES_MAX);
    out->exceptions = arena_alloc(arena, n * sizeof(*out->exceptions));
    if (!out->exceptions)
        return arena_exhausted(err);
    for (; out->n_exceptions < n; out->n_exceptions++)
        if (!read_exception(arena, json_array_get(list, out->n_exceptions),
                            &out->exceptions[out->n_exceptions], err))
            return error_wrap(err, "exception %zu", out->n_exceptions + 1);
    return true;
}

bool policy_read_td(struct policy *policy, const json_t *json, struct td_rule *out,
                    struct error *err)
{
    static const char *const known[] = { "images",           "attributes",  "tcb",
                                         "platforms",        "service_tds", "event_log",
                                         "minimum_sgx_type", NULL };
    struct arena *arena = &policy->arena;
    uint64_t sgx_type = 0;

    if (!policy_check_keys(json, known, err) ||
        !read_image_names(policy, json_object_get(json, "images"), out, err))
        return false;
    if (!read_attributes(json_object_get(json, "attributes"), out, err))
        return error_wrap(err, "attributes");
    if (!read_tcb(arena, json_object_get(json, "tcb"), out, err))
        return error_wrap(err, "tcb");
    if (!policy_take_values(arena, json_object_get(json, "platforms"), "platforms", PLATFORM_ID_LEN,
                            &out->platforms, err) ||
        !policy_take_values(arena, json_object_get(json, "service_tds"), "service_tds",
                            MEASUREMENT_LEN, &out->service_tds, err) ||
        !policy_take_number(json_object_get(json, "minimum_sgx_type"), "minimum_sgx_type", 2,
                            &sgx_type, err) ||
        !policy_take_bool(json_object_get(json, "event_log"), "event_log", &out->needs_event_log,
                          err))
        return false;
    out->minimum_sgx_type = (uint8_t)sgx_type;
    if ((out->attributes_allowed & TD_ATTRIBUTE_MIGRATABLE) != 0 && out->service_tds.n == 0)
        return error_set(err, ERROR_INVALID_ARGUMENT,
                         "attributes allow a TD to migrate: service_tds must name the service TDs "
                         "that may migrate it");
    return true;
}

/* --- judging --- */

static bool xfam_fits(const struct image *image, uint64_t xfam)
{
    for (size_t i = 0; i < image->xfam.n; i++)
        if (image->xfam.items[i] == xfam)
            return true;
    return image->xfam.n == 0 && (xfam & TD_XFAM_REQUIRED) == TD_XFAM_REQUIRED &&
           (xfam & ~TD_XFAM_ALLOWED) == 0;
}

/* An image that fits wholly gets a higher score than any other image. */
static unsigned image_score(const struct image *image, const struct td_claims *td, int64_t now)
{
    unsigned fits = 0, pinned = 0;

    for (size_t m = 0; m < MEASUREMENT_COUNT; m++) {
        if (image->values[m].n == 0)
            continue;
        pinned++;
        fits += values_have(&image->values[m], measurement_of(td, (enum measurement)m)) ? 1u : 0u;
    }
    if (fits != pinned)
        return fits;
    return MEASUREMENT_COUNT *
           (1u + (now < image->until ? 1u : 0u) + (xfam_fits(image, td->xfam) ? 1u : 0u));
}

const struct image *policy_best_image(const struct td_rule *rule, const struct td_claims *td,
                                      int64_t now)
{
    const struct image *best = rule->images[0];

    for (size_t i = 1; i < rule->n_images; i++)
        if (image_score(rule->images[i], td, now) > image_score(best, td, now))
            best = rule->images[i];
    return best;
}

static bool check_debug(const struct judgement *j, int argument, struct error *err)
{
    (void)argument;
    return (j->td->td_attributes & TD_ATTRIBUTE_DEBUG) == 0 ||
           attest_refuse(err, REASON_TD_DEBUG,
                         "the TD runs in debug mode: its host can read its memory");
}

static bool image_pins(const struct judgement *j, int m)
{
    return j->image && j->image->values[m].n > 0;
}

static bool check_measurement(const struct judgement *j, int m, struct error *err)
{
    const uint8_t *have = measurement_of(j->td, (enum measurement)m);
    char text[2 * MEASUREMENT_LEN + 1];

    if (values_have(&j->image->values[m], have))
        return true;
    hex_encode(have, MEASUREMENT_LEN, text);
    return attest_refuse(err, REASON_MEASUREMENT,
                         "%s is %s, which is not among the values of image \"%s\"%s",
                         measurement_fields[m].title, text, j->image->name,
                         j->rule->td->n_images > 1 ? ", the rule's image that fits best" : "");
}

static bool check_image_date(const struct judgement *j, int argument, struct error *err)
{
    (void)argument;
    return j->now < j->image->until ||
           attest_refuse(err, REASON_IMAGE_EXPIRED,
                         "image \"%s\" is no longer accepted: its \"until\" has passed",
                         j->image->name);
}

static bool check_xfam(const struct judgement *j, int argument, struct error *err)
{
    const uint64_t xfam = j->td->xfam;

    (void)argument;
    return xfam_fits(j->image, xfam) ||
           attest_refuse(err, REASON_TD_XFAM, "XFAM 0x%llx is not allowed by image \"%s\"",
                         (unsigned long long)xfam, j->image->name);
}

static bool check_attributes(const struct judgement *j, int argument, struct error *err)
{
    const uint64_t have = j->td->td_attributes;
    const struct td_rule *rule = j->rule->td;

    (void)argument;
    return ((have & rule->attributes_required) == rule->attributes_required &&
            (have & ~rule->attributes_allowed) == 0) ||
           attest_refuse(err, REASON_TD_ATTRIBUTES,
                         "TD attributes are 0x%llx; the rule requires 0x%llx and allows 0x%llx",
                         (unsigned long long)have, (unsigned long long)rule->attributes_required,
                         (unsigned long long)rule->attributes_allowed);
}

static bool check_service_td(const struct judgement *j, int argument, struct error *err)
{
    const struct td_claims *td = j->td;

    (void)argument;
    if (td->has_service_td)
        return values_have(&j->rule->td->service_tds, td->mrservicetd) ||
               attest_refuse(err, REASON_TD_SERVICE_TD,
                             "a service TD is bound, which could move this TD to another machine, "
                             "and the rule does not name it");
    return (td->td_attributes & TD_ATTRIBUTE_MIGRATABLE) == 0 ||
           attest_refuse(err, REASON_TD_SERVICE_TD,
                         "the TD can migrate, and its quote does not say by which service TD");
}

static bool has_platforms(const struct judgement *j, int argument)
{
    (void)argument;
    return j->rule->td->platforms.n > 0;
}

static bool check_platform(const struct judgement *j, int argument, struct error *err)
{
    const struct td_claims *td = j->td;
    char text[2 * PLATFORM_ID_LEN + 1];

    (void)argument;
    if (!td->has_platform_id)
        return attest_refuse(
            err, REASON_PLATFORM,
            "the rule names platforms, but this platform's certificate has no platform id");
    if (values_have(&j->rule->td->platforms, td->platform_id))
        return true;
    hex_encode(td->platform_id, PLATFORM_ID_LEN, text);
    return attest_refuse(err, REASON_PLATFORM, "platform %s is not one of the rule's platforms",
                         text);
}

static bool has_sgx_type(const struct judgement *j, int argument)
{
    (void)argument;
    return j->rule->td->minimum_sgx_type > 0;
}

static bool check_sgx_type(const struct judgement *j, int argument, struct error *err)
{
    (void)argument;
    return j->td->sgx_type >= j->rule->td->minimum_sgx_type ||
           attest_refuse(err, REASON_PLATFORM,
                         "the platform has SGX type %u; the rule wants at least %u",
                         j->td->sgx_type, j->rule->td->minimum_sgx_type);
}

static bool has_advisory(const struct patterns *list, const char *advisory)
{
    for (size_t i = 0; i < list->n; i++)
        if (strcmp(list->items[i], advisory) == 0)
            return true;
    return false;
}

/* NULL when the exception applies, otherwise why not; *detail is an advisory or "". */
static const char *exception_lacks(const struct tcb_exception *e, const struct td_claims *td,
                                   int64_t now, const char **detail)
{
    *detail = "";
    if (now >= e->until)
        return "the exception for this status has ended";
    if (td->tcb_date < e->date_from)
        return "its TCB level is older than the exception's date_from";
    for (size_t i = 0; i < td->n_advisories; i++)
        if (!has_advisory(&e->advisories, td->advisories[i])) {
            *detail = td->advisories[i];
            return "the exception does not list advisory ";
        }
    return NULL;
}

static bool check_tcb(const struct judgement *j, int argument, struct error *err)
{
    const struct td_claims *td = j->td;
    const char *lacks = "the rule has no exception for it", *detail = "";

    (void)argument;
    if (td->tcb_status == TCB_UP_TO_DATE)
        return true;
    for (size_t i = 0; i < j->rule->td->n_exceptions; i++) {
        const struct tcb_exception *e = &j->rule->td->exceptions[i];

        if (e->status == td->tcb_status)
            lacks = exception_lacks(e, td, j->now, &detail);
        if (!lacks)
            return true;
    }
    return attest_refuse(err, tcb_status_reason(td->tcb_status),
                         "the platform's TCB is %s, not UpToDate: %s%s",
                         tcb_status_name(td->tcb_status), lacks, detail);
}

static bool has_minimum_evaluation(const struct judgement *j, int argument)
{
    (void)argument;
    return j->rule->td->minimum_evaluation > 0;
}

static bool check_evaluation(const struct judgement *j, int argument, struct error *err)
{
    const struct td_claims *td = j->td;
    const uint32_t minimum = j->rule->td->minimum_evaluation;

    (void)argument;
    return (td->tcb_evaluation_number >= minimum && td->qe_evaluation_number >= minimum) ||
           attest_refuse(err, REASON_EVALUATION_TOO_LOW,
                         "TCB evaluation numbers are %u (TCB info) and %u (QE identity); the rule "
                         "wants at least %u: fetch newer collateral",
                         td->tcb_evaluation_number, td->qe_evaluation_number, minimum);
}

static bool wants_event_log(const struct judgement *j, int argument)
{
    (void)argument;
    return j->rule->td->needs_event_log;
}

static bool check_event_log(const struct judgement *j, int argument, struct error *err)
{
    (void)argument;
    return j->td->has_event_log || attest_refuse(err, REASON_EVENT_LOG_MISSING,
                                                 "the rule wants the event log, and none was sent");
}

#define MEASUREMENT_CHECK(title, m)             \
    {                                           \
        title, image_pins, check_measurement, m \
    }
const struct policy_check policy_td_checks[POLICY_TD_CHECKS] = {
    { "no debug mode", NULL, check_debug, 0 },
    MEASUREMENT_CHECK("MRTD", MEASUREMENT_MRTD),
    MEASUREMENT_CHECK("RTMR0", MEASUREMENT_RTMR0),
    MEASUREMENT_CHECK("RTMR1", MEASUREMENT_RTMR1),
    MEASUREMENT_CHECK("RTMR2", MEASUREMENT_RTMR2),
    MEASUREMENT_CHECK("RTMR3", MEASUREMENT_RTMR3),
    MEASUREMENT_CHECK("MRCONFIGID", MEASUREMENT_MRCONFIGID),
    MEASUREMENT_CHECK("MROWNER", MEASUREMENT_MROWNER),
    MEASUREMENT_CHECK("MROWNERCONFIG", MEASUREMENT_MROWNERCONFIG),
    MEASUREMENT_CHECK("MRSEAM", MEASUREMENT_MRSEAM),
    { "image is current", NULL, check_image_date, 0 },
    { "XFAM", NULL, check_xfam, 0 },
    { "TD attributes", NULL, check_attributes, 0 },
    { "service TD", NULL, check_service_td, 0 },
    { "platform", has_platforms, check_platform, 0 },
    { "SGX type", has_sgx_type, check_sgx_type, 0 },
    { "TCB", NULL, check_tcb, 0 },
    { "TCB evaluation", has_minimum_evaluation, check_evaluation, 0 },
    { "event log", wants_event_log, check_event_log, 0 },
};
