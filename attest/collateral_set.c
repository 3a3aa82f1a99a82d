/* SPDX-License-Identifier: Apache-2.0 */
#include "attest/collateral_set.h"

#include "attest/json.h"
#include "attest/reason.h"
#include "base/digest.h"

#include <stdlib.h>
#include <string.h>

#define BUNDLE_VERSION 1

const char *pck_ca_name(enum pck_ca ca)
{
    return ca == PCK_CA_PLATFORM ? "platform" : "processor";
}

void collateral_set_free(struct collateral_set *set)
{
    arena_wipe(&set->memory);
    *set = (struct collateral_set){ .ca = PCK_CA_PLATFORM };
}

static bool ca_of_role(enum cert_role role, enum pck_ca *out, struct error *err)
{
    if (role != CERT_PCK_PLATFORM_CA && role != CERT_PCK_PROCESSOR_CA)
        return attest_refuse(err, REASON_PCK_CHAIN_ORDER,
                             "the issuer is neither the PCK platform nor the processor CA");
    *out = role == CERT_PCK_PLATFORM_CA ? PCK_CA_PLATFORM : PCK_CA_PROCESSOR;
    return true;
}

bool collateral_set_needed(const struct quote *quote, uint8_t fmspc[static FMSPC_LEN],
                           enum pck_ca *ca, struct error *err)
{
    auto_cert_chain struct cert_chain leaf = { .n = 0 };
    struct pck_platform platform;
    enum pck_ca issuer = PCK_CA_PLATFORM;
    size_t rest = 0;

    if (!cert_parse_first(quote->pck_chain_pem, quote->pck_chain_len, &leaf, &rest, err))
        return false;
    if (cert_role_of(leaf.certs[0]) != CERT_PCK_LEAF)
        return attest_refuse(err, REASON_PCK_CHAIN_ORDER,
                             "the quote's chain does not begin with a PCK certificate");
    if (!ca_of_role(cert_issuer_role_of(leaf.certs[0]), &issuer, err) ||
        !cert_read_platform(leaf.certs[0], &platform, err))
        return false;
    memcpy(fmspc, platform.fmspc, FMSPC_LEN);
    *ca = issuer;
    return true;
}

bool quote_chain_check_genuine(const struct quote *quote, const struct trust_root *root,
                               struct error *err)
{
    auto_cert_chain struct cert_chain chain = { .n = 0 };
    uint8_t digest[SHA256_LEN];

    if (!cert_chain_parse(quote->pck_chain_pem, quote->pck_chain_len, 3, &chain, err) ||
        !cert_sha256(chain.certs[2], digest, err))
        return false;
    if (memcmp(digest, root->sha256, sizeof(digest)) != 0)
        return attest_refuse(err, REASON_PCK_ROOT_UNKNOWN,
                             "the chain does not end in the pinned root certificate");
    return cert_chain_check_signed(&chain, err);
}

bool collateral_set_label(struct collateral_set *set, struct error *err)
{
    auto_arena struct arena arena = { .limit = 8 * COLLATERAL_PART_MAX };
    auto_cert_chain struct cert_chain issuer = { .n = 0 };
    struct collateral_source source = set->source;
    struct tcb_info info;
    enum pck_ca ca = PCK_CA_PLATFORM;
    size_t rest = 0;

    if (!collateral_split_response("tcbInfo", set->tcb_info_response, &source.tcb_info,
                                   &source.tcb_info_signature_hex, err) ||
        !collateral_split_response("enclaveIdentity", set->qe_identity_response,
                                   &source.qe_identity, &source.qe_identity_signature_hex, err) ||
        !tcb_info_parse(source.tcb_info, &arena, &info, err) ||
        !cert_parse_first((const char *)source.pck_crl_chain.bytes, source.pck_crl_chain.len,
                          &issuer, &rest, err) ||
        !ca_of_role(cert_role_of(issuer.certs[0]), &ca, err))
        return false;
    set->source = source;
    set->ca = ca;
    memcpy(set->fmspc, info.fmspc, FMSPC_LEN);
    return true;
}

/* The members of one set in a bundle, besides fmspc and ca. */
enum encoding { ENCODED_TEXT, ENCODED_BASE64 };
static const struct member {
    const char *name;
    enum encoding encoding;
    size_t offset; /* of a struct bytes_view in struct collateral_set */
} members[] = {
#define MEMBER(name, encoding, field)                          \
    {                                                          \
        name, encoding, offsetof(struct collateral_set, field) \
    }
    MEMBER("root_ca_crl", ENCODED_BASE64, source.root_ca_crl),
    MEMBER("pck_crl", ENCODED_BASE64, source.pck_crl),
    MEMBER("pck_crl_issuer_chain", ENCODED_TEXT, source.pck_crl_chain),
    MEMBER("tcb_info", ENCODED_TEXT, tcb_info_response),
    MEMBER("tcb_info_issuer_chain", ENCODED_TEXT, source.tcb_info_chain),
    MEMBER("qe_identity", ENCODED_TEXT, qe_identity_response),
    MEMBER("qe_identity_issuer_chain", ENCODED_TEXT, source.qe_identity_chain),
#undef MEMBER
};
#define SET_MEMBERS (ARRAY_LEN(members) + 2)

static bool bad(struct error *err, const char *what)
{
    return error_set(err, ERROR_INVALID_ARGUMENT, "%s is missing or not valid", what);
}

static bool read_member(const json_t *object, const struct member *member,
                        struct collateral_set *set, struct error *err)
{
    const json_t *value = json_object_get(object, member->name);
    struct bytes_view *out = (struct bytes_view *)(void *)((uint8_t *)set + member->offset);
    size_t len = json_string_length(value);

    if (!json_is_string(value) || len == 0 || len > BASE64_LEN(COLLATERAL_PART_MAX))
        return bad(err, member->name);
    uint8_t *bytes = arena_alloc(&set->memory, len);
    if (!bytes)
        return arena_exhausted(err);
    if (member->encoding == ENCODED_TEXT)
        memcpy(bytes, json_string_value(value), len);
    else if (!base64_decode(json_string_value(value), len, bytes, &len))
        return bad(err, member->name);
    *out = (struct bytes_view){ bytes, len };
    return len <= COLLATERAL_PART_MAX || bad(err, member->name);
}

static bool read_names(const json_t *object, uint8_t fmspc[static FMSPC_LEN], enum pck_ca *ca,
                       struct error *err)
{
    const char *fmspc_hex = json_string_value(json_object_get(object, "fmspc"));
    const char *ca_name = json_string_value(json_object_get(object, "ca"));

    if (!fmspc_hex || !hex_decode(fmspc_hex, fmspc, FMSPC_LEN))
        return error_set(err, ERROR_INVALID_ARGUMENT, "fmspc must be 12 hex digits");
    if (ca_name && strcmp(ca_name, pck_ca_name(PCK_CA_PLATFORM)) == 0)
        *ca = PCK_CA_PLATFORM;
    else if (ca_name && strcmp(ca_name, pck_ca_name(PCK_CA_PROCESSOR)) == 0)
        *ca = PCK_CA_PROCESSOR;
    else
        return error_set(err, ERROR_INVALID_ARGUMENT, "ca must be platform or processor");
    return true;
}

/* Reads one set. Its fmspc and ca must agree with its parts. */
static bool read_set(const json_t *object, struct collateral_set *set, struct error *err)
{
    uint8_t fmspc[FMSPC_LEN];
    enum pck_ca ca = PCK_CA_PLATFORM;

    arena_init(&set->memory, COLLATERAL_SET_MAX);
    if (!json_is_object(object) || json_object_size(object) != SET_MEMBERS)
        return error_set(err, ERROR_INVALID_ARGUMENT,
                         "it must be an object with exactly the %zu known members", SET_MEMBERS);
    if (!read_names(object, fmspc, &ca, err))
        return false;
    for (size_t i = 0; i < ARRAY_LEN(members); i++)
        if (!read_member(object, &members[i], set, err))
            return false;
    if (!collateral_set_label(set, err)) {
        err->code = ERROR_INVALID_ARGUMENT;
        return false;
    }
    if (memcmp(fmspc, set->fmspc, FMSPC_LEN) != 0 || ca != set->ca)
        return error_set(
            err, ERROR_INVALID_ARGUMENT,
            "fmspc or ca is not the same as in the TCB info and the PCK list's issuer");
    return true;
}

/* The sets of a bundle that were read so far. */
struct seen {
    size_t n;
    struct {
        uint8_t fmspc[FMSPC_LEN];
        enum pck_ca ca;
    } sets[COLLATERAL_BUNDLE_SETS_MAX];
};

static bool add_seen(struct seen *seen, const struct collateral_set *set, struct error *err)
{
    for (size_t i = 0; i < seen->n; i++)
        if (memcmp(seen->sets[i].fmspc, set->fmspc, FMSPC_LEN) == 0 && seen->sets[i].ca == set->ca)
            return error_set(err, ERROR_INVALID_ARGUMENT, "the bundle has this set twice");
    memcpy(seen->sets[seen->n].fmspc, set->fmspc, FMSPC_LEN);
    seen->sets[seen->n++].ca = set->ca;
    return true;
}

/* *sets is the array of sets; *root owns it. */
static bool parse_bundle(const char *json, size_t len, json_t **root, json_t **sets,
                         struct error *err)
{
    if (len > COLLATERAL_BUNDLE_MAX)
        return error_set(err, ERROR_INVALID_ARGUMENT,
                         "collateral bundle: it is larger than %zu MiB",
                         COLLATERAL_BUNDLE_MAX >> 20);
    if (!json_read_object(json, len, root, err))
        return error_wrap(err, "collateral bundle");
    const json_t *version = json_object_get(*root, "version");
    if (!json_is_integer(version) || json_integer_value(version) != BUNDLE_VERSION)
        return error_set(err, ERROR_INVALID_ARGUMENT, "collateral bundle: version must be %d",
                         BUNDLE_VERSION);
    *sets = json_object_get(*root, "sets");
    if (!json_is_array(*sets) || json_object_size(*root) != 2 ||
        json_array_size(*sets) > COLLATERAL_BUNDLE_SETS_MAX)
        return error_set(
            err, ERROR_INVALID_ARGUMENT,
            "collateral bundle: it must have version, at most %d sets, and nothing else",
            COLLATERAL_BUNDLE_SETS_MAX);
    return true;
}

bool collateral_bundle_walk(const char *json, size_t len,
                            bool (*visit)(void *cookie, const struct collateral_set *set,
                                          struct error *err),
                            void *cookie, struct error *err)
{
    auto_json json_t *root = NULL;
    json_t *sets = NULL;
    struct seen seen = { .n = 0 };

    if (!parse_bundle(json, len, &root, &sets, err))
        return false;
    for (size_t i = 0; i < json_array_size(sets); i++) {
        auto_collateral_set struct collateral_set set = { .ca = PCK_CA_PLATFORM };

        if (!read_set(json_array_get(sets, i), &set, err) || !add_seen(&seen, &set, err))
            return error_wrap(err, "collateral bundle: set %zu", i + 1);
        if (!visit(cookie, &set, err))
            return false;
    }
    return true;
}

static json_t *print_member(const struct collateral_set *set, const struct member *member)
{
    const struct bytes_view *value =
        (const struct bytes_view *)(const void *)((const uint8_t *)set + member->offset);

    if (member->encoding == ENCODED_TEXT)
        return json_stringn((const char *)value->bytes, value->len);
    auto_free char *text = malloc(BASE64_LEN(value->len) + 1);
    if (!text)
        return NULL;
    base64_encode(value->bytes, value->len, text);
    return json_string(text);
}

static bool print_set(const struct collateral_set *set, json_t *sets, struct error *err)
{
    char fmspc[2 * FMSPC_LEN + 1];
    json_t *object = json_object();

    hex_encode(set->fmspc, FMSPC_LEN, fmspc);
    if (json_array_append_new(sets, object) != 0 ||
        json_object_set_new(object, "fmspc", json_string(fmspc)) != 0 ||
        json_object_set_new(object, "ca", json_string(pck_ca_name(set->ca))) != 0)
        return error_set(err, ERROR_RESOURCE_EXHAUSTED, "no memory for a collateral bundle");
    for (size_t i = 0; i < ARRAY_LEN(members); i++)
        if (json_object_set_new(object, members[i].name, print_member(set, &members[i])) != 0)
            return error_set(err, ERROR_INVALID_ARGUMENT,
                             "collateral for %s: %s is not UTF-8 text, or there is no memory",
                             fmspc, members[i].name);
    return true;
}

bool collateral_bundle_print(const struct collateral_set *const *sets, size_t n, char **out,
                             struct error *err)
{
    json_t *array = json_array();
    auto_json json_t *root = json_pack("{si, so}", "version", BUNDLE_VERSION, "sets", array);

    if (!root)
        return error_set(err, ERROR_RESOURCE_EXHAUSTED, "no memory for a collateral bundle");
    if (n > COLLATERAL_BUNDLE_SETS_MAX)
        return error_set(err, ERROR_INVALID_ARGUMENT, "a bundle has at most %d sets",
                         COLLATERAL_BUNDLE_SETS_MAX);
    for (size_t i = 0; i < n; i++)
        if (!print_set(sets[i], array, err))
            return false;
    char *text = json_dumps(root, JSON_INDENT(1));
    if (!text)
        return error_set(err, ERROR_RESOURCE_EXHAUSTED, "no memory for a collateral bundle");
    *out = text;
    return true;
}
