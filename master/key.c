/* SPDX-License-Identifier: Apache-2.0 */
#include "master/key.h"

#include "base/digest.h"

#include <string.h>

bool master_key_parse(const struct secret *text, struct secret *out, struct error *err)
{
    auto_secret struct secret digits = SECRET_INIT, key = SECRET_INIT;
    size_t len = text->len;

    while (len > 0 && (text->bytes[len - 1] == '\n' || text->bytes[len - 1] == '\r'))
        len--;
    if (!secret_alloc(&digits, 2 * MASTER_KEY_LEN + 1, err) ||
        !secret_alloc(&key, MASTER_KEY_LEN, err))
        return false;
    if (len == 2 * MASTER_KEY_LEN)
        memcpy(digits.bytes, text->bytes, len);
    if (!hex_decode((const char *)digits.bytes, key.bytes, MASTER_KEY_LEN))
        return error_set(err, ERROR_INVALID_ARGUMENT,
                         "the master key is not 64 hex digits; make one with: "
                         "openssl rand -hex 32");
    *out = secret_take(&key);
    return true;
}

bool master_key_take(struct secret *plain, struct secret *out, struct error *err)
{
    if (plain->len != MASTER_KEY_LEN)
        return master_key_parse(plain, out, err);
    *out = secret_take(plain);
    return true;
}
