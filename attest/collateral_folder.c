/* SPDX-License-Identifier: Apache-2.0 */
/* Collateral as files in a folder. */
#include "attest/collateral_set.h"
#include "base/file.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define PATH_BYTES 4096

/* Reads one file of the folder into the arena. A missing file is no error: *found is false. */
static bool read_part(const char *folder, const char *name, struct arena *arena, bool *found,
                      struct bytes_view *out, struct error *err)
{
    auto_free char *bytes = NULL;
    size_t len = 0;
    char *path = arena_printf(arena, "%s/%s", folder, name);

    if (!path)
        return arena_exhausted(err);
    *found = file_read(path, COLLATERAL_PART_MAX, &bytes, &len, err);
    if (!*found)
        return err->code == ERROR_NOT_FOUND;
    *out = (struct bytes_view){ arena_memdup(arena, bytes, len), len };
    return out->bytes || arena_exhausted(err);
}

static bool need_part(const char *folder, const char *name, struct arena *arena,
                      struct bytes_view *out, struct error *err)
{
    bool found = false;

    return read_part(folder, name, arena, &found, out, err) && found;
}

/* Joins object and signature to one response again. */
static bool join_response(const char *name, struct bytes_view object, struct bytes_view signature,
                          struct arena *arena, struct bytes_view *out, struct error *err)
{
    static const char middle[] = ",\"signature\":\"", end[] = "\"}";

    while (signature.len > 0 && signature.bytes[signature.len - 1] == '\n')
        signature.len--;
    const struct bytes_view parts[] = {
        { (const uint8_t *)"{\"", 2 },
        { (const uint8_t *)name, strlen(name) },
        { (const uint8_t *)"\":", 2 },
        object,
        { (const uint8_t *)middle, sizeof(middle) - 1 },
        signature,
        { (const uint8_t *)end, sizeof(end) - 1 },
    };
    size_t len = 0, at = 0;

    for (size_t i = 0; i < ARRAY_LEN(parts); i++)
        len += parts[i].len;
    uint8_t *text = arena_alloc(arena, len);
    if (!text)
        return arena_exhausted(err);
    for (size_t i = 0; i < ARRAY_LEN(parts); i++) {
        if (parts[i].len > 0)
            memcpy(text + at, parts[i].bytes, parts[i].len);
        at += parts[i].len;
    }
    *out = (struct bytes_view){ text, len };
    return true;
}

/* A signed document, and where its parts go. */
struct signed_part {
    const char *file, *name;
    struct bytes_view *response, *object, *signature_hex;
};

/* Reads FILE.json with FILE.sig.hex, or FILE_response.json when there is no FILE.json. */
static bool read_signed(const char *folder, const struct signed_part *part, struct arena *arena,
                        struct error *err)
{
    bool found = false;

    if (!read_part(folder, arena_printf(arena, "%s.json", part->file), arena, &found, part->object,
                   err))
        return false;
    if (found)
        return need_part(folder, arena_printf(arena, "%s.sig.hex", part->file), arena,
                         part->signature_hex, err) &&
               join_response(part->name, *part->object, *part->signature_hex, arena, part->response,
                             err);
    return need_part(folder, arena_printf(arena, "%s_response.json", part->file), arena,
                     part->response, err) &&
           collateral_split_response(part->name, *part->response, part->object, part->signature_hex,
                                     err);
}

static bool read_parts(const char *path, struct collateral_set *set, struct error *err)
{
    struct collateral_source *s = &set->source;
    const struct signed_part tcb_info = { "tcb_info", "tcbInfo", &set->tcb_info_response,
                                          &s->tcb_info, &s->tcb_info_signature_hex };
    const struct signed_part qe_identity = { "qe_identity", "enclaveIdentity",
                                             &set->qe_identity_response, &s->qe_identity,
                                             &s->qe_identity_signature_hex };

    arena_init(&set->memory, COLLATERAL_SET_MAX);
    return need_part(path, "root_ca_crl.der", &set->memory, &s->root_ca_crl, err) &&
           need_part(path, "pck_crl.der", &set->memory, &s->pck_crl, err) &&
           need_part(path, "pck_crl_issuer_chain.pem", &set->memory, &s->pck_crl_chain, err) &&
           need_part(path, "tcb_info_issuer_chain.pem", &set->memory, &s->tcb_info_chain, err) &&
           need_part(path, "qe_identity_issuer_chain.pem", &set->memory, &s->qe_identity_chain,
                     err) &&
           read_signed(path, &tcb_info, &set->memory, err) &&
           read_signed(path, &qe_identity, &set->memory, err);
}

bool collateral_load_folder(const char *path, const struct trust_root *root, struct collateral *out,
                            struct error *err)
{
    auto_collateral_set struct collateral_set set = { .ca = PCK_CA_PLATFORM };

    return read_parts(path, &set, err) && collateral_load(&set.source, root, out, err);
}

bool collateral_set_read_folder(const char *path, struct collateral_set *out, struct error *err)
{
    auto_collateral_set struct collateral_set set = { .ca = PCK_CA_PLATFORM };

    if (!read_parts(path, &set, err) || !collateral_set_label(&set, err))
        return error_wrap(err, "collateral in %s", path);
    *out = set;
    set = (struct collateral_set){ .ca = PCK_CA_PLATFORM };
    return true;
}

/* A folder with pck_crl.der is meant to be a set. */
static bool has_set(const char *path)
{
    char file[PATH_BYTES];
    int len = snprintf(file, sizeof(file), "%s/pck_crl.der", path);

    return len > 0 && (size_t)len < sizeof(file) && access(file, F_OK) == 0;
}

static bool visit_folder(const char *path,
                         bool (*visit)(void *cookie, const struct collateral_set *set,
                                       struct error *err),
                         void *cookie, struct error *err)
{
    auto_collateral_set struct collateral_set set = { .ca = PCK_CA_PLATFORM };

    return collateral_set_read_folder(path, &set, err) && visit(cookie, &set, err);
}

bool collateral_folders_walk(const char *path,
                             bool (*visit)(void *cookie, const struct collateral_set *set,
                                           struct error *err),
                             void *cookie, struct error *err)
{
    auto_dir DIR *dir = opendir(path);
    char below[PATH_BYTES];
    const struct dirent *entry = NULL;
    size_t n = 0;

    if (!dir)
        return error_set_errno(err, errno, "collateral in %s", path);
    if (has_set(path))
        return visit_folder(path, visit, cookie, err);
    while ((entry = readdir(dir)) != NULL) {
        int len = snprintf(below, sizeof(below), "%s/%s", path, entry->d_name);

        if (entry->d_name[0] == '.' || len < 0 || (size_t)len >= sizeof(below) || !has_set(below))
            continue;
        if (++n > COLLATERAL_BUNDLE_SETS_MAX)
            return error_set(err, ERROR_INVALID_ARGUMENT, "%s has more than %d sets of collateral",
                             path, COLLATERAL_BUNDLE_SETS_MAX);
        if (!visit_folder(below, visit, cookie, err))
            return false;
    }
    return n > 0 ||
           error_set(err, ERROR_NOT_FOUND,
                     "%s has no collateral: neither it nor a folder in it has pck_crl.der", path);
}
