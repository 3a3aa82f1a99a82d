/* SPDX-License-Identifier: Apache-2.0 */
#include "base/secret.h"
#include "record/check.h"
#include "record/encoding.h"
#include "record/layout.h"
#include "tests/fuzz/fuzz.h"

#include <assert.h>
#include <string.h>

/* Accepted bytes are canonical. */
static void check_spec(const uint8_t *bytes, size_t len)
{
    static struct encoded again;
    struct volume_spec spec;
    struct error err = ERROR_INIT;

    if (!volume_spec_decode(bytes, len, &spec, &err))
        return;
    volume_spec_encode(&spec, &again);
    assert(again.len == len && bytes_are_equal(again.bytes, bytes, len));
}

static void check_change(const uint8_t *bytes, size_t len)
{
    static struct encoded again;
    struct record_change change;
    struct error err = ERROR_INIT;

    if (!record_change_decode(bytes, len, &change, &err))
        return;
    record_change_encode(&change, &again);
    assert(again.len == len && bytes_are_equal(again.bytes, bytes, len));
}

/* Bytes as they come from the store, the broker or the other process. An accepted record is canonical
 * and safe to act on. */
int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len)
{
    static struct encoded again;
    static struct record r;
    struct error err = ERROR_INIT;

    check_spec(bytes, len);
    check_change(bytes, len);
    if (!record_decode(bytes, len, &r, &err))
        return 0;
    record_encode(&r, &again);
    assert(again.len == len && bytes_are_equal(again.bytes, bytes, len));
    if (!record_check(&r, &err))
        return 0;
    assert(strlen(r.volume_id) <= VOLUME_ID_MAX && r.volume_id[0] != '\0');
    assert(r.n_header_digests <= RECORD_DIGESTS_MAX);
    assert(r.spec.size_bytes < r.spec.mapping_bytes);
    assert(r.spec.mapping_bytes < r.spec.device_bytes);
    return 0;
}
