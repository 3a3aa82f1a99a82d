/* SPDX-License-Identifier: Apache-2.0 */
#include "base/arena.h"
#include "keys/key_record.h"
#include "tests/fuzz/fuzz.h"

#include <assert.h>
#include <string.h>

#define DRIVER "csi.tdvol.dev"

static void *take(void *arena, size_t len)
{
    return arena_alloc(arena, len);
}

static void leave(void *arena UNUSED, void *pointer UNUSED)
{
}

/* A record as the broker's answer has it. What is taken must be safe to hand to a worker. */
int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len)
{
    auto_arena struct arena arena = { .limit = 1u << 20 };
    ProtobufCAllocator allocator = { take, leave, &arena };
    struct error err = ERROR_INIT;
    struct key_record record;
    Tdvol__Keybroker__V1__Record *message =
        tdvol__keybroker__v1__record__unpack(&allocator, len, bytes);

    if (!message || !key_record_from_message(message, DRIVER, NULL, &record, &err))
        return 0;
    const struct volume_record *volume = &record.volume;
    assert(strlen(volume->volume_id) <= VOLUME_ID_MAX && volume->volume_id[0] != '\0');
    assert(volume->phase >= RECORD_NEW && volume->phase < RECORD_ERASED);
    assert(volume->n_extents <= RECORD_EXTENTS_MAX);
    assert(volume->n_header_digests <= RECORD_DIGESTS_MAX);
    assert(volume->spec.size_bytes < volume->spec.mapping_bytes);
    assert(volume->spec.mapping_bytes < volume->spec.device_bytes);
    return 0;
}
