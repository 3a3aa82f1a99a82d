/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "master/key.h"

/*
 * The master key, wrapped by the transit engine of HashiCorp Vault or OpenBao: the broker has what the
 * engine encrypted, and asks it at the start for the plain key. The engine keeps the key that wraps it,
 * says who may use it, and writes down who did.
 * API: https://developer.hashicorp.com/vault/api-docs/secret/transit#decrypt-data
 */
struct vault_options {
    const char *url;     /* https://HOST:8200/v1/transit/decrypt/KEY */
    const char *ca_file; /* PEM; NULL: the system's CAs */
    const char *token;   /* a file, read at each try: an agent renews it */
    const char *wrapped; /* a file with "vault:v1:..." of the 32 bytes, or of their 64 hex digits */
};

/* INVALID_ARGUMENT names the option that is missing or wrong. */
MUST_USE bool vault_options_check(const struct vault_options *options, struct error *err);

/* UNAVAILABLE: Vault does not answer, is sealed itself, or refuses the token; try again later.
 * FAILED_PRECONDITION: what it answers is not the master key. */
MUST_USE bool vault_unwrap(const struct vault_options *options, struct secret *out,
                           struct error *err);
