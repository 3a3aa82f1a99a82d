/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "tests/sim/forge.h"

/*
 * CAs for fuzz targets. Their keys are always the same, so that a stored input means the same in each
 * run. An input is the part of a certificate or list that is signed ("to be signed"): the target
 * signs it, because the code behind the check of a signature must be reached. Functions end the
 * process when they fail.
 */

/* Made once for the process. Never freed: root, both PCK CAs and TCB signer. */
const struct sim_pki *authority_pki(void);

/* The key with this number. Owned by the caller. */
EVP_PKEY *authority_key(uint8_t number);

/* A PCK certificate below the platform CA, whose serial number ends with the given number. Owned by
 * the caller. */
X509 *authority_leaf(uint8_t number);

/* The list of an issuer which revokes serial numbers that end with 1 to n_revoked. In the arena. */
struct bytes_view authority_list(const struct sim_identity *issuer, unsigned n_revoked,
                                 struct arena *arena);

/* An owner's CA, an intermediate CA below it, a leaf below that, and a leaf below the first CA. Never
 * freed. */
const struct sim_identity *authority_owner(void);

/* DER of a certificate or list: what is to be signed, ecdsa-with-SHA256, the signature. In the
 * arena. */
struct bytes_view authority_seal(struct bytes_view to_be_signed, EVP_PKEY *key,
                                 struct arena *arena);

/* DER as PEM text ("CERTIFICATE"), appended to text, which has size bytes and is NUL-terminated. */
void authority_append_pem(struct bytes_view der, char *text, size_t size);

/* DER of a certificate. In the arena. */
struct bytes_view authority_der(const X509 *cert, struct arena *arena);

/* The part of a certificate's or list's DER that is signed. */
struct bytes_view authority_to_be_signed(struct bytes_view der);
