/* SPDX-License-Identifier: Apache-2.0 */
#include "record/field.h"

#include "base/reader.h"
#include "base/secret.h"
#include "base/utf8.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

/* The wire types that canonical records use. */
enum wire { WIRE_VARINT = 0, WIRE_BYTES = 2 };

#define VARINT_MAX 10 /* bytes of a 64-bit number */

static enum wire wire_of(enum field_type type)
{
    bool is_number = type == FIELD_TYPE_U32 || type == FIELD_TYPE_U64 || type == FIELD_TYPE_BOOL ||
                     type == FIELD_TYPE_VERSION;

    return is_number ? WIRE_VARINT : WIRE_BYTES;
}

/* --- encoding --- */

struct wire_writer {
    uint8_t *bytes;
    size_t len, size;
};

static void put(struct wire_writer *w, const void *bytes, size_t len)
{
    assert(len <= w->size - w->len);
    memcpy(w->bytes + w->len, bytes, len);
    w->len += len;
}

static void put_varint(struct wire_writer *w, uint64_t value)
{
    uint8_t bytes[VARINT_MAX];
    size_t n = 0;

    for (; value >= 0x80; value >>= 7)
        bytes[n++] = (uint8_t)(value | 0x80);
    bytes[n++] = (uint8_t)value;
    put(w, bytes, n);
}

static void put_tag(struct wire_writer *w, const struct field *field)
{
    put_varint(w, (uint64_t)field->number << 3 | wire_of(field->type));
}

static void put_block(struct wire_writer *w, const struct field *field, const void *bytes,
                      size_t len)
{
    put_tag(w, field);
    put_varint(w, len);
    put(w, bytes, len);
}

static uint64_t number_at(const struct field *field, const uint8_t *at)
{
    uint64_t wide = 0;
    uint32_t narrow = 0;

    if (field->type == FIELD_TYPE_VERSION)
        return field->version;
    if (field->type == FIELD_TYPE_BOOL)
        return *(const bool *)at;
    if (field->type == FIELD_TYPE_U64) {
        memcpy(&wide, at, sizeof(wide));
        return wide;
    }
    memcpy(&narrow, at, sizeof(narrow));
    return narrow;
}

/* NOLINTBEGIN(misc-no-recursion): as deep as the table of fields */
static void put_fields(struct wire_writer *w, const struct field_list *list, const uint8_t *object);

/* The message's length comes before the message, but is known only afterwards. So write the message
 * first, then move it to make room for tag and length. */
static void put_message(struct wire_writer *w, const struct field *field, const uint8_t *at,
                        bool always)
{
    struct wire_writer inner = { .bytes = w->bytes + w->len, .size = w->size - w->len };
    uint8_t head[2 * VARINT_MAX] = { 0 };
    struct wire_writer before = { .bytes = head, .size = sizeof(head) };

    put_fields(&inner, field->fields, at);
    if (inner.len == 0 && !always)
        return;
    put_tag(&before, field);
    put_varint(&before, inner.len);
    assert(before.len + inner.len <= w->size - w->len);
    memmove(inner.bytes + before.len, inner.bytes, inner.len);
    memcpy(inner.bytes, head, before.len);
    w->len += before.len + inner.len;
}

/* always: write the field even when it has its default value. */
static void put_value(struct wire_writer *w, const struct field *field, const uint8_t *at,
                      bool always)
{
    size_t len = field->size;

    switch (field->type) {
    case FIELD_TYPE_MESSAGE:
        put_message(w, field, at, always);
        return;
    case FIELD_TYPE_TEXT:
        len = strnlen((const char *)at, field->size - 1);
        if (len > 0 || always)
            put_block(w, field, at, len);
        return;
    case FIELD_TYPE_BYTES:
        if (always || !bytes_are_zero(at, len))
            put_block(w, field, at, len);
        return;
    case FIELD_TYPE_BLOB: /* put_blob() */
    case FIELD_TYPE_U32:
    case FIELD_TYPE_U64:
    case FIELD_TYPE_BOOL:
    case FIELD_TYPE_VERSION:
    default:
        if (number_at(field, at) != 0) {
            put_tag(w, field);
            put_varint(w, number_at(field, at));
        }
    }
}

static uint32_t count_at(const struct field *field, const uint8_t *object)
{
    size_t max = field->type == FIELD_TYPE_BLOB ? field->size : field->max;
    uint32_t n = 0;

    memcpy(&n, object + field->n_offset, sizeof(n));
    return n < max ? n : (uint32_t)max;
}

static void put_blob(struct wire_writer *w, const struct field *field, const uint8_t *object)
{
    uint32_t len = count_at(field, object);

    if (len > 0)
        put_block(w, field, object + field->offset, len);
}

static void put_fields(struct wire_writer *w, const struct field_list *list, const uint8_t *object)
{
    for (size_t i = 0; i < list->n; i++) {
        const struct field *field = &list->items[i];
        const uint8_t *at = object + field->offset;

        if (field->type == FIELD_TYPE_BLOB)
            put_blob(w, field, object);
        else if (field->max > 0)
            for (uint32_t k = 0, n = count_at(field, object); k < n; k++)
                put_value(w, field, at + k * field->size, true);
        else if (!field->has_flag || *(const bool *)(object + field->flag_offset))
            put_value(w, field, at, field->has_flag);
    }
}
/* NOLINTEND(misc-no-recursion) */

/* NOLINTNEXTLINE(readability-non-const-parameter): written through the writer */
size_t fields_encode(const struct field_list *list, const void *object, uint8_t *out, size_t size)
{
    struct wire_writer w = { .bytes = out, .size = size };

    put_fields(&w, list, object);
    return w.len;
}

/* --- decoding --- */

struct wire_reader {
    const uint8_t *at, *end;
};

static bool wrong(const struct field *field, const char *what, struct error *err)
{
    return error_set(err, ERROR_INVALID_ARGUMENT, "%s %s", field->name, what);
}

/* Accepts only the shortest form of a number. */
static bool take_varint(struct wire_reader *r, uint64_t *out)
{
    uint64_t value = 0;

    for (unsigned shift = 0; shift < 64 && r->at < r->end; shift += 7) {
        uint8_t byte = *r->at++;

        if (shift == 63 && byte > 1)
            return false;
        value |= (uint64_t)(byte & 0x7F) << shift;
        if (byte & 0x80)
            continue;
        *out = value;
        return byte != 0 || shift == 0;
    }
    return false;
}

static bool take_block(struct wire_reader *r, const struct field *field, struct wire_reader *out,
                       struct error *err)
{
    uint64_t len = 0;

    if (!take_varint(r, &len) || len > (uint64_t)(r->end - r->at))
        return wrong(field, "is cut off", err);
    *out = (struct wire_reader){ .at = r->at, .end = r->at + len };
    r->at += len;
    return true;
}

static bool take_number(struct wire_reader *r, const struct field *field, uint8_t *out,
                        struct error *err)
{
    uint64_t value = 0;

    if (!take_varint(r, &value))
        return wrong(field, "is not a number in its shortest form", err);
    if (field->type == FIELD_TYPE_VERSION)
        return value == field->version || error_set(err, ERROR_FAILED_PRECONDITION,
                                                    "version %llu is not known here: this is %u",
                                                    (unsigned long long)value, field->version);
    if (value == 0)
        return wrong(field, "is present but has its default value", err);
    if ((field->type == FIELD_TYPE_BOOL && value > 1) ||
        (field->type == FIELD_TYPE_U32 && value > UINT32_MAX))
        return wrong(field, "is too large", err);
    if (field->type == FIELD_TYPE_BOOL)
        *(bool *)out = true;
    else if (field->type == FIELD_TYPE_U64)
        memcpy(out, &value, sizeof(value));
    else
        memcpy(out, &(uint32_t){ (uint32_t)value }, sizeof(uint32_t));
    return true;
}

static bool take_text(const struct wire_reader *block, const struct field *field, uint8_t *out,
                      struct error *err)
{
    size_t len = (size_t)(block->end - block->at);

    if (len >= field->size)
        return error_set(err, ERROR_INVALID_ARGUMENT, "%s is longer than %zu bytes", field->name,
                         field->size - 1);
    for (size_t i = 0, n; i < len; i += n) {
        uint32_t character = 0;

        n = utf8_next(block->at + i, len - i, &character);
        if (n == 0 || character == 0 || utf8_is_control(character))
            return wrong(field, "is not valid UTF-8, or has control characters", err);
    }
    memcpy(out, block->at, len);
    out[len] = '\0';
    return true;
}

/* NOLINTBEGIN(misc-no-recursion): as deep as the table of fields */
static bool take_fields(struct wire_reader *r, const struct field_list *list, uint8_t *object,
                        struct error *err);

/* always: the field may have its default value. */
static bool take_value(struct wire_reader *r, const struct field *field, bool always, uint8_t *out,
                       struct error *err)
{
    struct wire_reader block = { .at = NULL };

    if (wire_of(field->type) == WIRE_VARINT)
        return take_number(r, field, out, err);
    if (!take_block(r, field, &block, err))
        return false;
    size_t len = (size_t)(block.end - block.at);
    if (field->type == FIELD_TYPE_BYTES && len != field->size)
        return error_set(err, ERROR_INVALID_ARGUMENT, "%s must have %zu bytes", field->name,
                         field->size);
    if (!always && (len == 0 || (field->type == FIELD_TYPE_BYTES && bytes_are_zero(block.at, len))))
        return wrong(field, "is present but has its default value", err);
    if (field->type == FIELD_TYPE_TEXT)
        return take_text(&block, field, out, err);
    if (field->type == FIELD_TYPE_MESSAGE)
        return take_fields(&block, field->fields, out, err) || error_wrap(err, "%s", field->name);
    memcpy(out, block.at, len);
    return true;
}

static bool take_blob(struct wire_reader *r, const struct field *field, uint8_t *object,
                      struct error *err)
{
    struct wire_reader block = { .at = NULL };

    if (!take_block(r, field, &block, err))
        return false;
    const uint32_t len = (uint32_t)(block.end - block.at);
    if (len == 0)
        return wrong(field, "is present but has its default value", err);
    if (len > field->size)
        return error_set(err, ERROR_INVALID_ARGUMENT, "%s is longer than %zu bytes", field->name,
                         field->size);
    memcpy(object + field->offset, block.at, len);
    memcpy(object + field->n_offset, &len, sizeof(len));
    return true;
}

static bool take_field(struct wire_reader *r, const struct field *field, uint8_t *object,
                       struct error *err)
{
    uint8_t *at = object + field->offset;
    uint32_t n = 0;

    if (field->type == FIELD_TYPE_BLOB)
        return take_blob(r, field, object, err);
    if (field->has_flag)
        *(bool *)(object + field->flag_offset) = true;
    if (field->max > 0) {
        memcpy(&n, object + field->n_offset, sizeof(n));
        if (n == field->max)
            return error_set(err, ERROR_INVALID_ARGUMENT, "more than %zu %s", field->max,
                             field->name);
        at += n++ * field->size;
        memcpy(object + field->n_offset, &n, sizeof(n));
    }
    return take_value(r, field, field->has_flag || field->max > 0, at, err);
}

/* Finds the field with this tag among those from *next on. *next becomes the first field that may
 * follow it. */
static const struct field *find_field(const struct field_list *list, uint64_t tag, size_t *next,
                                      struct error *err)
{
    for (size_t i = *next; i < list->n; i++) {
        const struct field *field = &list->items[i];

        if (tag != ((uint64_t)field->number << 3 | wire_of(field->type)))
            continue;
        *next = field->max > 0 ? i : i + 1;
        return field;
    }
    error_set(err, ERROR_INVALID_ARGUMENT, "field %llu is unknown, out of order or of another type",
              (unsigned long long)(tag >> 3));
    return NULL;
}

static bool take_fields(struct wire_reader *r, const struct field_list *list, uint8_t *object,
                        struct error *err)
{
    size_t next = 0;

    while (r->at < r->end) {
        uint64_t tag = 0;
        const struct field *field = NULL;

        if (!take_varint(r, &tag))
            return error_set(err, ERROR_INVALID_ARGUMENT, "a field's tag is cut off");
        /* The version comes first, and is checked before any other field is read. */
        if (next == 0 && list->items[0].type == FIELD_TYPE_VERSION && tag >> 3 != 1)
            return wrong(&list->items[0], "is missing", err);
        field = find_field(list, tag, &next, err);
        if (!field || !take_field(r, field, object, err))
            return false;
    }
    return next > 0 || list->items[0].type != FIELD_TYPE_VERSION ||
           wrong(&list->items[0], "is missing", err);
}
/* NOLINTEND(misc-no-recursion) */

bool fields_decode(const struct field_list *list, const uint8_t *bytes, size_t len, void *out,
                   struct error *err)
{
    /* no bytes may be NULL: so protobuf-c has a field that was not sent */
    struct wire_reader r = { .at = bytes, .end = len > 0 ? bytes + len : bytes };
    auto_free uint8_t *object = calloc(1, list->struct_size);

    if (!object)
        return error_set(err, ERROR_RESOURCE_EXHAUSTED, "no memory for a record");
    if (!take_fields(&r, list, object, err))
        return false;
    memcpy(out, object, list->struct_size);
    return true;
}
