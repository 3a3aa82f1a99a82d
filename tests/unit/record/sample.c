/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/record/sample.h"

#include "record/layout.h"
#include "tests/unit/test.h"

#define GIB (1ull << 30)

struct record sample_record(void)
{
    struct record r = {
        .id = { 1 },
        .tenant = "tenant",
        .driver = "driver.example",
        .volume_id = "volume-1",
        .kind = RECORD_VOLUME,
        .phase = RECORD_READY,
        .version = 300,
        .spec = { .name = "pvc-ä",
                  .integrity = INTEGRITY_HMAC_SHA256,
                  .fs_type = "xfs",
                  .provisioning = PROVISIONING_THIN,
                  .workqueue = WORKQUEUE_OFF,
                  .location = "node-1",
                  .backing = BACKING_FILE },
        .key = { .id = { 2 }, .generation = 3 },
        .n_header_digests = 2,
        .header_digests = { { 4 }, { 5 } },
        .open_counter = 6,
        .is_closed = true,
        .has_clean_hash = true,
        .clean_hash = { 7 },
        .lease = { .holder = { "node-2", "boot-2" }, .opened_ms = 8 },
        .format = { .attempt = 9,
                    .holder = { "node-3", "boot-3" },
                    .deadline_ms = 10,
                    .remaining_ms = 11 },
        .origin = { .is_set = true, .record_id = { 12 }, .counter_low = 13, .counter_high = 14 },
        .source_volume_id = "volume-0",
        .created_ms = 1ull << 40,
        .published = { .epoch = 15, .nodes = "r:node-1 r:node-2~i-2" },
        .old_key = { .is_set = true, .wrapped = { 16 } },
        .recovery = { .sha256 = { 17 } },
        .restored = { .is_set = true, .is_adopted = true, .counter_low = 5 },
    };
    struct error err = ERROR_INIT;

    assert_ok(layout_plan(&r.spec, 2 * GIB, &err));
    return r;
}
