/* SPDX-License-Identifier: Apache-2.0 */
#include "record/proof.h"

#include "record/encoding.h"

#include <string.h>

#define U64_LEN 8

static const char change_info[] = "tdvol v1 change";
static const char close_info[] = "tdvol v1 close";

static bool gives_up_to_others(const struct record *record)
{
    return record && record->phase == RECORD_FORMATTING && record->spec.location[0] == '\0';
}

enum proof_kind proof_needed(const struct record *record, const struct record_change *change)
{
    static const enum proof_kind needed[RECORD_CHANGE_KIND_COUNT] = {
        [RECORD_CHANGE_READY] = PROOF_SECRET,       [RECORD_CHANGE_OPENED] = PROOF_SECRET,
        [RECORD_CHANGE_CLOSED] = PROOF_CLOSE,       [RECORD_CHANGE_GROWN] = PROOF_NONE,
        [RECORD_CHANGE_NEXT_HEADER] = PROOF_SECRET, [RECORD_CHANGE_ROTATED] = PROOF_SECRET,
    };
    bool says_nothing = !change->is_closed && !change->has_clean_hash;

    if (change->kind == RECORD_CHANGE_CLOSED && says_nothing)
        return gives_up_to_others(record) ? PROOF_SECRET : PROOF_NONE;
    /* A kind that this table does not know needs the strongest one. */
    return change->kind < RECORD_CHANGE_KIND_COUNT && needed[change->kind] ? needed[change->kind]
                                                                           : PROOF_SECRET;
}

static void put_u64(uint64_t value, uint8_t out[static U64_LEN])
{
    for (int i = 0; i < U64_LEN; i++)
        out[i] = (uint8_t)(value >> (56 - 8 * i));
}

bool proof_by_secret(const struct secret *secret, const struct record *record,
                     uint64_t expected_version, const struct record_change *change,
                     uint8_t out[static PROOF_LEN], struct error *err)
{
    auto_secret struct secret key = SECRET_INIT;
    struct encoded encoded;
    uint8_t version[U64_LEN];

    put_u64(expected_version, version);
    record_change_encode(change, &encoded);
    const struct byte_range parts[] = { { record->id, RECORD_ID_LEN },
                                        { version, sizeof(version) },
                                        { encoded.bytes, encoded.len } };
    return hkdf_sha256(secret, "", 0, change_info, strlen(change_info), &key, SHA256_LEN, err) &&
           hmac_sha256_parts(&key, parts, ARRAY_LEN(parts), out, err);
}

bool close_key_derive(const struct secret *secret, const struct record *record,
                      uint8_t out[static CLOSE_KEY_LEN], struct error *err)
{
    auto_secret struct secret key = SECRET_INIT;
    uint8_t info[sizeof(close_info) - 1 + RECORD_ID_LEN + U64_LEN];
    uint8_t *end = mempcpy(info, close_info, sizeof(close_info) - 1);

    end = mempcpy(end, record->id, RECORD_ID_LEN);
    put_u64(record->open_counter, end);
    if (!hkdf_sha256(secret, "", 0, info, sizeof(info), &key, CLOSE_KEY_LEN, err))
        return false;
    memcpy(out, key.bytes, CLOSE_KEY_LEN);
    return true;
}

bool proof_by_close_key(const uint8_t key[static CLOSE_KEY_LEN], const struct record_change *change,
                        uint8_t out[static PROOF_LEN], struct error *err)
{
    auto_secret struct secret copy = SECRET_INIT;
    struct encoded encoded;

    if (!secret_alloc(&copy, CLOSE_KEY_LEN, err))
        return false;
    memcpy(copy.bytes, key, CLOSE_KEY_LEN);
    record_change_encode(change, &encoded);
    return hmac_sha256(&copy, encoded.bytes, encoded.len, out, err);
}
