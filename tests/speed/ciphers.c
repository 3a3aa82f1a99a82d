/* SPDX-License-Identifier: Apache-2.0 */
#include <immintrin.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/*
 * CPU time of the kernel's own disk ciphers, for tests/bench. tests/speed/ciphers.py compiles this
 * file together with the kernel's assembler and calls it:
 *
 *     ciphers VECTORS XTS SHA256     VECTORS has lines "key iv ad text sealed" of AEGIS-128, in hex
 *
 * prints "NAME_write NS" and "NAME_read NS", nanoseconds for one sector. Each cipher is compared with
 * known answers first, and each pass with the plain text after it.
 *
 * A pass does to each sector what dm-crypt asks of the cipher: a write encrypts from one page to
 * another, a read decrypts in place. The memory fits into the second cache of a core.
 */

#define ARRAY_LEN(a) (sizeof(a) / sizeof((a)[0]))
#define ALIGNED(n)   __attribute__((aligned(n)))
#define WEAK         __attribute__((weak)) /* NULL where this kernel lacks it */

enum {
    SECTOR = 4096,
    SECTORS = 64,
    BLOCK = 16,
    IV = 16,
    AD = 24, /* the sector's number and the IV (crypt_convert_block_aead in dm-crypt.c) */
    AD_MAX = 64,
    DIGEST = 32,
    SHA_BLOCK = 64,
    ROUNDS = 30,
    PASSES = 20,
};

/* The kernel's functions. This is what their assembler expects, not a copy of their prototypes. */

struct aegis_state {
    uint8_t blocks[5][BLOCK] ALIGNED(BLOCK);
};

struct aes_key { /* struct crypto_aes_ctx */
    uint8_t encrypt[240] ALIGNED(BLOCK);
    uint8_t decrypt[240];
    uint32_t len; /* in bytes */
};

typedef void aegis_init_fn(struct aegis_state *state, const uint8_t *key, const uint8_t *iv);
typedef void aegis_final_fn(struct aegis_state *state, uint8_t *tag_xor, uint32_t ad_len,
                            uint32_t len);
typedef void aegis_ad_fn(struct aegis_state *state, const uint8_t *ad, uint32_t len);
typedef void aegis_crypt_fn(struct aegis_state *state, const uint8_t *src, uint8_t *dst,
                            uint32_t len);
typedef void aegis_old_ad_fn(struct aegis_state *state, uint32_t len, const uint8_t *ad);
typedef void aegis_old_crypt_fn(struct aegis_state *state, uint32_t len, const uint8_t *src,
                                uint8_t *dst);
typedef void xts_fn(const struct aes_key *key, uint8_t *first, uint8_t *second, uint32_t len,
                    uint8_t *tweak);
typedef void sha256_fn(uint32_t state[8], const uint8_t *data, int blocks);

WEAK aegis_init_fn aegis128_aesni_init, crypto_aegis128_aesni_init;
WEAK aegis_final_fn aegis128_aesni_final, crypto_aegis128_aesni_final;
WEAK aegis_ad_fn aegis128_aesni_ad;
WEAK aegis_crypt_fn aegis128_aesni_enc, aegis128_aesni_dec;
WEAK aegis_old_ad_fn crypto_aegis128_aesni_ad;
WEAK aegis_old_crypt_fn crypto_aegis128_aesni_enc, crypto_aegis128_aesni_dec;
WEAK xts_fn aesni_xts_encrypt, aesni_xts_decrypt, aesni_xts_enc, aesni_xts_dec;
WEAK xts_fn aes_xts_encrypt_aesni_avx, aes_xts_decrypt_aesni_avx;
WEAK xts_fn aes_xts_encrypt_vaes_avx2, aes_xts_decrypt_vaes_avx2;
WEAK xts_fn aes_xts_encrypt_vaes_avx10_256, aes_xts_decrypt_vaes_avx10_256;
WEAK xts_fn aes_xts_encrypt_vaes_avx10_512, aes_xts_decrypt_vaes_avx10_512;
WEAK void aes_xts_encrypt_iv(const struct aes_key *key, uint8_t *iv);
WEAK sha256_fn sha256_ni_transform, sha256_transform_rorx, sha256_transform_avx,
    sha256_transform_ssse3;
void aesni_set_key(struct aes_key *key, const uint8_t *bytes, uint32_t len);
void aesni_enc(const struct aes_key *key, uint8_t *dst, const uint8_t *src);

/* Older kernels pass the length first. */
static void old_ad(struct aegis_state *state, const uint8_t *ad, uint32_t len)
{
    crypto_aegis128_aesni_ad(state, len, ad);
}

static void old_enc(struct aegis_state *state, const uint8_t *src, uint8_t *dst, uint32_t len)
{
    crypto_aegis128_aesni_enc(state, len, src, dst);
}

static void old_dec(struct aegis_state *state, const uint8_t *src, uint8_t *dst, uint32_t len)
{
    crypto_aegis128_aesni_dec(state, len, src, dst);
}

static const struct aegis {
    aegis_init_fn *init;
    aegis_ad_fn *ad;
    aegis_crypt_fn *enc, *dec;
    aegis_final_fn *final;
} aegis_kinds[] = {
    { aegis128_aesni_init, aegis128_aesni_ad, aegis128_aesni_enc, aegis128_aesni_dec,
      aegis128_aesni_final },
    { crypto_aegis128_aesni_init, old_ad, old_enc, old_dec, crypto_aegis128_aesni_final },
};

static const struct xts {
    const char *name;
    xts_fn *enc, *dec;
    bool is_dst_first; /* and aesni_enc encrypts the tweak */
} xts_kinds[] = {
    { "aesni", aesni_xts_encrypt, aesni_xts_decrypt, true },
    { "aesni", aesni_xts_enc, aesni_xts_dec, true },
    { "aesni_avx", aes_xts_encrypt_aesni_avx, aes_xts_decrypt_aesni_avx, false },
    { "vaes_avx2", aes_xts_encrypt_vaes_avx2, aes_xts_decrypt_vaes_avx2, false },
    { "vaes_avx10_256", aes_xts_encrypt_vaes_avx10_256, aes_xts_decrypt_vaes_avx10_256, false },
    { "vaes_avx10_512", aes_xts_encrypt_vaes_avx10_512, aes_xts_decrypt_vaes_avx10_512, false },
};

static const struct sha256 {
    const char *name;
    sha256_fn *transform;
} sha256_kinds[] = {
    { "ni", sha256_ni_transform },
    { "avx2", sha256_transform_rorx },
    { "avx", sha256_transform_avx },
    { "ssse3", sha256_transform_ssse3 },
};

struct disk {
    const struct aegis *aegis;
    const struct xts *xts;
    sha256_fn *sha256;
    uint8_t aegis_key[16] ALIGNED(BLOCK);
    uint8_t xts_key[64], mac_key[DIGEST];
    struct aes_key data_key, tweak_key;
    uint32_t inner[8], outer[8]; /* of HMAC, after the key's block */
    uint8_t iv[SECTORS][IV];     /* dm-crypt's "random" */
    uint8_t tag[SECTORS][DIGEST];
    uint8_t plain[SECTORS][SECTOR] ALIGNED(SECTOR);
    uint8_t stored[SECTORS][SECTOR] ALIGNED(SECTOR);
};

static struct disk disk;

__attribute__((noreturn)) static void fail(const char *why)
{
    (void)fprintf(stderr, "ciphers: %s\n", why);
    exit(1);
}

struct message {
    const uint8_t *key, *iv, *ad;
    size_t ad_len, len;
};

/* Encrypts or decrypts whole blocks. tag becomes tag XOR the right one. */
static inline void aegis_crypt(bool is_write, const struct message *m, const uint8_t *src,
                               uint8_t *dst, uint8_t tag[BLOCK])
{
    const struct aegis *aegis = disk.aegis;
    uint8_t padded[AD_MAX] ALIGNED(BLOCK) = { 0 };
    struct aegis_state state;

    memcpy(padded, m->ad, m->ad_len);
    aegis->init(&state, m->key, m->iv);
    aegis->ad(&state, padded, (uint32_t)(m->ad_len + BLOCK - 1) / BLOCK * BLOCK);
    (is_write ? aegis->enc : aegis->dec)(&state, src, dst, (uint32_t)m->len);
    aegis->final(&state, tag, (uint32_t)m->ad_len, (uint32_t)m->len);
}

static void fill_ad(uint8_t ad[AD], uint64_t n, const uint8_t iv[IV])
{
    memcpy(ad, &n, sizeof(n));
    memcpy(ad + sizeof(n), iv, IV);
}

static void aegis_write(size_t n)
{
    uint8_t ad[AD];
    const struct message m = { disk.aegis_key, disk.iv[n], ad, AD, SECTOR };

    fill_ad(ad, n, disk.iv[n]);
    memcpy(disk.tag[n], (uint8_t[BLOCK]){ 0 }, BLOCK);
    aegis_crypt(true, &m, disk.plain[n], disk.stored[n], disk.tag[n]);
}

static bool aegis_read(size_t n)
{
    static const uint8_t zeros[BLOCK];
    uint8_t ad[AD], tag[BLOCK];
    const struct message m = { disk.aegis_key, disk.iv[n], ad, AD, SECTOR };

    fill_ad(ad, n, disk.iv[n]);
    memcpy(tag, disk.tag[n], BLOCK);
    aegis_crypt(false, &m, disk.stored[n], disk.stored[n], tag);
    return CRYPTO_memcmp(tag, zeros, BLOCK) == 0;
}

/* The IV is dm-crypt's "plain64". */
static void xts_crypt(xts_fn *crypt, uint64_t n, uint8_t *src, uint8_t *dst)
{
    uint8_t tweak[IV] ALIGNED(BLOCK) = { 0 };

    memcpy(tweak, &n, sizeof(n));
    if (disk.xts->is_dst_first) {
        aesni_enc(&disk.tweak_key, tweak, tweak);
        crypt(&disk.data_key, dst, src, SECTOR, tweak);
    } else {
        aes_xts_encrypt_iv(&disk.tweak_key, tweak);
        crypt(&disk.data_key, src, dst, SECTOR, tweak);
    }
}

static void xts_write(size_t n)
{
    xts_crypt(disk.xts->enc, n, disk.plain[n], disk.stored[n]);
}

static bool xts_read(size_t n)
{
    xts_crypt(disk.xts->dec, n, disk.stored[n], disk.stored[n]);
    return true;
}

static void put_words(uint8_t *bytes, const uint32_t words[8])
{
    for (size_t i = 0; i < 8; i++) {
        uint32_t swapped = __builtin_bswap32(words[i]);

        memcpy(bytes + 4 * i, &swapped, 4);
    }
}

/* Hashes the last bytes of a message of total_len, whose other bytes are in state; at most 55. */
static void sha256_end(uint32_t state[8], const uint8_t *last, size_t len, uint64_t total_len)
{
    uint8_t block[SHA_BLOCK] = { 0 };
    uint64_t bits = __builtin_bswap64(total_len * 8);

    memcpy(block, last, len);
    block[len] = 0x80;
    memcpy(block + SHA_BLOCK - sizeof(bits), &bits, sizeof(bits));
    disk.sha256(state, block, 1);
}

/* HMAC-SHA256 of a sector with its associated data, in as many blocks as the kernel hashes. */
static void hmac(uint64_t n, const uint8_t *data, uint8_t out[DIGEST])
{
    enum { FIRST = SHA_BLOCK - AD, WHOLE = (SECTOR - FIRST) / SHA_BLOCK };
    const size_t rest = FIRST + (size_t)WHOLE * SHA_BLOCK;
    uint8_t block[SHA_BLOCK], iv[IV] = { 0 };
    uint32_t state[8];

    memcpy(iv, &n, sizeof(n));
    fill_ad(block, n, iv);
    memcpy(block + AD, data, FIRST);
    memcpy(state, disk.inner, sizeof(state));
    disk.sha256(state, block, 1);
    disk.sha256(state, data + FIRST, WHOLE);
    sha256_end(state, data + rest, SECTOR - rest, SHA_BLOCK + AD + SECTOR);
    put_words(block, state);
    memcpy(state, disk.outer, sizeof(state));
    sha256_end(state, block, DIGEST, SHA_BLOCK + DIGEST);
    put_words(out, state);
}

static void hmac_write(size_t n)
{
    hmac(n, disk.plain[n], disk.tag[n]);
}

static bool is_tag_right(size_t n, const uint8_t *data)
{
    uint8_t tag[DIGEST];

    hmac(n, data, tag);
    return CRYPTO_memcmp(tag, disk.tag[n], DIGEST) == 0;
}

static bool hmac_read(size_t n)
{
    return is_tag_right(n, disk.plain[n]);
}

/* authenc: encrypts, then hashes what is stored. */
static void xts_hmac_write(size_t n)
{
    xts_write(n);
    hmac(n, disk.stored[n], disk.tag[n]);
}

static bool xts_hmac_read(size_t n)
{
    return is_tag_right(n, disk.stored[n]) && xts_read(n);
}

static const struct operation {
    const char *name;
    void (*write)(size_t n);
    bool (*read)(size_t n);
} operations[] = {
    { "aegis128", aegis_write, aegis_read },
    { "xts", xts_write, xts_read },
    { "xts_hmac_sha256", xts_hmac_write, xts_hmac_read },
    { "hmac_sha256", hmac_write, hmac_read },
};

/* The same numbers each time: the time does not depend on them. */
static void fill(void *bytes, size_t len, uint64_t seed)
{
    uint8_t *byte = bytes;

    for (size_t i = 0; i < len; i++) {
        seed = seed * 6364136223846793005u + 1442695040888963407u;
        byte[i] = (uint8_t)(seed >> 56);
    }
}

static void hash_key_block(uint32_t state[8], uint8_t pad)
{
    static const uint32_t start[8] = { 0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
                                       0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19 };
    uint8_t block[SHA_BLOCK] = { 0 };

    memcpy(block, disk.mac_key, DIGEST);
    for (size_t i = 0; i < SHA_BLOCK; i++)
        block[i] ^= pad;
    memcpy(state, start, sizeof(start));
    disk.sha256(state, block, 1);
}

static void choose(const char *xts, const char *sha256)
{
    for (size_t i = 0; i < ARRAY_LEN(aegis_kinds); i++)
        if (aegis_kinds[i].init)
            disk.aegis = &aegis_kinds[i];
    for (size_t i = 0; i < ARRAY_LEN(xts_kinds); i++)
        if (xts_kinds[i].enc && strcmp(xts_kinds[i].name, xts) == 0)
            disk.xts = &xts_kinds[i];
    for (size_t i = 0; i < ARRAY_LEN(sha256_kinds); i++)
        if (strcmp(sha256_kinds[i].name, sha256) == 0)
            disk.sha256 = sha256_kinds[i].transform;
    if (!disk.aegis || !disk.xts || !disk.sha256)
        fail("this kernel has no such cipher");
}

static void set_keys(void)
{
    fill(disk.aegis_key, sizeof(disk.aegis_key), 1);
    fill(disk.xts_key, sizeof(disk.xts_key), 2);
    fill(disk.mac_key, sizeof(disk.mac_key), 3);
    fill(disk.iv, sizeof(disk.iv), 4);
    fill(disk.plain, sizeof(disk.plain), 5);
    aesni_set_key(&disk.data_key, disk.xts_key, 32);
    aesni_set_key(&disk.tweak_key, disk.xts_key + 32, 32);
    hash_key_block(disk.inner, 0x36);
    hash_key_block(disk.outer, 0x5c);
}

/* AEGIS-128 from its definition (Wu and Preneel, version 1.1), one block after the other. */
__attribute__((target("aes"))) static void update(__m128i s[5], __m128i m)
{
    __m128i last = s[4];

    for (size_t i = 4; i > 0; i--)
        s[i] = _mm_aesenc_si128(s[i - 1], s[i]);
    s[0] = _mm_xor_si128(_mm_aesenc_si128(last, s[0]), m);
}

static __m128i load(const uint8_t *bytes, size_t len)
{
    uint8_t block[BLOCK] = { 0 };

    memcpy(block, bytes, len < BLOCK ? len : BLOCK);
    return _mm_loadu_si128((const __m128i *)(const void *)block);
}

static void seal_by_definition(const struct message *v, const uint8_t *text, uint8_t *out)
{
    static const uint8_t fibonacci[2 * BLOCK] = { 0,   1,  1,  2,  3,   5,   8,   13,
                                                  21,  34, 55, 89, 144, 233, 121, 98,
                                                  219, 61, 24, 85, 109, 194, 47,  241,
                                                  32,  17, 49, 66, 115, 181, 40,  221 };
    const __m128i k = load(v->key, BLOCK), start = _mm_xor_si128(k, load(v->iv, IV));
    const __m128i c0 = load(fibonacci, BLOCK), c1 = load(fibonacci + BLOCK, BLOCK);
    __m128i s[5] = { start, c1, c0, _mm_xor_si128(k, c0), _mm_xor_si128(k, c1) };

    for (size_t i = 0; i < 10; i++)
        update(s, i % 2 ? start : k);
    for (size_t i = 0; i < v->ad_len; i += BLOCK)
        update(s, load(v->ad + i, v->ad_len - i));
    for (size_t i = 0; i < v->len; i += BLOCK) {
        const __m128i m = load(text + i, BLOCK), both = _mm_and_si128(s[2], s[3]);
        const __m128i z = _mm_xor_si128(_mm_xor_si128(s[1], s[4]), both);

        _mm_storeu_si128((__m128i *)(void *)(out + i), _mm_xor_si128(m, z));
        update(s, m);
    }
    const __m128i lengths = _mm_set_epi64x((int64_t)v->len * 8, (int64_t)v->ad_len * 8);
    const __m128i last = _mm_xor_si128(s[3], lengths);

    for (size_t i = 0; i < 7; i++)
        update(s, last);
    for (size_t i = 1; i < 5; i++)
        s[0] = _mm_xor_si128(s[0], s[i]);
    _mm_storeu_si128((__m128i *)(void *)(out + v->len), s[0]);
}

/* Seals and opens by the kernel's code; a changed byte must not be accepted. */
static void check_message(const struct message *given, const uint8_t *text, const uint8_t *sealed)
{
    static uint8_t out[SECTOR + BLOCK], back[SECTOR];
    static const uint8_t zeros[BLOCK];
    uint8_t key[BLOCK] ALIGNED(BLOCK), tag[BLOCK] = { 0 };
    struct message m = *given;

    memcpy(key, m.key, BLOCK); /* the assembler wants it aligned */
    m.key = key;
    aegis_crypt(true, &m, text, out, tag);
    memcpy(out + m.len, tag, BLOCK);
    if (memcmp(out, sealed, m.len + BLOCK) != 0)
        fail("AEGIS-128 gives wrong bytes");
    aegis_crypt(false, &m, out, back, tag);
    if (memcmp(back, text, m.len) != 0 || memcmp(tag, zeros, BLOCK) != 0)
        fail("AEGIS-128 does not open what it sealed");
    memcpy(tag, out + m.len, BLOCK);
    out[0] ^= 1;
    aegis_crypt(false, &m, out, back, tag);
    if (m.len && memcmp(tag, zeros, BLOCK) == 0)
        fail("AEGIS-128 opens changed bytes");
}

/* The definition against a vector, and the kernel's code against both. */
static bool check_line(char *line)
{
    static uint8_t field[5][SECTOR + BLOCK], computed[SECTOR + BLOCK];
    size_t len[5];

    for (size_t i = 0; i < 5; i++) {
        const char *word = strsep(&line, " \n");

        if (!word || !OPENSSL_hexstr2buf_ex(field[i], sizeof(field[i]), &len[i], word, '\0'))
            return false;
    }
    if (len[0] != BLOCK || len[1] != IV || len[2] > AD_MAX || len[3] % BLOCK != 0 ||
        len[4] != len[3] + BLOCK)
        return false;
    const struct message m = { field[0], field[1], field[2], len[2], len[3] };

    seal_by_definition(&m, field[3], computed);
    if (memcmp(computed, field[4], len[4]) != 0)
        fail("the definition of AEGIS-128 is wrong here");
    check_message(&m, field[3], field[4]);
    return true;
}

static void check_aegis(const char *path)
{
    static uint8_t sealed[SECTOR + BLOCK];
    uint8_t ad[AD];
    const struct message m = { disk.aegis_key, disk.iv[0], ad, AD, SECTOR };
    FILE *file = fopen(path, "re");
    char *line = NULL;
    size_t size = 0, n = 0;

    for (; file && getline(&line, &size, file) > 0; n++)
        if (!check_line(line))
            fail("a test vector is malformed");
    if (n < 5)
        fail("there are too few test vectors");
    free(line);
    (void)fclose(file);
    fill_ad(ad, 0, disk.iv[0]);
    seal_by_definition(&m, disk.plain[0], sealed);
    check_message(&m, disk.plain[0], sealed);
}

/* Against OpenSSL, for each sector. */
static void check_xts_and_hmac(void)
{
    static uint8_t wanted[AD + SECTOR];
    EVP_CIPHER_CTX *ctx = EVP_CIPHER_CTX_new();
    uint8_t iv[IV] = { 0 }, mac[DIGEST];
    unsigned int mac_len = 0;
    int len = 0;

    for (size_t n = 0; n < SECTORS; n++) {
        memcpy(iv, &n, sizeof(n));
        fill_ad(wanted, n, iv);
        if (!EVP_EncryptInit_ex(ctx, EVP_aes_256_xts(), NULL, disk.xts_key, iv) ||
            !EVP_EncryptUpdate(ctx, wanted + AD, &len, disk.plain[n], SECTOR) || len != SECTOR ||
            !HMAC(EVP_sha256(), disk.mac_key, DIGEST, wanted, sizeof(wanted), mac, &mac_len))
            fail("OpenSSL cannot encrypt");
        xts_hmac_write(n);
        if (memcmp(wanted + AD, disk.stored[n], SECTOR) != 0)
            fail("XTS gives wrong bytes");
        if (memcmp(mac, disk.tag[n], DIGEST) != 0)
            fail("HMAC-SHA256 gives a wrong tag");
        if (!xts_hmac_read(n) || memcmp(disk.stored[n], disk.plain[n], SECTOR) != 0)
            fail("XTS does not decrypt what it encrypted");
    }
    EVP_CIPHER_CTX_free(ctx);
}

static double now_ns(void)
{
    struct timespec now;

    (void)clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return (double)now.tv_sec * 1e9 + (double)now.tv_nsec;
}

static int compare(const void *a, const void *b)
{
    const double *x = a, *y = b;

    return (*x > *y) - (*x < *y);
}

static double median(double *samples, size_t n)
{
    qsort(samples, n, sizeof(*samples), compare);
    return samples[n / 2];
}

static double clock_cost_ns(void)
{
    double samples[101];

    for (size_t i = 0; i < ARRAY_LEN(samples); i++) {
        double start = now_ns();

        samples[i] = now_ns() - start;
    }
    return median(samples, ARRAY_LEN(samples));
}

static void run_pass(const struct operation *operation, double *out_write, double *out_read)
{
    bool is_right = true;
    double start = now_ns();

    for (size_t n = 0; n < SECTORS; n++)
        operation->write(n);
    double middle = now_ns();

    for (size_t n = 0; n < SECTORS; n++)
        is_right &= operation->read(n);
    *out_read = now_ns() - middle;
    *out_write = middle - start;
    if (!is_right || memcmp(disk.plain, disk.stored, sizeof(disk.plain)) != 0)
        fail("what was read is not what was written");
}

int main(int argc, char **argv)
{
    static double taken[ARRAY_LEN(operations)][2][ROUNDS * PASSES];

    if (argc != 4)
        fail("usage: ciphers VECTORS XTS SHA256");
    choose(argv[2], argv[3]);
    set_keys();
    check_aegis(argv[1]);
    check_xts_and_hmac();
    for (size_t round = 0; round < ROUNDS; round++)
        for (size_t i = 0; i < ARRAY_LEN(operations); i++)
            for (size_t at = round * PASSES; at < (round + 1) * PASSES; at++)
                run_pass(&operations[i], &taken[i][0][at], &taken[i][1][at]);
    for (size_t i = 0; i < ARRAY_LEN(operations); i++)
        for (size_t way = 0; way < 2; way++)
            printf("%s_%s %.1f\n", operations[i].name, way ? "read" : "write",
                   (median(taken[i][way], ROUNDS * PASSES) - clock_cost_ns()) / SECTORS);
    return 0;
}
