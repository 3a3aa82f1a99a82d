/* SPDX-License-Identifier: Apache-2.0 */
#include "store/store_etcd_value.h"

#include "base/reader.h"

#include <assert.h>
#include <ctype.h>
#include <stdio.h>
#include <string.h>

#define START            "tdvol/"
#define RECORDS_PER_PAGE 256

/* --- names of keys --- */

/* len 0: the text ends with its NUL, which is not added. */
static bool add(struct etcd_key *key, const char *text, size_t len)
{
    if (len == 0)
        len = strlen(text);
    if (len > sizeof(key->bytes) - key->len - 1) /* etcd_key_end() may need one more */
        return false;
    memcpy(key->bytes + key->len, text, len);
    key->len += len;
    return true;
}

static bool add_end(struct etcd_key *key)
{
    return add(key, "", 1);
}

static void begin(struct etcd_key *key, const char *kind)
{
    key->len = 0;
    (void)(add(key, START, 0) && add(key, kind, 0)); /* short texts of ours */
}

static void begin_folder(struct etcd_key *key, const char *kind)
{
    begin(key, kind);
    (void)add(key, "/", 1);
}

void etcd_key_all(struct etcd_key *out)
{
    begin(out, "");
}

void etcd_key_format(struct etcd_key *out)
{
    begin(out, "format");
}

void etcd_key_ring(struct etcd_key *out)
{
    begin(out, "ring");
}

void etcd_key_records(struct etcd_key *out)
{
    begin_folder(out, "record");
}

void etcd_key_sums(struct etcd_key *out)
{
    begin_folder(out, "sum");
}

void etcd_key_slots(struct etcd_key *out)
{
    begin_folder(out, "slot");
}

bool etcd_key_text(const char *kind, const char *name, struct etcd_key *out)
{
    begin_folder(out, kind);
    return add(out, name, 0);
}

bool etcd_key_tenant(const char *kind, const char *tenant, const char *driver, struct etcd_key *out)
{
    begin_folder(out, kind);
    return add(out, tenant, 0) && add_end(out) &&
           (driver[0] == '\0' || (add(out, driver, 0) && add_end(out)));
}

bool etcd_key_record(const struct store_name *name, struct etcd_key *out)
{
    begin_folder(out, "record");
    return add(out, name->tenant, 0) && add_end(out) && add(out, name->driver, 0) && add_end(out) &&
           add(out, name->volume_id, 0);
}

bool etcd_key_id(const char *tenant, const uint8_t id[static RECORD_ID_LEN], struct etcd_key *out)
{
    char text[2 * RECORD_ID_LEN + 1];

    hex_encode(id, RECORD_ID_LEN, text);
    return etcd_key_tenant("id", tenant, "", out) && add(out, text, 0);
}

void etcd_key_of_key(const char *kind, const struct record_key *key, struct etcd_key *out)
{
    char id[2 * RECORD_ID_LEN + 1], generation[16];

    begin_folder(out, kind);
    hex_encode(key->id, RECORD_ID_LEN, id);
    (void)snprintf(generation, sizeof(generation), "/%08x", key->generation);
    (void)(add(out, id, 0) && add(out, generation, 0));
}

static void add_number(struct etcd_key *key, size_t number)
{
    char text[8];

    (void)snprintf(text, sizeof(text), "%02x", (unsigned)(number & 0xff));
    (void)add(key, text, 0);
}

static_assert(ETCD_SHARDS <= 256 && ETCD_SLOTS <= 256, "two hex digits name a shard and a slot");

void etcd_key_sum(size_t shard, struct etcd_key *out)
{
    etcd_key_sums(out);
    add_number(out, shard);
}

bool etcd_key_count(const char *tenant, size_t shard, struct etcd_key *out)
{
    if (!etcd_key_tenant("count", tenant, "", out))
        return false;
    add_number(out, shard);
    return true;
}

void etcd_key_replica(const char *replica, struct etcd_key *out)
{
    begin_folder(out, "replica");
    (void)add(out, replica, 0);
}

void etcd_key_slot(const char *replica, size_t slot, struct etcd_key *out)
{
    etcd_key_slots(out);
    (void)(add(out, replica, 0) && add(out, "/", 1)); /* a replica's name was checked */
    add_number(out, slot);
}

void etcd_key_end(const struct etcd_key *start, struct etcd_key *out)
{
    *out = *start;
    out->bytes[out->len - 1]++; /* "/", 0, or ASCII: never 0xff */
}

bool etcd_place_of(const struct etcd_key *record, struct etcd_place *out, struct error *err)
{
    uint8_t hash[SHA256_LEN];

    if (!sha256(record->bytes, record->len, hash, err))
        return false;
    out->shard = hash[0] % ETCD_SHARDS;
    out->begins_page = hash[1] % RECORDS_PER_PAGE == 0;
    return true;
}

static bool change_kind(const struct etcd_bytes *key, const char *from, const char *to,
                        struct etcd_key *out)
{
    struct etcd_key start;

    begin_folder(&start, from);
    begin_folder(out, to);
    return etcd_key_begins(&start, key) && key->len > start.len &&
           add(out, (const char *)key->bytes + start.len, key->len - start.len);
}

bool etcd_key_page(const struct etcd_key *record, struct etcd_key *out)
{
    const struct etcd_bytes key = etcd_key_bytes(record);

    return change_kind(&key, "record", "page", out);
}

bool etcd_key_of_page(const struct etcd_bytes *page, struct etcd_key *out)
{
    return change_kind(page, "page", "record", out);
}

static bool read_number(const uint8_t digits[static 2], size_t max, size_t *out)
{
    const char text[3] = { (char)digits[0], (char)digits[1], '\0' };
    uint8_t byte = 0;

    if (isupper(digits[0]) || isupper(digits[1]) || !hex_decode(text, &byte, 1) || byte >= max)
        return false;
    *out = byte;
    return true;
}

bool etcd_key_begins(const struct etcd_key *start, const struct etcd_bytes *bytes)
{
    return bytes->len >= start->len && bytes_are_equal(bytes->bytes, start->bytes, start->len);
}

bool etcd_key_is(const struct etcd_key *key, const struct etcd_bytes *bytes)
{
    return bytes->len == key->len && etcd_key_begins(key, bytes);
}

bool etcd_shard_read(const struct etcd_bytes *key, size_t *out)
{
    struct etcd_key start;

    etcd_key_sums(&start);
    return etcd_key_begins(&start, key) && key->len == start.len + 2 &&
           read_number(key->bytes + start.len, ETCD_SHARDS, out);
}

bool etcd_slot_read(const struct etcd_bytes *key, char replica[static ETCD_REPLICA_MAX + 1],
                    size_t *out)
{
    struct etcd_key start;

    etcd_key_slots(&start);
    if (!etcd_key_begins(&start, key) || key->len < start.len + 4)
        return false;
    size_t len = key->len - start.len - 3;
    const uint8_t *name = key->bytes + start.len;

    if (len > ETCD_REPLICA_MAX || name[len] != '/' || memchr(name, '\0', len) ||
        !read_number(name + len + 1, ETCD_SLOTS, out))
        return false;
    memcpy(replica, name, len);
    replica[len] = '\0';
    return true;
}

/* --- values --- */

bool etcd_number_read(const struct etcd_bytes *value, uint64_t *out)
{
    uint64_t number = value->len == 8 ? u64le(value->bytes) : UINT64_MAX;

    if (number > INT64_MAX)
        return false;
    *out = number;
    return true;
}

void etcd_number_write(uint64_t number, uint8_t out[static 8])
{
    for (int i = 0; i < 8; i++)
        out[i] = (uint8_t)(number >> (8 * i));
}

bool etcd_names_read(const struct etcd_bytes *value, struct etcd_names *out)
{
    const uint8_t *end = value->len > 0 ? memchr(value->bytes, '\0', value->len) : NULL;

    if (!end)
        return false;
    size_t driver = (size_t)(end - value->bytes), volume_id = value->len - driver - 1;

    if (driver >= sizeof(out->driver) || volume_id >= sizeof(out->volume_id) ||
        memchr(end + 1, '\0', volume_id))
        return false;
    memcpy(out->driver, value->bytes, driver);
    out->driver[driver] = '\0';
    memcpy(out->volume_id, end + 1, volume_id);
    out->volume_id[volume_id] = '\0';
    return true;
}

bool etcd_key_retained(const struct etcd_key *record, struct etcd_key *out)
{
    const struct etcd_bytes key = etcd_key_bytes(record);

    return change_kind(&key, "record", "retained", out);
}

void etcd_retained_write(const struct record *r, uint8_t out[static ETCD_RETAINED_BYTES])
{
    etcd_number_write(r->retained.deleted_ms, out);
    etcd_number_write(r->retained.due_ms, out + 8);
}

bool etcd_retained_read(const struct etcd_bytes *key, const struct etcd_bytes *value,
                        struct store_retained *out)
{
    struct etcd_key start;
    struct etcd_names names;

    if (!etcd_key_text("retained", "", &start) || key->len <= start.len ||
        !bytes_are_equal(key->bytes, start.bytes, start.len) || value->len != ETCD_RETAINED_BYTES)
        return false;
    const uint8_t *tenant = key->bytes + start.len;
    const uint8_t *end = memchr(tenant, '\0', key->len - start.len);

    if (!end || (size_t)(end - tenant) >= sizeof(out->tenant))
        return false;
    const struct etcd_bytes rest = { end + 1, (size_t)(key->bytes + key->len - end - 1) };
    const struct etcd_bytes deleted = { value->bytes, 8 }, due = { value->bytes + 8, 8 };

    *out = (struct store_retained){ .due_ms = 0 };
    if (!etcd_names_read(&rest, &names) || !etcd_number_read(&deleted, &out->deleted_ms) ||
        !etcd_number_read(&due, &out->due_ms))
        return false;
    memcpy(out->tenant, tenant, (size_t)(end - tenant));
    memcpy(out->driver, names.driver, sizeof(out->driver));
    memcpy(out->volume_id, names.volume_id, sizeof(out->volume_id));
    return true;
}

size_t etcd_names_write(const struct record *r, uint8_t out[static sizeof(struct etcd_names)])
{
    size_t driver = strlen(r->driver), volume_id = strlen(r->volume_id);

    memcpy(out, r->driver, driver + 1);
    memcpy(out + driver + 1, r->volume_id, volume_id);
    return driver + 1 + volume_id;
}

/* The last STORE_PROOF_LEN bytes of the value prove the others, under this key. */
static bool check_proof(const struct secret *proof_key, const struct etcd_bytes *key,
                        const struct etcd_bytes *value, bool *is_good, struct error *err)
{
    const struct byte_range name = { key->bytes, key->len };
    const struct byte_range rest = { value->bytes, value->len - STORE_PROOF_LEN };
    uint8_t proof[STORE_PROOF_LEN];

    if (!proof_of_value(proof_key, &name, &rest, proof, err))
        return false;
    *is_good = bytes_are_equal(proof, value->bytes + rest.len, STORE_PROOF_LEN);
    return true;
}

static bool write_proof(const struct secret *proof_key, const struct etcd_key *key, uint8_t *value,
                        size_t len, struct error *err)
{
    const struct byte_range name = { key->bytes, key->len }, rest = { value, len };

    return proof_of_value(proof_key, &name, &rest, value + len, err);
}

bool etcd_sum_read(const struct secret *proof_key, const struct etcd_bytes *key,
                   const struct etcd_bytes *value, struct etcd_sum *out, bool *is_good,
                   struct error *err)
{
    *is_good = false;
    if (value->len != ETCD_SUM_BYTES)
        return true;
    if (!check_proof(proof_key, key, value, is_good, err))
        return false;
    out->changes = u64le(value->bytes);
    memcpy(out->sum.bytes, value->bytes + 8, STORE_PROOF_LEN);
    return true;
}

bool etcd_sum_write(const struct secret *proof_key, const struct etcd_key *key,
                    const struct etcd_sum *sum, uint8_t out[static ETCD_SUM_BYTES],
                    struct error *err)
{
    etcd_number_write(sum->changes, out);
    memcpy(out + 8, sum->sum.bytes, STORE_PROOF_LEN);
    return write_proof(proof_key, key, out, 8 + STORE_PROOF_LEN, err);
}

bool etcd_slot_value_read(const struct secret *proof_key, const struct etcd_bytes *key,
                          const struct etcd_bytes *value, struct etcd_slot_value *out,
                          bool *is_good, struct error *err)
{
    const uint8_t *at = value->bytes;

    *is_good = false;
    if (value->len != ETCD_SLOT_BYTES || at[ETCD_ID_LEN + 8] > STORE_HEAD_MAX)
        return true;
    if (!check_proof(proof_key, key, value, is_good, err))
        return false;
    memcpy(out->id, at, ETCD_ID_LEN);
    at += ETCD_ID_LEN;
    out->head.seq = u64le(at);
    out->head.len = at[8];
    memcpy(out->head.bytes, at + 9, STORE_HEAD_MAX);
    at += 9 + STORE_HEAD_MAX;
    for (size_t i = 0; i < ETCD_SHARDS; i++)
        out->seen[i] = u64le(at + 8 * i);
    return true;
}

bool etcd_slot_value_write(const struct secret *proof_key, const struct etcd_key *key,
                           const struct etcd_slot_value *value, uint8_t out[static ETCD_SLOT_BYTES],
                           struct error *err)
{
    uint8_t *at = out;

    memcpy(at, value->id, ETCD_ID_LEN);
    at += ETCD_ID_LEN;
    etcd_number_write(value->head.seq, at);
    at[8] = (uint8_t)value->head.len;
    memcpy(at + 9, value->head.bytes, STORE_HEAD_MAX);
    at += 9 + STORE_HEAD_MAX;
    for (size_t i = 0; i < ETCD_SHARDS; i++)
        etcd_number_write(value->seen[i], at + 8 * i);
    return write_proof(proof_key, key, out, ETCD_SLOT_BYTES - STORE_PROOF_LEN, err);
}

bool etcd_ring_read(const struct etcd_bytes *value, struct store_ring *out)
{
    const struct etcd_bytes number = { value->bytes, 8 };
    struct store_ring ring = { .version = 0 };

    if (value->len <= number.len || value->len > ETCD_RING_BYTES ||
        !etcd_number_read(&number, &ring.version) || ring.version == 0)
        return false;
    ring.len = value->len - number.len;
    memcpy(ring.bytes, value->bytes + number.len, ring.len);
    *out = ring;
    return true;
}

size_t etcd_ring_write(const struct store_ring *ring, uint8_t out[static ETCD_RING_BYTES])
{
    etcd_number_write(ring->version, out);
    memcpy(out + 8, ring->bytes, ring->len);
    return 8 + ring->len;
}
