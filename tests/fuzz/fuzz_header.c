/* SPDX-License-Identifier: Apache-2.0 */
#include "crypt/header.h"
#include "tests/fuzz/fuzz.h"

#include <stdlib.h>
#include <string.h>

/*
 * The first byte chooses the integrity mode, the rest is the JSON of a LUKS2 header whose binary
 * part is right. An accepted header names the mode's cipher, and nothing in it costs time or
 * weakens the encryption. It has a recovery token when the record says so, and at most one.
 */

#define METADATA_BYTES 16384u
#define JSON_OFFSET    4096u
#define JSON_BYTES     12288u

static const char *const ciphers[] = {
    [INTEGRITY_AEGIS128] = "\"aegis128-random\"",
    [INTEGRITY_HMAC_SHA256] = "\"hmac(sha256)\"",
    [INTEGRITY_NONE] = "\"aes-xts-plain64\"",
};
static const char *const never[] = { "null-ecb\"", "\"type\":\"argon2",
                                     "\"requirements\":", "\"hash\":\"sha1\"" };

static void put_metadata(uint8_t *metadata, const char *magic, uint8_t offset_high,
                         const uint8_t *json, size_t len)
{
    static const uint8_t version_and_size[] = { 0, 2, 0, 0, 0, 0, 0, 0, 0x40, 0 };

    memcpy(metadata, magic, 6);
    memcpy(metadata + 6, version_and_size, sizeof(version_and_size));
    metadata[256 + 6] = offset_high;
    for (size_t i = 0; i < JSON_BYTES; i++)
        metadata[JSON_OFFSET + i] = i < len ? json[i] : 0;
}

static void check_token(const uint8_t *header, const struct volume_spec *spec)
{
    static const uint8_t none[SHA256_LEN];
    const char *json = (const char *)header + JSON_OFFSET;
    const char *token = strstr(json, "\"" RECOVERY_TOKEN_TYPE "\"");
    struct error err = ERROR_INIT;

    if (header_check_metadata(header, spec, none, &err) != !token)
        abort();
    if (token && strstr(token + 1, "\"" RECOVERY_TOKEN_TYPE "\""))
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len)
{
    static uint8_t header[LAYOUT_HEADER_BYTES];
    struct error err = ERROR_INIT;
    struct volume_spec spec = { .integrity = 0 };

    if (len < 1 || len > JSON_BYTES)
        return 0;
    spec.integrity = INTEGRITY_AEGIS128 + bytes[0] % 3;
    if (!layout_plan(&spec, VOLUME_SIZE_MIN, &err))
        abort();
    put_metadata(header, "LUKS\xba\xbe", 0, bytes + 1, len - 1);
    put_metadata(header + METADATA_BYTES, "SKUL\xba\xbe", 0x40, bytes + 1, len - 1);
    if (!header_check_metadata(header, &spec, NULL, &err))
        return 0;
    const char *json = (const char *)header + JSON_OFFSET;
    if (!strstr(json, ciphers[spec.integrity]))
        abort();
    for (size_t i = 0; i < ARRAY_LEN(never); i++) {
        if (strstr(json, never[i]))
            abort();
    }
    check_token(header, &spec);
    return 0;
}
