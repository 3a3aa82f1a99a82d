/* SPDX-License-Identifier: Apache-2.0 */
#include "proto/dispatch.h"
#include "tests/fault/nth_allocation.h"
#include "tests/unit/proto/sample.h"
#include "tests/unit/test.h"

/*
 * For every request of every service, each allocation fails once: those of the heap, and those of the
 * arena, which protobuf-c makes in the middle of a message.
 */

static unsigned arena_fail_at, arena_count;

/* NOLINTBEGIN(readability-identifier-naming): the linker's names */
void *__real_arena_alloc(struct arena *arena, size_t len);
void *__wrap_arena_alloc(struct arena *arena, size_t len);
/* NOLINTEND(readability-identifier-naming) */

void *__wrap_arena_alloc(struct arena *arena, size_t len)
{
    if (arena_fail_at > 0 && ++arena_count == arena_fail_at)
        return NULL;
    return __real_arena_alloc(arena, len);
}

static bool succeed(void *cookie, struct rpc_call *call UNUSED,
                    const ProtobufCMessage *request UNUSED, ProtobufCMessage *response UNUSED,
                    struct error *err UNUSED)
{
    (*(unsigned *)cookie)++;
    return true;
}

static bool dispatch(const ProtobufCServiceDescriptor *descriptor, const char *name,
                     const struct wire *w, bool is_secret, struct error *err)
{
    static const struct rpc_limits limits = { 16384, 128, 4096 };
    const struct rpc_method method = { name, succeed, is_secret ? RPC_SECRET : 0 };
    const struct rpc_service service = { descriptor, &method, 1 };
    auto_arena struct arena arena = { .blocks = NULL };
    struct rpc_call call = { .method = name, .arena = &arena };
    unsigned calls = 0;
    struct rpc_bytes out = { .len = 77 };

    if (is_secret)
        arena_init_secret(&arena, 65536);
    else
        arena_init(&arena, 65536);
    bool ok = rpc_dispatch(&service, &method, &calls, &call, &limits,
                           (struct rpc_bytes){ w->bytes, w->len }, &out, err);
    if (ok)
        assert_true(calls == 1 && out.bytes && out.len == 0);
    else
        assert_true(!out.bytes && out.len == 77);
    return ok;
}

/* Returns how many allocations the request made. */
static unsigned fail_each(const ProtobufCServiceDescriptor *descriptor, unsigned m, bool of_arena)
{
    auto_wire struct wire w = { .len = 0 };
    const ProtobufCMethodDescriptor *method = &descriptor->methods[m];

    wire_sample(&w, method->input);
    for (unsigned n = 1;; n++) {
        struct error err = ERROR_INIT;

        arena_count = 0;
        arena_fail_at = of_arena ? n : 0;
        nth_allocation_fails(of_arena ? 0 : n);
        bool ok = dispatch(descriptor, method->name, &w, of_arena, &err);
        bool has_failed = nth_allocation_stop();
        if (of_arena)
            has_failed = arena_count >= n;
        arena_fail_at = 0;
        assert_int_equal(ok, !has_failed);
        if (ok)
            return n - 1;
        assert_int_equal(err.code, ERROR_RESOURCE_EXHAUSTED);
        assert_string_not_equal(err.text, "");
    }
}

static void fail_all(bool of_arena, unsigned at_least)
{
    unsigned n = 0;

    for (size_t s = 0; s < SAMPLE_SERVICES; s++) {
        for (unsigned m = 0; m < sample_services[s]->n_methods; m++)
            n += fail_each(sample_services[s], m, of_arena);
    }
    assert_true(n >= at_least); /* otherwise the wrapping does not work */
}

static void without_heap_every_call_is_refused(void **state UNUSED)
{
    fail_all(false, 40); /* the arena's first block */
}

static void without_arena_every_call_is_refused(void **state UNUSED)
{
    fail_all(true, 400);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(without_heap_every_call_is_refused),
        cmocka_unit_test(without_arena_every_call_is_refused),
    };

    return RUN_TESTS(tests);
}
