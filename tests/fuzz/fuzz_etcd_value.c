/* SPDX-License-Identifier: Apache-2.0 */
#include "store/store_etcd_value.h"
#include "tests/fuzz/fuzz.h"

#include <stdlib.h>
#include <string.h>

/* What etcd gives the broker: the first byte is the length of a key, then come key and value. */
static struct secret *proof_key(void)
{
    static struct secret key = SECRET_INIT;
    struct error err = ERROR_INIT;

    if (!key.bytes && !secret_alloc(&key, 32, &err))
        abort();
    return &key;
}

/* What is taken for good must have been written by a broker. */
static void read_proven(const struct etcd_bytes *key, const struct etcd_bytes *value)
{
    struct etcd_slot_value slot;
    struct etcd_sum sum;
    struct error err = ERROR_INIT;
    bool is_good = false;

    if (!etcd_sum_read(proof_key(), key, value, &sum, &is_good, &err) ||
        (is_good && value->len != ETCD_SUM_BYTES))
        abort();
    if (!etcd_slot_value_read(proof_key(), key, value, &slot, &is_good, &err) ||
        (is_good && (value->len != ETCD_SLOT_BYTES || slot.head.len > STORE_HEAD_MAX)))
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len)
{
    char replica[ETCD_REPLICA_MAX + 1];
    struct store_retained retained;
    struct etcd_names names;
    size_t index = 0;
    uint64_t number = 0;

    if (len < 1 || bytes[0] > len - 1)
        return 0;
    const struct etcd_bytes key = { bytes + 1, bytes[0] };
    const struct etcd_bytes value = { bytes + 1 + key.len, len - 1 - key.len };

    if (etcd_shard_read(&key, &index) && index >= ETCD_SHARDS)
        abort();
    if (etcd_slot_read(&key, replica, &index) && index >= ETCD_SLOTS)
        abort();
    if (etcd_number_read(&value, &number) && number > INT64_MAX)
        abort();
    if (etcd_names_read(&value, &names) &&
        (strlen(names.driver) > RECORD_DRIVER_MAX || strlen(names.volume_id) > VOLUME_ID_MAX))
        abort();
    if (etcd_retained_read(&key, &value, &retained) &&
        (strlen(retained.tenant) > RECORD_TENANT_MAX ||
         strlen(retained.driver) > RECORD_DRIVER_MAX ||
         strlen(retained.volume_id) > VOLUME_ID_MAX || retained.due_ms > INT64_MAX))
        abort();
    read_proven(&key, &value);
    return 0;
}
