/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/proto/sample.h"

#include <stdlib.h>
#include <string.h>

#include "csi.pb-c.h"
#include "keybroker.pb-c.h"
#include "pluginregistration.pb-c.h"

enum { VARINT = 0, LENGTH = 2 };

const ProtobufCServiceDescriptor *const sample_services[SAMPLE_SERVICES] = {
    &csi__v1__identity__descriptor,
    &csi__v1__controller__descriptor,
    &csi__v1__group_controller__descriptor,
    &csi__v1__snapshot_metadata__descriptor,
    &csi__v1__node__descriptor,
    &tdvol__keybroker__v1__key_broker__descriptor,
    &pluginregistration__registration__descriptor,
};

void wire_free(struct wire *w)
{
    free(w->bytes);
    *w = (struct wire){ .len = 0 };
}

void wire_raw(struct wire *w, const void *bytes, size_t len)
{
    uint8_t *grown = realloc(w->bytes, w->len + len + 1);

    if (!grown)
        abort();
    if (len > 0)
        memcpy(grown + w->len, bytes, len);
    w->bytes = grown;
    w->len += len;
}

void wire_varint(struct wire *w, uint64_t value)
{
    for (; value >= 0x80; value >>= 7)
        wire_raw(w, (uint8_t[]){ (uint8_t)(value | 0x80) }, 1);
    wire_raw(w, (uint8_t[]){ (uint8_t)value }, 1);
}

void wire_tag(struct wire *w, unsigned field, unsigned wire_type)
{
    wire_varint(w, field << 3 | wire_type);
}

void wire_bytes(struct wire *w, unsigned field, const void *bytes, size_t len)
{
    wire_tag(w, field, LENGTH);
    wire_varint(w, len);
    wire_raw(w, bytes, len);
}

void wire_text(struct wire *w, unsigned field, const char *text)
{
    wire_bytes(w, field, text, strlen(text));
}

char *sample_text(size_t len)
{
    char *text = malloc(len + 1);

    if (!text)
        abort();
    for (size_t i = 0; i < len; i++)
        text[i] = 'x';
    text[len] = '\0';
    return text;
}

void wire_long(struct wire *w, unsigned field, size_t len)
{
    auto_free char *text = sample_text(len);

    wire_text(w, field, text);
}

void wire_entry(struct wire *w, unsigned field, const char *key, const char *value)
{
    auto_wire struct wire entry = { .len = 0 };

    wire_text(&entry, 1, key);
    wire_text(&entry, 2, value);
    wire_bytes(w, field, entry.bytes, entry.len);
}

/* NOLINTNEXTLINE(misc-no-recursion): as deep as the schema */
static void put_part(struct wire *w, const ProtobufCFieldDescriptor *field, const char *text)
{
    const ProtobufCMessageDescriptor *type = field->descriptor;
    auto_wire struct wire part = { .len = 0 };

    if (type->n_fields == 2 && strcmp(type->fields[0].name, "key") == 0) {
        wire_text(&part, 1, text);
        wire_text(&part, 2, "value");
    } else {
        wire_sample(&part, type);
    }
    wire_bytes(w, field->id, part.bytes, part.len);
}

/* NOLINTNEXTLINE(misc-no-recursion) */
static void put_field(struct wire *w, const ProtobufCFieldDescriptor *field, const char *text)
{
    switch (field->type) {
    case PROTOBUF_C_TYPE_STRING:
    case PROTOBUF_C_TYPE_BYTES:
        wire_text(w, field->id, text);
        return;
    case PROTOBUF_C_TYPE_MESSAGE:
        put_part(w, field, text);
        return;
    case PROTOBUF_C_TYPE_INT32:
    case PROTOBUF_C_TYPE_SINT32:
    case PROTOBUF_C_TYPE_INT64:
    case PROTOBUF_C_TYPE_SINT64:
    case PROTOBUF_C_TYPE_UINT32:
    case PROTOBUF_C_TYPE_UINT64:
    case PROTOBUF_C_TYPE_BOOL:
    case PROTOBUF_C_TYPE_ENUM:
        wire_tag(w, field->id, VARINT);
        wire_varint(w, 1);
        return;
    case PROTOBUF_C_TYPE_SFIXED32:
    case PROTOBUF_C_TYPE_FIXED32:
    case PROTOBUF_C_TYPE_FLOAT:
    case PROTOBUF_C_TYPE_SFIXED64:
    case PROTOBUF_C_TYPE_FIXED64:
    case PROTOBUF_C_TYPE_DOUBLE:
    default:
        abort(); /* none of our messages has them */
    }
}

/* NOLINTNEXTLINE(misc-no-recursion) */
void wire_sample(struct wire *w, const ProtobufCMessageDescriptor *type)
{
    for (unsigned i = 0; i < type->n_fields; i++) {
        put_field(w, &type->fields[i], "one");
        if (type->fields[i].label == PROTOBUF_C_LABEL_REPEATED)
            put_field(w, &type->fields[i], "two");
    }
}
