/* SPDX-License-Identifier: Apache-2.0 */
#include "proto/decode.h"
#include "tests/unit/proto/sample.h"
#include "tests/unit/test.h"

#include <stdlib.h>

#include "csi.pb-c.h"

static const struct rpc_limits limits = { 16000, 128, 4096 };

static enum error_code decode_as(const ProtobufCMessageDescriptor *type, const struct wire *w,
                                 struct error *err)
{
    auto_arena struct arena arena = { .blocks = NULL };
    ProtobufCMessage *message = NULL;

    arena_init(&arena, 1 << 20);
    *err = (struct error)ERROR_INIT;
    if (rpc_decode(type, &limits, (struct rpc_bytes){ w->bytes, w->len }, &arena, &message, err))
        assert_ptr_equal(message->descriptor, type);
    return err->code;
}

static void node_ids_and_tokens_may_be_longer(void **state UNUSED)
{
    const ProtobufCMessageDescriptor *publish_type =
        &csi__v1__controller_publish_volume_request__descriptor;
    const ProtobufCMessageDescriptor *list_type = &csi__v1__list_volumes_request__descriptor;
    struct error err = ERROR_INIT;
    auto_wire struct wire w = { .len = 0 };

    wire_long(&w, 2, 256);
    assert_int_equal(decode_as(publish_type, &w, &err), ERROR_NONE);
    w.len = 0;
    wire_long(&w, 2, 257);
    assert_int_equal(decode_as(publish_type, &w, &err), ERROR_INVALID_ARGUMENT);
    w.len = 0;
    wire_long(&w, 2, 1024);
    assert_int_equal(decode_as(list_type, &w, &err), ERROR_NONE);
    w.len = 0;
    wire_long(&w, 2, 1025);
    assert_int_equal(decode_as(list_type, &w, &err), ERROR_INVALID_ARGUMENT);
}

static void a_message_too_large_for_the_arena_is_refused(void **state UNUSED)
{
    auto_arena struct arena arena = { .blocks = NULL };
    ProtobufCMessage *message = NULL;
    struct error err = ERROR_INIT;
    auto_wire struct wire w = { .len = 0 };

    for (int i = 0; i < 4000; i++) /* each has two bytes, and becomes a struct */
        wire_bytes(&w, 3, "", 0);
    arena_init(&arena, 65536);
    assert_refused(ERROR_RESOURCE_EXHAUSTED,
                   rpc_decode(&csi__v1__create_volume_request__descriptor, &limits,
                              (struct rpc_bytes){ w.bytes, w.len }, &arena, &message, &err));
    assert_null(message);
}

/* --- Every message of every service --- */

static void every_sample_is_accepted(void **state UNUSED)
{
    struct error err = ERROR_INIT;
    unsigned n = 0;

    for (size_t s = 0; s < SAMPLE_SERVICES; s++) {
        for (unsigned m = 0; m < sample_services[s]->n_methods; m++, n++) {
            auto_wire struct wire w = { .len = 0 };

            wire_sample(&w, sample_services[s]->methods[m].input);
            if (decode_as(sample_services[s]->methods[m].input, &w, &err) != ERROR_NONE)
                fail_msg("%s", err.text);
        }
    }
    assert_true(n >= 48);
}

static void decode_exact(const ProtobufCMessageDescriptor *type, const uint8_t *bytes, size_t len)
{
    auto_free uint8_t *copy = malloc(len > 0 ? len : 1);
    auto_arena struct arena arena = { .blocks = NULL };
    ProtobufCMessage *message = NULL;
    struct error err = ERROR_INIT;

    assert_non_null(copy);
    if (len > 0)
        memcpy(copy, bytes, len);
    arena_init(&arena, 1 << 20);
    if (!rpc_decode(type, &limits, (struct rpc_bytes){ copy, len }, &arena, &message, &err))
        assert_int_equal(err.code, ERROR_INVALID_ARGUMENT);
}

static void a_message_cut_at_any_length_does_no_harm(void **state UNUSED)
{
    for (size_t s = 0; s < SAMPLE_SERVICES; s++) {
        for (unsigned m = 0; m < sample_services[s]->n_methods; m++) {
            const ProtobufCMessageDescriptor *type = sample_services[s]->methods[m].input;
            auto_wire struct wire w = { .len = 0 };

            wire_sample(&w, type);
            for (size_t len = 0; len < w.len; len++)
                decode_exact(type, w.bytes, len);
        }
    }
}

static void a_message_with_any_byte_changed_does_no_harm(void **state UNUSED)
{
    static const uint8_t changes[] = { 0x01, 0x02, 0x07, 0x08, 0x80, 0xFF };

    for (size_t s = 0; s < SAMPLE_SERVICES; s++) {
        for (unsigned m = 0; m < sample_services[s]->n_methods; m++) {
            const ProtobufCMessageDescriptor *type = sample_services[s]->methods[m].input;
            auto_wire struct wire w = { .len = 0 };

            wire_sample(&w, type);
            for (size_t i = 0; i < w.len; i++) {
                for (size_t c = 0; c < sizeof(changes); c++) {
                    w.bytes[i] ^= changes[c];
                    decode_exact(type, w.bytes, w.len);
                    w.bytes[i] ^= changes[c];
                }
            }
        }
    }
}

/* --- Secrets --- */

#define CANARY "hunter2"

/* Adds secrets with a defect; defect 0 is none. */
static void add_secrets(struct wire *w, unsigned field, int defect)
{
    static const char *const values[] = { CANARY, CANARY "\xFF", CANARY "\x1B", CANARY CANARY };
    auto_free char *long_value = sample_text(5000);
    auto_wire struct wire entry = { .len = 0 };

    memcpy(long_value, CANARY, sizeof(CANARY) - 1);
    wire_text(&entry, 1, CANARY);
    wire_text(&entry, 2, defect < 4 ? values[defect] : long_value);
    wire_bytes(w, field, entry.bytes, entry.len);
    if (defect == 3) /* the key twice */
        wire_bytes(w, field, entry.bytes, entry.len);
}

static void no_error_of_any_method_shows_a_secret(void **state UNUSED)
{
    unsigned n = 0;

    for (size_t s = 0; s < SAMPLE_SERVICES; s++) {
        for (unsigned m = 0; m < sample_services[s]->n_methods; m++) {
            const ProtobufCMessageDescriptor *type = sample_services[s]->methods[m].input;
            const ProtobufCFieldDescriptor *field =
                protobuf_c_message_descriptor_get_field_by_name(type, "secrets");

            for (int defect = 0; field && defect < 5; defect++, n++) {
                auto_wire struct wire w = { .len = 0 };
                struct error err = ERROR_INIT;

                add_secrets(&w, field->id, defect);
                for (size_t whole = w.len; w.len > 0; w.len--) {
                    enum error_code code = decode_as(type, &w, &err);

                    if (w.len == whole)
                        assert_int_equal(code, defect ? ERROR_INVALID_ARGUMENT : ERROR_NONE);
                    assert_null(strstr(err.text, "hunt"));
                }
            }
        }
    }
    assert_int_equal(n, 22 * 5); /* fields marked csi_secret in CSI 1.13 */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(node_ids_and_tokens_may_be_longer),
        cmocka_unit_test(a_message_too_large_for_the_arena_is_refused),
        cmocka_unit_test(every_sample_is_accepted),
        cmocka_unit_test(a_message_cut_at_any_length_does_no_harm),
        cmocka_unit_test(a_message_with_any_byte_changed_does_no_harm),
        cmocka_unit_test(no_error_of_any_method_shows_a_secret),
    };

    return RUN_TESTS(tests);
}
