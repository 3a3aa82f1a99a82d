/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "master/key.h"

/*
 * The master key as a resource of Trustee's Key Broker Service (KBS): the broker runs in a TD, proves that by
 * a quote, and gets the key encrypted to a P-256 key that the quote vouches for and that lives for this
 * exchange. Protocol 0.4.0, which is called RCAR there: request, challenge, attestation, response.
 * https://github.com/confidential-containers/trustee/blob/main/kbs/docs/kbs_attestation_protocol.md
 */
struct kbs_options {
    const char *url;      /* https://HOST[:PORT]/REPOSITORY/TYPE/TAG */
    const char *ca_file;  /* PEM; NULL: the system's CAs */
    const char *tsm_root; /* as in attester_options, likewise the next */
    const char *event_log;
};

/* INVALID_ARGUMENT names what is wrong with the address. */
MUST_USE bool kbs_options_check(const struct kbs_options *options, struct error *err);

/*
 * Takes half a minute at most, and twice that when the server forgets the session. UNAVAILABLE: the KBS does not answer, or does not give the key to this TD as
 * long as nobody changes a policy; or the machine has no quote at this time. FAILED_PRECONDITION: what it
 * answers is not its protocol or no master key, or this machine is no TD.
 */
MUST_USE bool kbs_fetch(const struct kbs_options *options, struct secret *out, struct error *err);
