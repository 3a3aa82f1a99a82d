/* SPDX-License-Identifier: Apache-2.0 */
#include "attest/verify.h"

#include "base/clock.h"
#include "base/file.h"
#include "base/option.h"

#include <inttypes.h>
#include <stdio.h>

/*
 * Quote verifications per second on one core, for tests/bench:
 *
 *     verify DIR EPOCH N     DIR holds quote.bin and its collateral
 *
 * prints "verify_cached_per_s N" (the platform's PCK chain was verified before) and "verify_per_s N"
 * (it was not).
 */

static bool run(const struct verify_request *asked, struct bytes_view bytes, uint64_t n,
                double *out_per_s, struct error *err)
{
    struct quote quote;
    struct verify_request request = *asked;
    struct verified_quote verified;
    uint64_t start_ms = clock_now_ms();

    request.quote = &quote;
    for (uint64_t i = 0; i < n; i++)
        if (!quote_parse(bytes.bytes, bytes.len, &quote, err) ||
            !quote_verify(&request, &verified, err))
            return false;
    *out_per_s = (double)n * 1000.0 / (double)(clock_now_ms() - start_ms + 1);
    return true;
}

static bool measure(const char *dir, int64_t now, uint64_t n, struct error *err)
{
    auto_collateral struct collateral collateral = { .root = NULL };
    auto_free char *quote = NULL;
    struct pck_cache *cache = NULL;
    size_t len = 0;
    double cached = 0, uncached = 0;
    char path[4096];

    (void)snprintf(path, sizeof(path), "%s/quote.bin", dir);
    if (!file_read(path, QUOTE_LEN_MAX, &quote, &len, err) ||
        !collateral_load_folder(dir, &trust_root_intel, &collateral, err) ||
        !pck_cache_new(16, &cache, err))
        return false;
    const struct bytes_view bytes = { (const uint8_t *)quote, len };
    struct verify_request request = { .collateral = &collateral, .now = now };
    bool done = run(&request, bytes, n, &uncached, err);

    request.cache = cache;
    done = done && run(&request, bytes, n, &cached, err);
    pck_cache_free(cache);
    if (done)
        printf("verify_cached_per_s %.1f\nverify_per_s %.1f\n", cached, uncached);
    return done;
}

int main(int argc, char **argv)
{
    struct error err = ERROR_INIT;
    uint64_t now = 0, n = 0;

    if (argc != 4 || !parse_u64(argv[2], &now) || now > INT64_MAX || !parse_u64(argv[3], &n)) {
        (void)fputs("usage: verify DIR EPOCH N\n", stderr);
        return 2;
    }
    if (measure(argv[1], (int64_t)now, n, &err))
        return 0;
    (void)fprintf(stderr, "verify: %s\n", err.text);
    return 1;
}
