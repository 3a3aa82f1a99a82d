/* SPDX-License-Identifier: Apache-2.0 */
#include "proto/decode.h"

#include "base/utf8.h"

#include <limits.h>
#include <string.h>

/*
 * Two passes, because each sees what the other cannot. The bytes still have the NULs at which
 * protobuf-c cuts strings. The decoded message has the elements of a list or map side by side. Both
 * passes recurse as deep as the schema nests; no message of ours contains itself.
 */

/* Fields that may exceed CSI's 128 bytes: CSI's exceptions, and texts of ours and of kubelet. */
static const struct {
    const char *field;
    size_t max_bytes; /* of a list: of all elements together */
} exceptions[] = {
    { "volume_path", PATH_MAX },
    { "volume_publish_path", PATH_MAX },
    { "staging_target_path", PATH_MAX },
    { "target_path", PATH_MAX },
    { "endpoint", PATH_MAX },
    { "node_id", 256 },
    { "volume_id", 512 }, /* what the record cannot have, the handler refuses */
    { "source_volume_id", 512 },
    { "snapshot_id", 512 },
    { "group_snapshot_id", 512 },
    { "source_volume_ids", 64 * 1024 },
    { "snapshot_ids", 64 * 1024 },
    { "mount_flags", 4096 },
    { "starting_token", 1024 },
    { "next_token", 1024 },
    { "error", 4096 },
};

/* 0 when the field has no exception */
static size_t exception_of(const char *field)
{
    for (size_t i = 0; i < ARRAY_LEN(exceptions); i++) {
        if (strcmp(field, exceptions[i].field) == 0)
            return exceptions[i].max_bytes;
    }
    return 0;
}

static bool is_text_field(const ProtobufCFieldDescriptor *field, const char *name)
{
    return field->type == PROTOBUF_C_TYPE_STRING && field->label != PROTOBUF_C_LABEL_REPEATED &&
           strcmp(field->name, name) == 0;
}

/* map<string, string> is a list of such messages on the wire. */
static bool is_map_entry(const ProtobufCMessageDescriptor *type)
{
    return type->n_fields == 2 && is_text_field(&type->fields[0], "key") &&
           is_text_field(&type->fields[1], "value");
}

/* --- First pass: bytes --- */

/* Each reader removes from the front of in what it reads. */
static bool skip(struct rpc_bytes *in, uint64_t len)
{
    if (len > in->len)
        return false;
    in->bytes += len;
    in->len -= (size_t)len;
    return true;
}

static bool read_varint(struct rpc_bytes *in, uint64_t *out)
{
    uint64_t value = 0;

    for (unsigned shift = 0; shift < 64 && in->len > 0; shift += 7) {
        uint8_t byte = *in->bytes;

        (void)skip(in, 1);
        value |= (uint64_t)(byte & 0x7F) << shift;
        if (byte < 0x80) {
            *out = value;
            return true;
        }
    }
    return false;
}

static bool check_text(const char *name, const uint8_t *text, size_t len, size_t max,
                       struct error *err)
{
    if (len > max)
        return error_set(err, ERROR_INVALID_ARGUMENT, "%s has %zu bytes, at most %zu are allowed",
                         name, len, max);
    for (size_t i = 0; i < len;) {
        uint32_t character = 0;
        size_t n = utf8_next(text + i, len - i, &character);

        if (n == 0)
            return error_set(err, ERROR_INVALID_ARGUMENT, "%s is not valid UTF-8", name);
        if (utf8_is_control(character))
            return error_set(err, ERROR_INVALID_ARGUMENT,
                             "%s contains the control character U+%04X", name, (unsigned)character);
        i += n;
    }
    return true;
}

static bool malformed(const ProtobufCMessageDescriptor *type, struct error *err)
{
    return error_set(err, ERROR_INVALID_ARGUMENT, "%s is not a well-formed message", type->name);
}

static bool check_bytes(const ProtobufCMessageDescriptor *type, const char *name,
                        const struct rpc_limits *limits, struct rpc_bytes in, struct error *err);

/* When parent is an entry of a map, name is the map's name: "secrets", not "value".
 * NOLINTNEXTLINE(misc-no-recursion): as deep as the schema */
static bool check_element(const ProtobufCMessageDescriptor *parent,
                          const ProtobufCFieldDescriptor *field, const char *name,
                          const struct rpc_limits *limits, struct rpc_bytes in, struct error *err)
{
    if (field->type == PROTOBUF_C_TYPE_MESSAGE)
        return check_bytes(field->descriptor, field->name, limits, in, err);
    if (field->type != PROTOBUF_C_TYPE_STRING)
        return true;
    if (is_map_entry(parent))
        return check_text(name, in.bytes, in.len, limits->map_bytes, err);

    size_t max = exception_of(field->name);
    return check_text(field->name, in.bytes, in.len, max > 0 ? max : limits->string_bytes, err);
}

/* NOLINTNEXTLINE(misc-no-recursion): as deep as the schema */
static bool check_bytes(const ProtobufCMessageDescriptor *type, const char *name,
                        const struct rpc_limits *limits, struct rpc_bytes in, struct error *err)
{
    enum { VARINT, FIXED64, LENGTH, START_GROUP, END_GROUP, FIXED32 };

    while (in.len > 0) {
        uint64_t tag = 0, value = 0;

        if (!read_varint(&in, &tag) || tag > UINT32_MAX || tag < 8) /* there is no field 0 */
            return malformed(type, err);

        bool is_good = false;
        unsigned wire = tag & 7;
        if (wire == VARINT)
            is_good = read_varint(&in, &value);
        else if (wire == FIXED64 || wire == FIXED32)
            is_good = skip(&in, wire == FIXED64 ? 8 : 4);
        else if (wire == LENGTH)
            is_good = read_varint(&in, &value) && value <= in.len;
        if (!is_good)
            return malformed(type, err);
        if (wire != LENGTH)
            continue;

        const ProtobufCFieldDescriptor *field =
            protobuf_c_message_descriptor_get_field(type, (unsigned)(tag >> 3));
        struct rpc_bytes element = { in.bytes, (size_t)value };
        if (field && !check_element(type, field, name, limits, element, err))
            return false;
        (void)skip(&in, value);
    }
    return true;
}

/* --- Second pass: the decoded message --- */

/* Only the offset of a field is known. Copying its pointer keeps the aliasing rules. */
static const void *pointer_at(const void *base, size_t offset)
{
    const void *pointer = NULL;

    memcpy(&pointer, (const uint8_t *)base + offset, sizeof(pointer));
    return pointer;
}

static const char *text_at(const void *base, size_t offset)
{
    const char *text = pointer_at(base, offset);

    return text ? text : "";
}

/* The elements of a repeated field. A single field is a list of one. */
struct wire_list {
    const void *elements; /* pointers */
    size_t n;
};

static struct wire_list list_of(const ProtobufCMessage *message,
                                const ProtobufCFieldDescriptor *field)
{
    struct wire_list list = { (const uint8_t *)message + field->offset, 1 };

    if (field->label == PROTOBUF_C_LABEL_REPEATED) {
        list.elements = pointer_at(message, field->offset);
        memcpy(&list.n, (const uint8_t *)message + field->quantifier_offset, sizeof(list.n));
    } else if (field->flags & PROTOBUF_C_FIELD_FLAG_ONEOF) {
        uint32_t which = 0; /* the enum that tells which member of the oneof is set */

        memcpy(&which, (const uint8_t *)message + field->quantifier_offset, sizeof(which));
        list.n = which == field->id;
    }
    return list;
}

static const void *element(const struct wire_list *list, size_t i)
{
    return pointer_at(list->elements, i * sizeof(void *));
}

static bool too_long(const char *name, size_t max, struct error *err)
{
    return error_set(err, ERROR_INVALID_ARGUMENT, "%s has more than %zu bytes in all", name, max);
}

static bool check_map(const ProtobufCFieldDescriptor *field, const struct wire_list *list,
                      const struct rpc_limits *limits, struct error *err)
{
    const ProtobufCMessageDescriptor *entry = field->descriptor;
    size_t key_at = entry->fields[0].offset, value_at = entry->fields[1].offset;
    size_t sum = 0;

    for (size_t i = 0; i < list->n; i++) {
        const char *key = text_at(element(list, i), key_at);

        sum += strlen(key) + strlen(text_at(element(list, i), value_at));
        if (sum > limits->map_bytes)
            return too_long(field->name, limits->map_bytes, err);
        for (size_t j = 0; j < i; j++) {
            if (strcmp(text_at(element(list, j), key_at), key) == 0)
                return error_set(err, ERROR_INVALID_ARGUMENT, "%s has a key twice", field->name);
        }
    }
    return true;
}

static bool check_list_sum(const ProtobufCFieldDescriptor *field, const struct wire_list *list,
                           struct error *err)
{
    size_t max = exception_of(field->name);
    size_t sum = 0;

    for (size_t i = 0; max > 0 && i < list->n; i++) {
        const char *text = element(list, i);

        sum += text ? strlen(text) : 0;
        if (sum > max)
            return too_long(field->name, max, err);
    }
    return true;
}

static bool check_message(const ProtobufCMessage *message, const struct rpc_limits *limits,
                          struct error *err);

/* NOLINTNEXTLINE(misc-no-recursion): as deep as the schema */
static bool check_field(const ProtobufCFieldDescriptor *field, const struct wire_list *list,
                        const struct rpc_limits *limits, struct error *err)
{
    bool is_repeated = field->label == PROTOBUF_C_LABEL_REPEATED;

    if (field->type == PROTOBUF_C_TYPE_STRING && is_repeated)
        return check_list_sum(field, list, err);
    if (field->type != PROTOBUF_C_TYPE_MESSAGE)
        return true;
    if (is_repeated && is_map_entry(field->descriptor))
        return check_map(field, list, limits, err);
    for (size_t i = 0; i < list->n; i++) {
        const ProtobufCMessage *part = element(list, i);

        if (part && !check_message(part, limits, err))
            return false;
    }
    return true;
}

/* NOLINTNEXTLINE(misc-no-recursion): as deep as the schema */
static bool check_message(const ProtobufCMessage *message, const struct rpc_limits *limits,
                          struct error *err)
{
    for (unsigned i = 0; i < message->descriptor->n_fields; i++) {
        const ProtobufCFieldDescriptor *field = &message->descriptor->fields[i];
        struct wire_list list = list_of(message, field);

        if (!check_field(field, &list, limits, err))
            return false;
    }
    return true;
}

/* --- Both passes, with protobuf-c between them --- */

struct wire_source {
    struct arena *arena;
    bool is_exhausted;
};

static void *take(void *data, size_t len)
{
    struct wire_source *source = data;
    void *bytes = arena_alloc(source->arena, len);

    if (!bytes)
        source->is_exhausted = true;
    return bytes;
}

static void leave(void *data UNUSED, void *bytes UNUSED)
{
    /* the arena frees it */
}

bool rpc_decode(const ProtobufCMessageDescriptor *type, const struct rpc_limits *limits,
                struct rpc_bytes in, struct arena *arena, ProtobufCMessage **out, struct error *err)
{
    if (in.len > limits->message_bytes)
        return error_set(err, ERROR_INVALID_ARGUMENT, "%s has %zu bytes, at most %zu are allowed",
                         type->name, in.len, limits->message_bytes);
    if (!check_bytes(type, type->name, limits, in, err))
        return false;

    struct wire_source source = { .arena = arena };
    ProtobufCAllocator allocator = { take, leave, &source };
    ProtobufCMessage *message = protobuf_c_message_unpack(type, &allocator, in.len, in.bytes);
    if (source.is_exhausted)
        return arena_exhausted(err);
    if (!message)
        return malformed(type, err);
    if (!check_message(message, limits, err))
        return false;
    *out = message;
    return true;
}
