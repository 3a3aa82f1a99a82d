/* SPDX-License-Identifier: Apache-2.0 */
#include "ctl/message.h"

#include "base/clock.h"
#include "base/digest.h"
#include "base/macro.h"

#include <string.h>

static bool ends_with(const char *text, const char *end)
{
    const size_t a = strlen(text), b = strlen(end);

    return a >= b && strcmp(text + a - b, end) == 0;
}

static const ProtobufCMessageDescriptor *message_type(const ProtobufCFieldDescriptor *field)
{
    return field->type == PROTOBUF_C_TYPE_MESSAGE ? field->descriptor : NULL;
}

static bool is_map(const ProtobufCFieldDescriptor *field)
{
    const ProtobufCMessageDescriptor *type = message_type(field);

    return field->label == PROTOBUF_C_LABEL_REPEATED && type &&
           ends_with(type->short_name, "Entry") && type->n_fields == 2 &&
           strcmp(type->fields[0].name, "key") == 0 &&
           type->fields[0].type == PROTOBUF_C_TYPE_STRING &&
           type->fields[1].type == PROTOBUF_C_TYPE_STRING;
}

static json_t *bytes_to_json(const ProtobufCBinaryData *bytes)
{
    auto_free char *hex = calloc(1, 2 * bytes->len + 1);

    if (!hex)
        return NULL;
    hex_encode(bytes->data, bytes->len, hex);
    return json_string(hex);
}

static json_t *enum_to_json(const ProtobufCEnumDescriptor *type, int value)
{
    const ProtobufCEnumValue *known = protobuf_c_enum_descriptor_get_value(type, value);

    return known ? json_string(known->name) : json_integer(value);
}

static json_t *time_to_json(const ProtobufCMessage *time)
{
    const ProtobufCMessageDescriptor *type = time->descriptor;
    const int64_t *seconds = (const void *)((const char *)time + type->fields[0].offset);
    const int32_t *nanos = (const void *)((const char *)time + type->fields[1].offset);
    char text[CLOCK_TEXT_LEN];

    clock_text((uint64_t)*seconds * 1000 + (uint64_t)*nanos / 1000000, text);
    return json_string(text);
}

static json_t *value_to_json(const ProtobufCFieldDescriptor *field, const void *at);

/* Wrappers and times are printed as one value, which is easier to read. */
/* NOLINTNEXTLINE(misc-no-recursion): as deep as the message types */
static json_t *part_to_json(const ProtobufCMessage *part)
{
    const ProtobufCMessageDescriptor *type = part->descriptor;

    if (ends_with(type->name, "Timestamp") && type->n_fields == 2)
        return time_to_json(part);
    if (type->n_fields == 1 && ends_with(type->name, "Value") &&
        strcmp(type->fields[0].name, "value") == 0)
        return value_to_json(&type->fields[0], (const char *)part + type->fields[0].offset);
    return message_to_json(part);
}

/* NOLINTNEXTLINE(misc-no-recursion): as deep as the message types */
static json_t *value_to_json(const ProtobufCFieldDescriptor *field, const void *at)
{
    switch (field->type) {
    case PROTOBUF_C_TYPE_INT32:
    case PROTOBUF_C_TYPE_SINT32:
    case PROTOBUF_C_TYPE_SFIXED32:
        return json_integer(*(const int32_t *)at);
    case PROTOBUF_C_TYPE_UINT32:
    case PROTOBUF_C_TYPE_FIXED32:
        return json_integer(*(const uint32_t *)at);
    case PROTOBUF_C_TYPE_INT64:
    case PROTOBUF_C_TYPE_SINT64:
    case PROTOBUF_C_TYPE_SFIXED64:
    case PROTOBUF_C_TYPE_UINT64:
    case PROTOBUF_C_TYPE_FIXED64:
        return json_integer(*(const int64_t *)at);
    case PROTOBUF_C_TYPE_FLOAT:
        return json_real((double)*(const float *)at);
    case PROTOBUF_C_TYPE_DOUBLE:
        return json_real(*(const double *)at);
    case PROTOBUF_C_TYPE_BOOL:
        return json_boolean(*(const protobuf_c_boolean *)at);
    case PROTOBUF_C_TYPE_ENUM:
        return enum_to_json(field->descriptor, *(const int *)at);
    case PROTOBUF_C_TYPE_STRING:
        return json_string(*(char *const *)at ? *(char *const *)at : "");
    case PROTOBUF_C_TYPE_BYTES:
        return bytes_to_json(at);
    case PROTOBUF_C_TYPE_MESSAGE:
        return part_to_json(*(ProtobufCMessage *const *)at);
    }
    return NULL;
}

static size_t value_size(const ProtobufCFieldDescriptor *field)
{
    switch (field->type) {
    case PROTOBUF_C_TYPE_BYTES:
        return sizeof(ProtobufCBinaryData);
    case PROTOBUF_C_TYPE_STRING:
    case PROTOBUF_C_TYPE_MESSAGE:
        return sizeof(void *);
    case PROTOBUF_C_TYPE_INT64:
    case PROTOBUF_C_TYPE_SINT64:
    case PROTOBUF_C_TYPE_SFIXED64:
    case PROTOBUF_C_TYPE_UINT64:
    case PROTOBUF_C_TYPE_FIXED64:
    case PROTOBUF_C_TYPE_DOUBLE:
        return 8;
    case PROTOBUF_C_TYPE_BOOL:
        return sizeof(protobuf_c_boolean);
    case PROTOBUF_C_TYPE_INT32:
    case PROTOBUF_C_TYPE_SINT32:
    case PROTOBUF_C_TYPE_SFIXED32:
    case PROTOBUF_C_TYPE_UINT32:
    case PROTOBUF_C_TYPE_FIXED32:
    case PROTOBUF_C_TYPE_FLOAT:
    case PROTOBUF_C_TYPE_ENUM:
        return 4;
    }
    return 0;
}

static json_t *map_to_json(const ProtobufCFieldDescriptor *field, char *const *entries, size_t n)
{
    const ProtobufCMessageDescriptor *type = field->descriptor;
    json_t *out = json_object();

    for (size_t i = 0; i < n; i++) {
        char *const *key = (const void *)(entries[i] + type->fields[0].offset);
        char *const *value = (const void *)(entries[i] + type->fields[1].offset);

        (void)json_object_set_new(out, *key ? *key : "", json_string(*value ? *value : ""));
    }
    return out;
}

/* NOLINTNEXTLINE(misc-no-recursion): as deep as the message types */
static json_t *list_to_json(const ProtobufCFieldDescriptor *field, const char *items, size_t n)
{
    json_t *out = json_array();

    for (size_t i = 0; i < n; i++)
        (void)json_array_append_new(out, value_to_json(field, items + i * value_size(field)));
    return out;
}

static bool is_present(const ProtobufCFieldDescriptor *field, const char *base)
{
    if (field->flags & PROTOBUF_C_FIELD_FLAG_ONEOF)
        return *(const uint32_t *)(const void *)(base + field->quantifier_offset) == field->id;
    return field->type != PROTOBUF_C_TYPE_MESSAGE ||
           *(ProtobufCMessage *const *)(const void *)(base + field->offset);
}

/* NOLINTNEXTLINE(misc-no-recursion): as deep as the message types */
json_t *message_to_json(const ProtobufCMessage *message)
{
    const char *base = (const char *)message;
    json_t *out = json_object();

    for (unsigned i = 0; i < message->descriptor->n_fields; i++) {
        const ProtobufCFieldDescriptor *field = &message->descriptor->fields[i];
        const void *at = base + field->offset;

        if (field->label != PROTOBUF_C_LABEL_REPEATED) {
            if (is_present(field, base))
                (void)json_object_set_new(out, field->name, value_to_json(field, at));
            continue;
        }
        const size_t n = *(const size_t *)(const void *)(base + field->quantifier_offset);
        json_t *list = is_map(field) ? map_to_json(field, *(char *const *const *)at, n)
                                     : list_to_json(field, *(const char *const *)at, n);
        (void)json_object_set_new(out, field->name, list);
    }
    return out;
}
