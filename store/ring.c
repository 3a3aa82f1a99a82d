/* SPDX-License-Identifier: Apache-2.0 */
#include "store/ring.h"

#include "record/aead.h"

#include <assert.h>
#include <string.h>

/*
 *   format 1 | version 8 | number of masters 1 | a mark of 32 for each | a sealed part for each
 *
 * All before the sealed parts is their associated data. Sealed: the two keys, then the number and the
 * key of each wrapping; number 0: there is none. Numbers are big endian.
 */
enum {
    FORMAT = 1,
    HEAD_LEN = 1 + 8 + 1,
    NUMBER_LEN = 8,
    KEY_LEN = 32,
    PLAIN_LEN = 2 * KEY_LEN + RING_WRAPPINGS_MAX * (NUMBER_LEN + KEY_LEN),
    SEALED_LEN = AEAD_WRAPPED_LEN(PLAIN_LEN),
    EACH_LEN = STORE_MARK_LEN + SEALED_LEN,
};

static_assert(HEAD_LEN + RING_MASTERS_MAX * EACH_LEN <= STORE_RING_MAX, "the largest ring fits");
static_assert(SEAL_KEY_LEN == KEY_LEN, "one length of keys");

void ring_wipe(struct ring *ring)
{
    secret_wipe(&ring->records);
    secret_wipe(&ring->audit_head);
    for (size_t i = 0; i < RING_WRAPPINGS_MAX; i++)
        secret_wipe(&ring->wrappings[i].key);
    *ring = (struct ring){ .version = 0 };
}

static bool take_key(const uint8_t *bytes, struct secret *out, struct error *err)
{
    if (!secret_alloc(out, SEAL_KEY_LEN, err))
        return false;
    memcpy(out->bytes, bytes, SEAL_KEY_LEN);
    return true;
}

bool ring_copy(const struct ring *ring, struct ring *out, struct error *err)
{
    auto_ring struct ring copy = { .version = ring->version,
                                   .n_masters = ring->n_masters,
                                   .n_wrappings = ring->n_wrappings };

    memcpy(copy.marks, ring->marks, sizeof(copy.marks));
    if (!take_key(ring->records.bytes, &copy.records, err) ||
        !take_key(ring->audit_head.bytes, &copy.audit_head, err))
        return false;
    for (size_t i = 0; i < ring->n_wrappings; i++) {
        copy.wrappings[i].number = ring->wrappings[i].number;
        if (!take_key(ring->wrappings[i].key.bytes, &copy.wrappings[i].key, err))
            return false;
    }
    *out = copy;
    copy = (struct ring){ .version = 0 };
    return true;
}

bool ring_of_master(const struct secret *master, struct ring *out, struct error *err)
{
    auto_ring struct ring ring = { .n_masters = 1, .n_wrappings = 1 };

    ring.wrappings[0].number = RING_FIRST_NUMBER;
    if (!seal_mark(master, ring.marks[0], err) ||
        !seal_derive(master, SEAL_STORE_RECORDS, &ring.records, err) ||
        !seal_derive(master, SEAL_AUDIT_HEAD, &ring.audit_head, err) ||
        !seal_derive(master, SEAL_WRAPPING, &ring.wrappings[0].key, err))
        return false;
    *out = ring;
    ring = (struct ring){ .version = 0 };
    return true;
}

bool ring_knows(const struct ring *ring, const uint8_t mark[static STORE_MARK_LEN])
{
    for (size_t i = 0; i < ring->n_masters; i++)
        if (bytes_are_equal(ring->marks[i], mark, STORE_MARK_LEN))
            return true;
    return false;
}

/* --- bytes --- */

static void put_number(uint64_t number, uint8_t out[static NUMBER_LEN])
{
    for (int i = 0; i < NUMBER_LEN; i++)
        out[i] = (uint8_t)(number >> (56 - 8 * i));
}

static uint64_t get_number(const uint8_t bytes[static NUMBER_LEN])
{
    uint64_t number = 0;

    for (int i = 0; i < NUMBER_LEN; i++)
        number = number << 8 | bytes[i];
    return number;
}

static bool make_plain(const struct ring *ring, struct secret *out, struct error *err)
{
    if (!secret_alloc(out, PLAIN_LEN, err))
        return false;
    memcpy(out->bytes, ring->records.bytes, KEY_LEN);
    memcpy(out->bytes + KEY_LEN, ring->audit_head.bytes, KEY_LEN);
    for (size_t i = 0; i < ring->n_wrappings; i++) {
        uint8_t *at = out->bytes + 2 * KEY_LEN + i * (NUMBER_LEN + KEY_LEN);

        put_number(ring->wrappings[i].number, at);
        memcpy(at + NUMBER_LEN, ring->wrappings[i].key.bytes, KEY_LEN);
    }
    return true;
}

static const struct secret *find_master(const struct secret *const *masters, size_t n,
                                        const uint8_t mark[static STORE_MARK_LEN])
{
    uint8_t own[STORE_MARK_LEN];
    struct error ignored = ERROR_INIT;

    for (size_t i = 0; i < n; i++)
        if (masters[i]->bytes && seal_mark(masters[i], own, &ignored) &&
            bytes_are_equal(own, mark, STORE_MARK_LEN))
            return masters[i];
    return NULL;
}

/* The sealed part for one master key. */
static bool seal_for(const struct secret *master, const struct secret *plain,
                     const struct byte_range *head, uint8_t out[static SEALED_LEN],
                     struct error *err)
{
    auto_secret struct secret key = SECRET_INIT;

    return seal_derive(master, SEAL_RING, &key, err) && aead_wrap(&key, head, plain, out, err);
}

bool ring_encode(const struct ring *ring, const struct secret *const *masters, size_t n,
                 struct store_ring *out, struct error *err)
{
    auto_secret struct secret plain = SECRET_INIT;
    struct store_ring result = { .version = ring->version };
    const struct byte_range head = { result.bytes, HEAD_LEN + ring->n_masters * STORE_MARK_LEN };

    assert(ring->n_masters >= 1 && ring->n_masters <= RING_MASTERS_MAX && ring->n_wrappings >= 1);
    result.bytes[0] = FORMAT;
    put_number(ring->version, result.bytes + 1);
    result.bytes[HEAD_LEN - 1] = (uint8_t)ring->n_masters;
    memcpy(result.bytes + HEAD_LEN, ring->marks, ring->n_masters * STORE_MARK_LEN);
    result.len = HEAD_LEN + ring->n_masters * EACH_LEN;
    if (!make_plain(ring, &plain, err))
        return false;
    for (size_t i = 0; i < ring->n_masters; i++) {
        const struct secret *master = find_master(masters, n, ring->marks[i]);

        if (!master)
            return error_set(err, ERROR_FAILED_PRECONDITION,
                             "the master key is being changed, and this broker knows one of both "
                             "keys alone: start it with --master-key and --old-master-key");
        if (!seal_for(master, &plain, &head, result.bytes + head.len + i * SEALED_LEN, err))
            return false;
    }
    *out = result;
    return true;
}

static bool damaged(struct error *err)
{
    return error_set(err, ERROR_DATA_LOSS,
                     "the broker's store: the ring of keys is damaged, or was changed by something "
                     "else than the broker: restore the store from a backup");
}

static bool read_wrappings(const uint8_t *at, struct ring *ring, struct error *err)
{
    for (size_t i = 0; i < RING_WRAPPINGS_MAX; i++, at += NUMBER_LEN + KEY_LEN) {
        ring->wrappings[i].number = get_number(at);
        if (ring->wrappings[i].number == 0)
            return i > 0 || damaged(err);
        if (!take_key(at + NUMBER_LEN, &ring->wrappings[i].key, err))
            return false;
        ring->n_wrappings = i + 1;
    }
    return true;
}

static bool read_plain(const struct secret *plain, struct ring *ring, struct error *err)
{
    if (plain->len != PLAIN_LEN)
        return damaged(err);
    return take_key(plain->bytes, &ring->records, err) &&
           take_key(plain->bytes + KEY_LEN, &ring->audit_head, err) &&
           read_wrappings(plain->bytes + 2 * KEY_LEN, ring, err);
}

static bool read_head(const struct store_ring *stored, struct ring *ring, struct error *err)
{
    const uint8_t *bytes = stored->bytes;

    if (stored->len > 0 && bytes[0] > FORMAT)
        return error_set(err, ERROR_FAILED_PRECONDITION,
                         "a newer version of tdvol wrote the store's ring of keys: use that one");
    if (stored->len < HEAD_LEN || bytes[0] != FORMAT || get_number(bytes + 1) != stored->version)
        return damaged(err);
    ring->version = stored->version;
    ring->n_masters = bytes[HEAD_LEN - 1];
    if (ring->version == 0 || ring->n_masters < 1 || ring->n_masters > RING_MASTERS_MAX ||
        stored->len != HEAD_LEN + ring->n_masters * EACH_LEN)
        return damaged(err);
    memcpy(ring->marks, bytes + HEAD_LEN, ring->n_masters * STORE_MARK_LEN);
    return true;
}

/* The sealed part of this number. */
static bool open_part(const struct store_ring *stored, size_t i, const struct secret *master,
                      struct ring *ring, struct error *err)
{
    auto_secret struct secret key = SECRET_INIT, plain = SECRET_INIT;
    const struct byte_range head = { stored->bytes, HEAD_LEN + ring->n_masters * STORE_MARK_LEN };
    const struct byte_range part = { stored->bytes + head.len + i * SEALED_LEN, SEALED_LEN };

    if (!seal_derive(master, SEAL_RING, &key, err))
        return false;
    if (aead_unwrap(&key, &head, &part, &plain, err))
        return read_plain(&plain, ring, err);
    return err->code == ERROR_DATA_LOSS ? damaged(err) : false;
}

bool ring_decode(const struct store_ring *stored, const struct secret *master, struct ring *out,
                 struct error *err)
{
    auto_ring struct ring ring = { .version = 0 };
    uint8_t mark[STORE_MARK_LEN];

    if (!read_head(stored, &ring, err) || !seal_mark(master, mark, err))
        return false;
    size_t i = 0;

    while (i < ring.n_masters && !bytes_are_equal(ring.marks[i], mark, STORE_MARK_LEN))
        i++;
    if (i == ring.n_masters)
        return error_set(err, ERROR_FAILED_PRECONDITION,
                         "the store has another master key: start the broker with that key");
    if (!open_part(stored, i, master, &ring, err))
        return false;
    *out = ring;
    ring = (struct ring){ .version = 0 };
    return true;
}
