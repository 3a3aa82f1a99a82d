/* SPDX-License-Identifier: Apache-2.0 */
#include "store/store_proof.h"

#include "base/digest.h"

/* One key makes four kinds of MAC. The first byte tells them apart. */
enum kind { RECORD = 'r', ELEMENT = 'e', SET = 's', VALUE = 'v' };

static bool mac(const struct secret *key, enum kind kind, const uint8_t *bytes, size_t len,
                uint8_t out[static STORE_PROOF_LEN], struct error *err)
{
    const uint8_t first = (uint8_t)kind;
    const struct byte_range parts[] = { { &first, 1 }, { bytes, len } };

    return hmac_sha256_parts(key, parts, ARRAY_LEN(parts), out, err);
}

bool proof_of_record(const struct secret *key, const uint8_t *record, size_t len,
                     uint8_t out[static STORE_PROOF_LEN], struct error *err)
{
    return mac(key, RECORD, record, len, out, err);
}

/* Numbers of 256 bits, the lowest byte first. */
static void add(struct proof_sum *sum, const uint8_t term[static STORE_PROOF_LEN])
{
    unsigned carry = 0;

    for (size_t i = 0; i < STORE_PROOF_LEN; i++) {
        carry += (unsigned)sum->bytes[i] + term[i];
        sum->bytes[i] = (uint8_t)carry;
        carry >>= 8;
    }
}

static void negate(uint8_t term[static STORE_PROOF_LEN])
{
    unsigned carry = 1;

    for (size_t i = 0; i < STORE_PROOF_LEN; i++) {
        carry += (uint8_t)~term[i];
        term[i] = (uint8_t)carry;
        carry >>= 8;
    }
}

bool proof_add(const struct secret *key, struct proof_sum *sum, const uint8_t *record, size_t len,
               struct error *err)
{
    uint8_t term[STORE_PROOF_LEN];

    if (!mac(key, ELEMENT, record, len, term, err))
        return false;
    add(sum, term);
    return true;
}

bool proof_subtract(const struct secret *key, struct proof_sum *sum, const uint8_t *record,
                    size_t len, struct error *err)
{
    uint8_t term[STORE_PROOF_LEN];

    if (!mac(key, ELEMENT, record, len, term, err))
        return false;
    negate(term);
    add(sum, term);
    return true;
}

bool proof_of_set(const struct secret *key, const struct proof_sum *sum,
                  const struct store_head *head, uint8_t out[static STORE_PROOF_LEN],
                  struct error *err)
{
    const uint8_t first = SET;
    uint8_t seq[8];
    const struct byte_range parts[] = { { &first, 1 },
                                        { sum->bytes, STORE_PROOF_LEN },
                                        { seq, sizeof(seq) },
                                        { head->bytes, head->len } };

    for (size_t i = 0; i < sizeof(seq); i++)
        seq[i] = (uint8_t)(head->seq >> (8 * i));
    return hmac_sha256_parts(key, parts, ARRAY_LEN(parts), out, err);
}

bool proof_of_value(const struct secret *key, const struct byte_range *name,
                    const struct byte_range *value, uint8_t out[static STORE_PROOF_LEN],
                    struct error *err)
{
    /* The length keeps name and value apart. */
    const uint8_t start[] = { VALUE, (uint8_t)name->len, (uint8_t)(name->len >> 8) };
    const struct byte_range parts[] = { { start, sizeof(start) }, *name, *value };

    return hmac_sha256_parts(key, parts, ARRAY_LEN(parts), out, err);
}
