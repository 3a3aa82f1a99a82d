/* SPDX-License-Identifier: Apache-2.0 */
#include "master/jwe.h"
#include "master/kbs_answer.h"
#include "tests/fuzz/fuzz.h"

#include <stdlib.h>
#include <string.h>

/*
 * What a KBS answers. The first byte says to what: to a request for the challenge, its cookie, the evidence, the
 * resource, or with a status that is an error.
 */
enum kind { CHALLENGE, COOKIE, ACCEPTANCE, RESOURCE, FAILURE, KINDS };

/* Errors go into logs and statuses. */
static void check_text(const char *text)
{
    for (; *text; text++)
        if (*text < ' ' || *text > '~')
            abort();
}

static void read_challenge(const uint8_t *bytes, size_t len, struct error *err)
{
    struct kbs_challenge challenge;
    uint8_t data[KBS_REPORT_LEN];

    if (!kbs_read_challenge(bytes, len, &challenge, err))
        return;
    if (strlen(challenge.nonce) != KBS_NONCE_DIGITS || strpbrk(challenge.nonce, "\"\\\n") ||
        !kbs_report_data(&challenge, "{}", data, err))
        abort();
}

static void read_cookie(const uint8_t *bytes, size_t len, struct error *err)
{
    char cookie[KBS_COOKIE_MAX], *text = text_of_bytes(bytes, len);

    if (text && kbs_read_cookie(text, cookie, err) && strpbrk(cookie, "\r\n; "))
        abort();
    free(text);
}

static void open_resource(const uint8_t *bytes, size_t len, struct error *err)
{
    static struct jwe_key key = JWE_KEY_INIT;
    auto_secret struct secret plain = SECRET_INIT;

    if (!key.private_key.bytes && !jwe_key_generate(&key, err))
        return;
    if (jwe_open(&key, bytes, len, &plain, err)) /* nobody knows the key */
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len)
{
    struct error err = ERROR_INIT;

    if (len == 0 || len > (size_t)64 * 1024)
        return 0;
    const uint8_t *rest = bytes + 1;
    const size_t n = len - 1;
    switch ((enum kind)(bytes[0] % KINDS)) {
    case CHALLENGE:
        read_challenge(rest, n, &err);
        break;
    case COOKIE:
        read_cookie(rest, n, &err);
        break;
    case ACCEPTANCE:
        (void)!kbs_read_acceptance(rest, n, &err);
        break;
    case RESOURCE:
        open_resource(rest, n, &err);
        break;
    case FAILURE:
    case KINDS:
        if (kbs_failed(n % 2 == 0 ? 401 : 404, rest, n, &err) || err.code == ERROR_NONE)
            abort();
    }
    check_text(err.text);
    return 0;
}
