/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/sim/td_file.h"

#include "attest/event_log.h"
#include "base/digest.h"
#include "base/file.h"
#include "tests/sim/ccel.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

struct member;
typedef bool member_read(const struct member *m, const json_t *value, void *field,
                         struct error *err);

/* One member of an object, and where it goes in the struct that the object describes. */
struct member {
    const char *name;
    member_read *read;
    size_t offset, len;
};

static bool bad(const struct member *m, const char *wanted, struct error *err)
{
    return error_set(err, ERROR_INVALID_ARGUMENT, "\"%s\" is not %s", m->name, wanted);
}

static bool read_hex(const struct member *m, const json_t *value, void *field, struct error *err)
{
    const char *text = json_string_value(value);
    char wanted[40];

    if (text && hex_decode(text, field, m->len))
        return true;
    (void)snprintf(wanted, sizeof(wanted), "%zu hex digits in quotes", 2 * m->len);
    return bad(m, wanted, err);
}

/* "0x" and up to 16 hex digits. */
static bool read_mask(const struct member *m, const json_t *value, void *field, struct error *err)
{
    static const char zeros[] = "0000000000000000";
    const char *text = json_string_value(value);
    size_t digits = text && strncmp(text, "0x", 2) == 0 ? strlen(text + 2) : 0;
    char padded[sizeof(zeros)];
    uint8_t bytes[8];

    if (digits == 0 || digits >= sizeof(zeros))
        return bad(m, "\"0x\" with 1 to 16 hex digits", err);
    (void)snprintf(padded, sizeof(padded), "%s%s", zeros + digits, text + 2);
    if (!hex_decode(padded, bytes, sizeof(bytes)))
        return bad(m, "\"0x\" with 1 to 16 hex digits", err);
    uint64_t number = 0;
    for (size_t i = 0; i < sizeof(bytes); i++)
        number = number << 8 | bytes[i];
    *(uint64_t *)field = number;
    return true;
}

static bool read_u16(const struct member *m, const json_t *value, void *field, struct error *err)
{
    json_int_t number = json_integer_value(value);

    if (!json_is_integer(value) || number < 0 || number > UINT16_MAX)
        return bad(m, "a number from 0 to 65535", err);
    *(uint16_t *)field = (uint16_t)number;
    return true;
}

static bool read_u8(const struct member *m, const json_t *value, void *field, struct error *err)
{
    json_int_t number = json_integer_value(value);

    if (!json_is_integer(value) || number < 0 || number > UINT8_MAX)
        return bad(m, "a number from 0 to 255", err);
    *(uint8_t *)field = (uint8_t)number;
    return true;
}

static bool read_ca(const struct member *m, const json_t *value, void *field, struct error *err)
{
    const char *text = json_string_value(value);

    if (text && strcmp(text, "platform") == 0)
        *(enum pck_ca *)field = PCK_CA_PLATFORM;
    else if (text && strcmp(text, "processor") == 0)
        *(enum pck_ca *)field = PCK_CA_PROCESSOR;
    else
        return bad(m, "\"platform\" or \"processor\"", err);
    return true;
}

#define ROW(s, field, read)                                       \
    {                                                             \
#field, read, offsetof(s, field), sizeof(((s *)0)->field) \
    }
#define RTMR_ROW(i)                                                                               \
    {                                                                                             \
        "rtmr" #i, read_hex, offsetof(struct sim_td, rtmr) + (i)*MEASUREMENT_LEN, MEASUREMENT_LEN \
    }

static const struct member td_members[] = {
    ROW(struct sim_td, version, read_u16),
    ROW(struct sim_td, body_type, read_u16),
    ROW(struct sim_td, tee_tcb_svn, read_hex),
    ROW(struct sim_td, tee_tcb_svn2, read_hex),
    ROW(struct sim_td, mrseam, read_hex),
    ROW(struct sim_td, mrsignerseam, read_hex),
    ROW(struct sim_td, seam_attributes, read_hex),
    ROW(struct sim_td, td_attributes, read_mask),
    ROW(struct sim_td, xfam, read_mask),
    ROW(struct sim_td, mrtd, read_hex),
    ROW(struct sim_td, mrconfigid, read_hex),
    ROW(struct sim_td, mrowner, read_hex),
    ROW(struct sim_td, mrownerconfig, read_hex),
    RTMR_ROW(0),
    RTMR_ROW(1),
    RTMR_ROW(2),
    RTMR_ROW(3),
    ROW(struct sim_td, mrservicetd, read_hex),
};

static const struct member platform_members[] = {
    ROW(struct sim_platform, fmspc, read_hex),       ROW(struct sim_platform, pceid, read_hex),
    ROW(struct sim_platform, tcb_svn, read_hex),     ROW(struct sim_platform, pce_svn, read_u16),
    ROW(struct sim_platform, sgx_type, read_u8),     ROW(struct sim_platform, ca, read_ca),
    ROW(struct sim_platform, platform_id, read_hex),
};

static const struct member *find(const struct member *table, size_t n, const char *name)
{
    for (size_t i = 0; i < n; i++)
        if (strcmp(table[i].name, name) == 0)
            return &table[i];
    return NULL;
}

static bool read_members(json_t *object, const struct member *table, size_t n, void *target,
                         struct error *err)
{
    const char *name = NULL;
    json_t *value = NULL;

    if (!json_is_object(object))
        return error_set(err, ERROR_INVALID_ARGUMENT, "is not a JSON object");
    json_object_foreach(object, name, value)
    {
        const struct member *m = find(table, n, name);

        if (!m)
            return error_set(err, ERROR_INVALID_ARGUMENT, "unknown member \"%.100s\"", name);
        if (!m->read(m, value, (char *)target + m->offset, err))
            return false;
    }
    return true;
}

static bool read_events(const json_t *root, const json_t *events, struct td_file *out,
                        struct error *err)
{
    static const char *const registers[] = { "rtmr0", "rtmr1", "rtmr2", "rtmr3" };

    for (size_t i = 0; i < ARRAY_LEN(registers); i++)
        if (json_object_get(root, registers[i]))
            return error_set(err, ERROR_INVALID_ARGUMENT,
                             "has events and %s: leave out one of them", registers[i]);
    return ccel_make(events, &out->event_log, &out->event_log_len, err) &&
           event_log_replay(out->event_log, out->event_log_len, out->td.rtmr, err);
}

static bool read_root(json_t *root, struct td_file *out, struct error *err)
{
    json_t *platform = json_object_get(root, "platform");
    json_t *events = json_object_get(root, "events");

    if (platform &&
        !read_members(platform, platform_members, ARRAY_LEN(platform_members), &out->platform, err))
        return error_wrap(err, "platform");
    if (events && !read_events(root, events, out, err))
        return false;
    /* the table holds only members of the TD */
    json_t *rest = json_copy(root);
    (void)json_object_del(rest, "platform");
    (void)json_object_del(rest, "events");
    bool ok = read_members(rest, td_members, ARRAY_LEN(td_members), &out->td, err);
    json_decref(rest);
    return ok;
}

void td_file_free(struct td_file *file)
{
    free(file->event_log);
    file->event_log = NULL;
}

bool td_file_read(const char *path, struct td_file *out, struct error *err)
{
    auto_td_file struct td_file made = { .td = sim_td_default, .platform = sim_platform_default };
    auto_free char *text = NULL;
    json_error_t problem;
    size_t len = 0;
    bool ok = true;

    if (path && !file_read(path, TD_FILE_LEN_MAX, &text, &len, err))
        return false;
    if (path) {
        json_t *root = json_loadb(text, len, JSON_REJECT_DUPLICATES, &problem);

        if (!root)
            return error_set(err, ERROR_INVALID_ARGUMENT, "%s: line %d: %s", path, problem.line,
                             problem.text);
        ok = read_root(root, &made, err) || error_wrap(err, "%s", path);
        json_decref(root);
    }
    if (!ok)
        return false;
    *out = made;
    made.event_log = NULL;
    return true;
}
