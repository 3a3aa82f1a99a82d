/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "base/error.h"

#include <stddef.h>

/*
 * Turns structs into canonical protobuf bytes and back, by tables of their fields. The form is
 * described in record/encoding.h, the wire format at
 * https://protobuf.dev/programming-guides/encoding.
 */
enum field_type {
    FIELD_TYPE_U32, /* also enums */
    FIELD_TYPE_U64,
    FIELD_TYPE_BOOL,
    FIELD_TYPE_TEXT,    /* char[size], NUL-terminated: valid UTF-8 without control characters */
    FIELD_TYPE_BYTES,   /* uint8_t[size], all of it; all zeros is the default */
    FIELD_TYPE_BLOB,    /* uint8_t[size], of which a length of its own counts; 0 is the default */
    FIELD_TYPE_MESSAGE, /* a struct */
    FIELD_TYPE_VERSION, /* not in the struct; always encoded; other versions are refused */
};

struct field_list;

struct field {
    uint32_t number;
    enum field_type type;
    const char *name;
    size_t offset, size; /* offset in the struct; size of one element */
    bool has_flag;       /* a bool at flag_offset says whether the field is present */
    size_t flag_offset;
    size_t max;      /* 0: one field; otherwise an array of at most so many elements */
    size_t n_offset; /* the array's or blob's length is stored there, as a uint32_t */
    const struct field_list *fields; /* of a message */
    uint32_t version;
};

struct field_list {
    const struct field *items;
    size_t n;
    size_t struct_size;
};
#define FIELD_LIST(array, Struct)                                   \
    {                                                               \
        (array), sizeof(array) / sizeof((array)[0]), sizeof(Struct) \
    }

/* Does not compile when the struct's member has another size than its type. */
#define FIELD_SIZE(Struct, member) sizeof(((Struct *)0)->member)
#define FIELD_SIZED(Struct, member, bytes) \
    (sizeof(char[FIELD_SIZE(Struct, member) == (bytes) ? 1 : -1]) * (bytes))

#define FIELD_NUMBER(num, kind, Struct, member, bytes)                                        \
    {                                                                                         \
        .number = (num), .type = (kind), .name = #member, .offset = offsetof(Struct, member), \
        .size = FIELD_SIZED(Struct, member, bytes)                                            \
    }
#define FIELD_U32(num, Struct, member)  FIELD_NUMBER(num, FIELD_TYPE_U32, Struct, member, 4)
#define FIELD_U64(num, Struct, member)  FIELD_NUMBER(num, FIELD_TYPE_U64, Struct, member, 8)
#define FIELD_BOOL(num, Struct, member) FIELD_NUMBER(num, FIELD_TYPE_BOOL, Struct, member, 1)

/* NOLINTBEGIN(bugprone-macro-parentheses): names of members take none */
#define FIELD_OF(num, kind, Struct, member)                                               \
    .number = (num), .type = (kind), .name = #member, .offset = offsetof(Struct, member), \
    .size = FIELD_SIZE(Struct, member)
#define FIELD_FLAG(Struct, flag) .has_flag = true, .flag_offset = offsetof(Struct, flag)
#define FIELD_EACH(num, kind, Struct, array, n)                                         \
    .number = (num), .type = (kind), .name = #array, .offset = offsetof(Struct, array), \
    .size = FIELD_SIZE(Struct, array[0]),                                               \
    .max = FIELD_SIZE(Struct, array) / FIELD_SIZE(Struct, array[0]),                    \
    .n_offset = offsetof(Struct, n)
/* NOLINTEND(bugprone-macro-parentheses) */

#define FIELD_TEXT(num, Struct, member)                \
    {                                                  \
        FIELD_OF(num, FIELD_TYPE_TEXT, Struct, member) \
    }
#define FIELD_BYTES(num, Struct, member)                \
    {                                                   \
        FIELD_OF(num, FIELD_TYPE_BYTES, Struct, member) \
    }
#define FIELD_BYTES_IF(num, Struct, member, flag)                                 \
    {                                                                             \
        FIELD_OF(num, FIELD_TYPE_BYTES, Struct, member), FIELD_FLAG(Struct, flag) \
    }
#define FIELD_BYTES_EACH(num, Struct, array, n)             \
    {                                                       \
        FIELD_EACH(num, FIELD_TYPE_BYTES, Struct, array, n) \
    }
#define FIELD_MESSAGE_EACH(num, Struct, array, n, list)                          \
    {                                                                            \
        FIELD_EACH(num, FIELD_TYPE_MESSAGE, Struct, array, n), .fields = &(list) \
    }
#define FIELD_BLOB(num, Struct, member, n)                                              \
    {                                                                                   \
        FIELD_OF(num, FIELD_TYPE_BLOB, Struct, member), .n_offset = offsetof(Struct, n) \
    }
#define FIELD_MESSAGE(num, Struct, member, list)                             \
    {                                                                        \
        FIELD_OF(num, FIELD_TYPE_MESSAGE, Struct, member), .fields = &(list) \
    }
#define FIELD_MESSAGE_IF(num, Struct, member, flag, list)                            \
    {                                                                                \
        FIELD_OF(num, FIELD_TYPE_MESSAGE, Struct, member), FIELD_FLAG(Struct, flag), \
            .fields = &(list)                                                        \
    }
#define FIELD_VERSION(num, value)                                                                 \
    {                                                                                             \
        .number = (num), .type = FIELD_TYPE_VERSION, .name = "record_version", .version = (value) \
    }

/* Returns the number of bytes written. The program aborts when size is too small for the struct. */
size_t fields_encode(const struct field_list *list, const void *object, uint8_t *out, size_t size);

/* Decodes all len bytes. *out is written on success only. INVALID_ARGUMENT names the wrong field.
 * FAILED_PRECONDITION means another version. */
MUST_USE bool fields_decode(const struct field_list *list, const uint8_t *bytes, size_t len,
                            void *out, struct error *err);
