/* SPDX-License-Identifier: Apache-2.0 */
#include "crypt/recovery_token.h"
#include "tests/unit/record/made_certificate.h"
#include "tests/unit/test.h"

#include <stdio.h>
#include <stdlib.h>

static struct recovery_certificate read_certificate(const struct made_certificate *made)
{
    struct recovery_certificate out;
    struct error err = ERROR_INIT;

    assert_ok(recovery_certificate_read(made->der, made->der_len, &out, &err));
    return out;
}

static struct recovery_key *read_key(const char *pem)
{
    auto_secret struct secret text = SECRET_INIT;
    struct recovery_key *out = NULL;
    struct error err = ERROR_INIT;

    assert_ok(secret_alloc(&text, strlen(pem), &err));
    memcpy(text.bytes, pem, strlen(pem));
    assert_ok(recovery_key_read(&text, NULL, NULL, &out, &err));
    return out;
}

static void random_passphrase(struct secret *out)
{
    struct error err = ERROR_INIT;

    assert_ok(secret_random(out, 32, &err));
}

static void what_was_encrypted_comes_back_and_to_that_key_alone(void **state)
{
    static const struct certificate_wish kinds[] = {
        { .kind = "P-256" },
        { .kind = "P-384" },
        { .kind = "RSA-3072" },
        { .kind = "RSA-4096", .name_len = 192 },
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(kinds); i++) {
        auto_made_certificate struct made_certificate made = make_certificate(&kinds[i]);
        auto_made_certificate struct made_certificate other =
            make_certificate(&(struct certificate_wish){
                .kind = kinds[i].kind[0] == 'P' ? kinds[i].kind : "RSA-3072" });
        auto_recovery_key struct recovery_key *key = read_key(made.key_pem),
                                              *wrong = read_key(other.key_pem);
        auto_secret struct secret passphrase = SECRET_INIT, back = SECRET_INIT;
        const struct recovery_certificate certificate = read_certificate(&made);
        static struct recovery_token token, again;
        struct error err = ERROR_INIT;

        random_passphrase(&passphrase);
        assert_ok(recovery_token_make(&certificate, &passphrase, &token, &err));
        assert_ok(recovery_token_make(&certificate, &passphrase, &again, &err));
        assert_true(token.cms_len != again.cms_len ||
                    !bytes_are_equal(token.cms, again.cms, token.cms_len));
        assert_null(memmem(token.cms, token.cms_len, passphrase.bytes, 8));
        assert_ok(recovery_token_open(&token, key, &back, &err));
        assert_int_equal(back.len, 32);
        assert_memory_equal(back.bytes, passphrase.bytes, 32);
        secret_wipe(&back);
        assert_refused(ERROR_FAILED_PRECONDITION, recovery_token_open(&token, wrong, &back, &err));
        assert_string_equal(err.reason, "KeyMismatch");
        assert_null(back.bytes);
    }
}

struct sample {
    struct made_certificate made;
    struct recovery_certificate certificate;
    struct recovery_token token;
    struct recovery_key *key;
    struct secret passphrase;
};

static int setup(void **state)
{
    static struct sample s;
    struct error err = ERROR_INIT;

    s = (struct sample){ .made = make_certificate(&(struct certificate_wish){ .kind = "P-256" }) };
    s.certificate = read_certificate(&s.made);
    s.key = read_key(s.made.key_pem);
    random_passphrase(&s.passphrase);
    assert_ok(recovery_token_make(&s.certificate, &s.passphrase, &s.token, &err));
    *state = &s;
    return 0;
}

static int teardown(void **state)
{
    struct sample *s = *state;

    recovery_key_free(&s->key);
    secret_wipe(&s->passphrase);
    made_certificate_free(&s->made);
    return 0;
}

static void no_changed_byte_gives_another_passphrase(void **state)
{
    struct sample *s = *state;
    struct recovery_token changed = s->token;

    for (size_t i = 0; i < changed.cms_len; i++) {
        auto_secret struct secret out = SECRET_INIT;
        struct error err = ERROR_INIT;

        changed.cms[i] ^= 1;
        /* the certificate's serial number, and the like, say only which key is meant */
        if (recovery_token_open(&changed, s->key, &out, &err))
            assert_memory_equal(out.bytes, s->passphrase.bytes, 32);
        else
            assert_string_equal(err.reason, "KeyMismatch");
        changed.cms[i] ^= 1;
    }
    for (changed.cms_len = 0; changed.cms_len < s->token.cms_len; changed.cms_len++) {
        auto_secret struct secret out = SECRET_INIT;
        struct error err = ERROR_INIT;

        assert_refused(ERROR_FAILED_PRECONDITION,
                       recovery_token_open(&changed, s->key, &out, &err));
    }
}

static void a_passphrase_of_another_length_is_refused(void **state)
{
    struct sample *s = *state;
    static const size_t lengths[] = { 1, 31, 33, 64 };

    for (size_t i = 0; i < ARRAY_LEN(lengths); i++) {
        auto_secret struct secret text = SECRET_INIT, out = SECRET_INIT;
        struct recovery_token token;
        struct error err = ERROR_INIT;

        assert_ok(secret_random(&text, lengths[i], &err));
        assert_ok(recovery_token_make(&s->certificate, &text, &token, &err));
        assert_refused(ERROR_FAILED_PRECONDITION, recovery_token_open(&token, s->key, &out, &err));
    }
}

static void the_json_comes_back_as_it_was(void **state)
{
    struct sample *s = *state;
    struct recovery_token back = { .cms_len = 0 };
    json_t *json = recovery_token_json(&s->token);

    assert_true(recovery_token_parse(json, &back));
    assert_memory_equal(&back, &s->token, sizeof(back));
    assert_string_equal(json_string_value(json_object_get(json, "type")), "tdvol-recovery");
    json_decref(json);
}

static json_t *repeated(char c, size_t n)
{
    auto_free char *text = malloc(n + 1);

    assert_non_null(text);
    for (size_t i = 0; i < n; i++)
        text[i] = c;
    text[n] = '\0';
    return json_string(text);
}

static void json_of_another_form_is_refused(void **state)
{
    struct sample *s = *state;
    const struct {
        const char *name;
        json_t *value;
    } changes[] = {
        { "type", json_string("luks2-keyring") },
        { "type", json_null() },
        { "keyslots", json_pack("[s]", "1") },
        { "keyslots", json_pack("[s,s]", "0", "0") },
        { "keyslots", json_array() },
        { "keyslots", json_string("0") },
        { "certificate", json_string("") },
        { "certificate", repeated('0', 64) },
        { "certificate", repeated('A', 64) },
        { "certificate", repeated('a', 62) },
        { "serial", json_string("") },
        { "serial", json_string("123") },
        { "serial", json_string("AB") },
        { "serial", repeated('1', 42) },
        { "cms", json_string("") },
        { "cms", json_string("AAAA\n") },
        { "cms", json_string("AAB=") },
        { "cms", json_string("A===") },
        { "cms", repeated('A', 4100) },
        { "cms", repeated('A', 1000000) },
        { "cms", json_integer(1) },
        { "more", json_string("") },
    };
    struct recovery_token out;

    for (size_t i = 0; i < ARRAY_LEN(changes); i++) {
        json_t *json = recovery_token_json(&s->token);

        assert_int_equal(json_object_set_new(json, changes[i].name, changes[i].value), 0);
        if (recovery_token_parse(json, &out))
            fail_msg("change %zu of %s was accepted", i, changes[i].name);
        json_decref(json);
    }
    assert_false(recovery_token_parse(NULL, &out));
}

static void a_key_that_is_none_is_named(void **state)
{
    struct sample *s = *state;
    auto_recovery_key struct recovery_key *key = NULL;
    auto_secret struct secret pem = SECRET_INIT;
    struct error err = ERROR_INIT;

    assert_ok(secret_alloc(&pem, strlen(s->made.pem), &err));
    memcpy(pem.bytes, s->made.pem, pem.len); /* the certificate in place of the key */
    assert_refused(ERROR_INVALID_ARGUMENT, recovery_key_read(&pem, NULL, NULL, &key, &err));
    assert_contains(err.text, "not a private key");
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_was_encrypted_comes_back_and_to_that_key_alone),
        cmocka_unit_test_setup_teardown(no_changed_byte_gives_another_passphrase, setup, teardown),
        cmocka_unit_test_setup_teardown(a_passphrase_of_another_length_is_refused, setup, teardown),
        cmocka_unit_test_setup_teardown(the_json_comes_back_as_it_was, setup, teardown),
        cmocka_unit_test_setup_teardown(json_of_another_form_is_refused, setup, teardown),
        cmocka_unit_test_setup_teardown(a_key_that_is_none_is_named, setup, teardown),
    };

    return RUN_TESTS(tests);
}
